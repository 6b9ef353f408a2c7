"""Two servers behind a balancer that sends every request to the other one."""

import asyncio
from itertools import cycle
from pathlib import Path

from tests.helpers.filled_collections import fill_database, unit_vectors
from tests.helpers.pictures import picture
from tests.helpers.processes import serving


def test_each_page_and_each_query_picture_works_on_the_other_server(
    environment: dict[str, str], tmp_path: Path
) -> None:
    asyncio.run(fill_database(environment["DATABASE_URL"], "b", "offline-v1", unit_vectors(100, 384, seed=1)))
    with serving(environment, tmp_path / "one.log") as one, serving(environment, tmp_path / "other.log") as other:
        sent = one.http.post("/api/query-images", params={"bucket": "b"}, content=picture(1))
        handle = sent.json()["query_image"]
        for parameters in ({"q": "a boat"}, {"query_image": handle}):
            expected = [image["id"] for image in one.all_images("/api/search", bucket="b", limit=30, **parameters)]
            assert len(set(expected)) == 100
            found: list[int] = []
            cursor: dict[str, str] = {}
            for server in cycle([other, one]):
                page = server.get("/api/search", bucket="b", limit=30, **parameters, **cursor)
                found += [image["id"] for image in page["images"]]
                if page["next_cursor"] is None:
                    break
                cursor = {"cursor": page["next_cursor"]}
            assert found == expected

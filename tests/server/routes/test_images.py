"""Lists of images and single images, over real HTTP."""

import pytest

from tests.helpers.processes import Server

pytestmark = pytest.mark.xdist_group("filled")


def test_pages_cover_a_list_in_order_without_repeating_or_skipping(filled_server: Server) -> None:
    image = filled_server.get("/api/images", bucket="b", limit=1)["images"][0]
    for path, parameters, total in (
        ("/api/images", {}, 23),
        ("/api/search", {"q": "some colours"}, 23),
        (f"/api/images/{image['id']}/similar", {}, 22),
    ):
        images = filled_server.all_images(path, limit=5, bucket="b", **parameters)
        assert len({image["id"] for image in images}) == len(images) == total
        order = [image["created_at" if path == "/api/images" else "score"] for image in images]
        assert order == sorted(order, reverse=True)


def test_images_are_found_by_their_ids_in_the_order_of_the_request(filled_server: Server) -> None:
    ids = [image["id"] for image in filled_server.get("/api/images", bucket="b", limit=3)["images"]][::-1]
    listed = filled_server.get("/api/images", bucket="b", ids=",".join(map(str, [*ids, 999_999])))
    assert [image["id"] for image in listed["images"]] == ids


@pytest.mark.parametrize("filters", [{}, {"folder": "none"}, {"min_width": 1}], ids=["all", "folder", "size"])
def test_a_page_around_an_image_continues_in_both_directions(filled_server: Server, filters: dict[str, str]) -> None:
    ids = [image["id"] for image in filled_server.get("/api/images", bucket="b", limit=200)["images"]]
    for middle in (ids[0], ids[11], ids[-1]):
        page = filled_server.get("/api/images", bucket="b", around=middle, limit=6, **filters)
        around = [image["id"] for image in page["images"]]
        assert middle in around
        previous, following = page["previous_cursor"], page["next_cursor"]
        while previous:
            page = filled_server.get("/api/images", bucket="b", cursor=previous, limit=4, **filters)
            around = [*(image["id"] for image in page["images"]), *around]
            previous = page["previous_cursor"]
        while following:
            page = filled_server.get("/api/images", bucket="b", cursor=following, limit=4, **filters)
            around += [image["id"] for image in page["images"]]
            following = page["next_cursor"]
        assert around == ([middle] if "folder" in filters else ids)


def test_a_page_around_an_unknown_image_is_a_404(filled_server: Server) -> None:
    response = filled_server.http.get("/api/images", params={"bucket": "b", "around": 999_999})
    assert response.status_code == 404


def test_a_single_image_has_its_metadata(filled_server: Server) -> None:
    image = filled_server.get("/api/images", bucket="b", limit=1)["images"][0]
    assert (image["width"], image["height"], image["bucket"]) == (48, 32, "b")
    details = filled_server.get(f"/api/images/{image['id']}", bucket="b")
    assert details["key"] == image["key"]
    assert "exif" in details

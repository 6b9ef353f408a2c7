"""`syncer tokens`, with a server that accepts the tokens."""

from pathlib import Path

import pytest

from tests.helpers.pictures import make_pictures, picture
from tests.helpers.processes import Syncer, serving


def test_a_token_is_shown_once_opens_what_it_may_and_is_revoked(
    syncer: Syncer, environment: dict[str, str], tmp_path: Path
) -> None:
    for bucket in ("mine", "yours"):
        make_pictures(tmp_path / bucket, 1)
        assert syncer("upload", tmp_path / bucket, "--bucket", bucket).status == 0
    writer = syncer("tokens", "add", "phone", "--bucket", "mine", "--write").stdout.strip()
    reader = syncer("tokens", "add", "guest", "--json").json
    assert (reader["bucket"], reader["writes"]) == (None, False)
    assert "READ_TOKEN" in syncer("tokens", "add", "other").stderr
    listed = syncer("tokens", "list")
    assert writer not in listed.stdout
    assert [line.split("  ")[:3] for line in listed.stdout.splitlines()] == [
        ["guest", "read", "all buckets"],
        ["other", "read", "all buckets"],
        ["phone", "read and write", "mine"],
    ]

    with serving(environment | {"READ_TOKEN": "a-token-of-the-settings"}, tmp_path / "log") as server:

        def add(bucket: str, token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            url = f"/api/images?bucket={bucket}&filename=a.png"
            return server.http.post(url, content=picture(7, (64, 64), "PNG"), headers=headers).status_code

        assert [add("mine", writer), add("yours", writer), add("mine", reader["token"])] == [201, 404, 403]
        headers = {"Authorization": f"Bearer {reader['token']}"}
        assert server.http.get("/api/images?bucket=yours", headers=headers).status_code == 200
        assert server.http.get("/api/images?bucket=yours").status_code == 401
        assert syncer("tokens", "revoke", "guest").status == 0
        assert server.http.get("/api/images?bucket=yours", headers=headers).status_code == 401
    used = {token["name"]: token["last_used_at"] for token in syncer("tokens", "list", "--json").json["tokens"]}
    assert used["phone"] is not None
    assert used["other"] is None


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["add", "phone", "--bucket", "nothing"], 1, "no collection 'nothing'"),
        (["add", "taken"], 1, "there is a token 'taken' already"),
        (["revoke", "nothing"], 1, "there is no token 'nothing'"),
        (["add"], 2, "NAME"),
        ([], 2, "ACTION"),
    ],
)
def test_a_mistake_is_reported(syncer: Syncer, arguments: list[str], status: int, message: str) -> None:
    if "taken" in arguments:
        assert syncer("tokens", "add", "taken").status == 0
    result = syncer("tokens", *arguments)
    assert result.status == status
    assert message.lower() in result.stderr.lower()

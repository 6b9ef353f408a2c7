"""Expiry and pruning of pictures to search for."""

from datetime import UTC, datetime, timedelta

from shared.db.pool import Database
from shared.sql import query_images

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_pictures_expire_and_pruning_keeps_those_that_expire_last(database: Database) -> None:
    for age in range(10):
        expires_at = NOW + timedelta(days=7 - age)
        handle = f"handle {age}"
        await database.run(query_images.save, "m", bytes([age]), [1.0, 0.0], handle=handle, expires_at=expires_at)
    assert await database.run(query_images.find, "handle 8", now=NOW) is None
    assert await database.run(query_images.prune, now=NOW, keep=100) == 3
    assert await database.run(query_images.prune, now=NOW, keep=4) == 3
    found = [await database.run(query_images.find, f"handle {age}", now=NOW) for age in range(10)]
    assert [each is not None for each in found] == [True] * 4 + [False] * 6


async def test_renewing_a_picture_extends_its_life(database: Database) -> None:
    await database.run(query_images.save, "m", b"d", [1.0, 0.0], handle="h", expires_at=NOW + timedelta(days=1))
    later = NOW + timedelta(days=30)
    renewed = await database.run(query_images.renew, "m", b"d", now=NOW, expires_at=later)
    assert renewed is not None
    assert renewed.expires_at == later
    assert await database.run(query_images.renew, "m", b"other", now=NOW, expires_at=later) is None

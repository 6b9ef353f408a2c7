"""Number of requests to the store, counted by a proxy in front of it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest_asyncio

from shared.db.pool import Database
from shared.stores.base import RESERVED_PREFIX
from tests.fakes.s3 import FaultyProxy, S3Server, s3_store
from tests.helpers.synced_folder import DELETE_ANY, World


@pytest_asyncio.fixture
async def world(s3: S3Server, proxy: FaultyProxy, tmp_path: Path, database: Database) -> AsyncIterator[World]:
    """A synced folder of ten pictures with derivatives; the proxy counts from here on."""
    bucket = f"bucket-{uuid4().hex[:8]}"
    async with AsyncExitStack() as stack:
        s3.make_bucket(bucket)
        world = await World.make(stack, tmp_path / "folder", database, s3_store(proxy.url, bucket))
        for number in range(10):
            world.write(f"{number % 3}/{number}.bmp", number)
        proxy.clear()
        await world.sync(derivatives=True)
        images = [r.key for r in proxy.requests if r.kind == "put" and not r.key.startswith(RESERVED_PREFIX)]
        assert len(images) == 10
        assert proxy.counts == {"put": 30}
        proxy.clear()
        yield world


async def test_unchanged_files_cost_no_request(world: World, proxy: FaultyProxy) -> None:
    await world.sync(derivatives=True, deletion=DELETE_ANY)
    world.write("0/0.bmp", 0)  # touched
    await world.sync(derivatives=True, deletion=DELETE_ANY)
    assert proxy.counts == {}


async def test_an_edit_is_one_upload(world: World, proxy: FaultyProxy) -> None:
    world.write("1/1.bmp", 100)
    await world.sync(derivatives=True)
    # One request deletes the thumbnail and the preview of the old content.
    assert proxy.counts == {"put": 3, "delete": 1}


async def test_a_renamed_file_is_copied_and_its_old_object_deleted(world: World, proxy: FaultyProxy) -> None:
    (world.folder / "1/1.bmp").rename(world.folder / "renamed.bmp")
    await world.sync(derivatives=True)
    # The head makes sure that no object of others is overwritten.
    assert proxy.counts == {"head": 1, "copy": 1, "delete": 1}


async def test_a_renamed_folder_costs_no_upload_and_one_deletion(world: World, proxy: FaultyProxy) -> None:
    (world.folder / "0").rename(world.folder / "album")
    await world.sync(derivatives=True)
    assert proxy.counts == {"head": 4, "copy": 4, "delete": 1}


async def test_a_copy_is_one_upload_without_derivatives(world: World, proxy: FaultyProxy) -> None:
    world.write("copy.bmp", 5)
    await world.sync(derivatives=True)
    assert proxy.counts == {"put": 1}


async def test_images_of_missing_files_are_deleted_with_one_request(world: World, proxy: FaultyProxy) -> None:
    for number in range(4):
        (world.folder / f"{number % 3}/{number}.bmp").unlink()
    await world.sync(derivatives=True, deletion=DELETE_ANY)
    assert proxy.counts == {"delete": 1}

"""A folder that is synced to a folder store."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest_asyncio

from shared.db.pool import Database
from shared.stores.folder import FolderStore
from tests.helpers.synced_folder import World


@pytest_asyncio.fixture
async def world(tmp_path: Path, database: Database) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield await World.make(stack, tmp_path / "folder", database, FolderStore(tmp_path / "buckets", "b"))

"""Sources of a collection: the folders that are synced to it, and its adopted bucket."""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from shared.db import migrate
from shared.db.pool import Connection, Database
from shared.models import Collection
from shared.sql import collections

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """The recorded files of one folder or bucket; ``id`` is 0 before its first run, when there are none."""

    database: Database
    collection: Collection
    id: int

    async def run(
        self,
        statement: Callable[Concatenate[Connection, Collection, int, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a statement of ``shared.sql`` on the source's records, in a transaction of its own."""
        return await self.database.run(statement, self.collection, self.id, *args, **kwargs)


def default_name(folder: Path) -> str:
    """Return the name of a folder's source unless the user chooses another."""
    return f"{socket.gethostname()}:{folder}"


def local_folder(name: str) -> Path | None:
    """Return the folder of this machine to which the default name *name* belongs, if it exists."""
    folder = Path(name.partition(":")[2])
    return folder if name == default_name(folder) and folder.is_dir() else None


async def find_source(database: Database, bucket: str, name: str) -> Source | None:
    """Return the source *name* for a dry run, which changes nothing; None if the bucket has no collection.

    Raises DatabaseError if migrations are pending, because a dry run applies none.
    """
    if not await database.run(migrate.is_migrated):
        return None
    collection = await database.run(collections.find, bucket)
    if collection is None:
        return None
    source_id = await database.run(collections.find_source, collection, name)
    return Source(database, collection, source_id or 0)

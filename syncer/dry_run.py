"""Steps of a dry run, for folders and buckets alike."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

from shared.db import migrate
from shared.db.pool import Connection
from shared.errors import SettingsError
from shared.models import Collection
from shared.sql import collections

Kind = Literal["new", "edited", "moved", "unchanged", "gone", "deleted", "unreadable"]


@dataclass(frozen=True)
class Step:
    """A change that a run would make to one file; ``detail`` is the old path of a move, or why a file is unreadable."""

    kind: Kind
    path: str
    detail: str = ""


class DryRun(Protocol):
    """A dry run of one folder or bucket; ``withheld`` is set after the last step."""

    bucket: str
    withheld: str

    def steps(self) -> AsyncIterator[Step]: ...


async def find_source(conn: Connection, bucket: str, source_name: str) -> tuple[Collection | None, int | None]:
    """Return the bucket's collection and the id of the source, None where they do not exist yet.

    Raises SettingsError if migrations are pending, because a dry run applies none.
    """
    pending = await migrate.pending(conn)
    if pending is None:
        return None, None
    if pending:
        raise SettingsError("the database has an older schema: run `syncer migrate` first")
    collection = await collections.find(conn, bucket)
    if collection is None:
        return None, None
    return collection, await collections.find_source(conn, collection, source_name)

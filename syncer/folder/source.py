"""The database's records of one folder."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from shared.db.pool import Connection, Database
from shared.models import Collection

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """A folder that is synced to a collection, by its id in the database."""

    database: Database
    collection: Collection
    id: int

    async def run(
        self,
        statement: Callable[Concatenate[Connection, Collection, int, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a statement of ``shared.sql.files`` on the source's records, in a transaction of its own."""
        return await self.database.run(statement, self.collection, self.id, *args, **kwargs)

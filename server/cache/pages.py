"""Pages of lists that were asked for before, shown again while nothing in the database has changed."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar

from server import metrics
from shared.db.pool import Connection, Database, is_one_session
from shared.sql import state

Found = TypeVar("Found", bound=tuple[Sequence[Any], Any])

MOST_IMAGES = 20_000  # in all pages together; about 1 kB each
# For so long nothing is kept, nor looked for, after somebody was seen to write: to ask would be for nothing.
REST = 1.0  # seconds


class KeptPages:
    """The pages that were found last in *database*, each for the state in which it was."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._pages: OrderedDict[Hashable, Any] = OrderedDict()
        self._images = 0
        self._rests_until = 0.0

    async def read(self, asked: Hashable, find: Callable[[Connection], Awaitable[Found]]) -> Found:
        """Return what *find* returns, a page's images and where they go on, or has returned in this very state.

        *asked* is all that this depends on but the state. As with ``Database.read``, a replica may answer.
        """

        async def look(conn: Connection) -> Found:
            # A pooler may ask one server for its state, and another one for the page.
            tries = is_one_session(conn) and time.monotonic() >= self._rests_until
            before = await state.now(conn) if tries else None
            if before is not None and (asked, before) in self._pages:
                metrics.pages.labels("kept").inc()
                self._pages.move_to_end((asked, before))
                kept: Found = self._pages[asked, before]
                return kept
            found = await find(conn)
            metrics.pages.labels("found").inc()
            if before is not None and await state.now(conn) == before:
                self._keep((asked, before), found)
            elif tries:
                self._rests_until = time.monotonic() + REST
            return found

        return await self.database.read(look)

    def _keep(self, key: Hashable, found: tuple[Sequence[Any], Any]) -> None:
        if key not in self._pages:
            self._pages[key] = found
            self._images += _size(found)
        while self._images > MOST_IMAGES:
            _, forgotten = self._pages.popitem(last=False)
            self._images -= _size(forgotten)


def _size(found: tuple[Sequence[Any], Any]) -> int:
    # A page without images takes memory, too.
    return len(found[0]) + 1

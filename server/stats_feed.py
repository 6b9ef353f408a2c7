"""Live progress: one look at the database per collection and second, however many watch."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from sse_starlette import ServerSentEvent

from server import metrics
from shared import collection_status, factory
from shared.db.pool import Connection, Database
from shared.errors import ServiceError
from shared.models import Collection
from shared.sql import collections

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds


@dataclass
class _Channel:
    """One collection that is watched. ``listeners`` get each new event; slow ones get the newest, not all."""

    task: "asyncio.Task[None]"
    listeners: set["asyncio.Queue[bytes]"] = field(default_factory=set)
    latest: bytes = b""


class StatsFeed:
    """Hands each change of a collection's figures to all who listen."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channels: dict[str, _Channel] = {}

    async def current(self, collection: Collection) -> dict[str, Any]:
        """Return the collection's figures as clients see them."""
        return await self._database.read(_read, collection)

    async def listen(self, collection: Collection) -> AsyncIterator[bytes]:
        """Yield the figures as an event named ``stats``, at once and whenever they change."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        channel = self._channels.get(collection.bucket)
        if channel is None:
            channel = self._channels[collection.bucket] = _Channel(asyncio.create_task(self._watch(collection)))
        channel.listeners.add(queue)
        metrics.listeners.inc()
        if channel.latest:
            queue.put_nowait(channel.latest)
        try:
            while True:
                yield await queue.get()
        finally:
            channel.listeners.discard(queue)
            metrics.listeners.dec()
            if not channel.listeners and self._channels.get(collection.bucket) is channel:
                del self._channels[collection.bucket]
                channel.task.cancel()

    async def close(self) -> None:
        """Stop watching."""
        for channel in self._channels.values():
            channel.task.cancel()

    async def _watch(self, collection: Collection) -> None:
        async def current(conn: Connection) -> dict[str, Any] | None:
            # While somebody watches, it can be switched to another model, or dropped.
            found = await collections.find(conn, collection.bucket)
            return await _read(conn, found) if found else None

        while True:
            try:
                state = await self._database.read(current)
            except (ServiceError, psycopg.Error) as exc:
                log.info("no figures of %s: %s", collection.bucket, exc)
            else:
                if state:
                    self._tell(self._channels[collection.bucket], state)
            await asyncio.sleep(INTERVAL)

    @staticmethod
    def _tell(channel: _Channel, state: dict[str, Any]) -> None:
        event = ServerSentEvent(json.dumps(state), event="stats").encode()
        if event == channel.latest:
            return
        channel.latest = event
        for queue in channel.listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)


async def _read(conn: Connection, collection: Collection) -> dict[str, Any]:
    return (await collection_status.read(conn, collection, factory.model_price(collection.model))).as_json()

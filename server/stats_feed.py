"""Live progress of collections: one query per watched collection and second, however many clients listen."""

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
    """A watched collection. Each listener's queue holds only the newest event, so slow listeners skip some."""

    task: "asyncio.Task[None]"
    listeners: set["asyncio.Queue[bytes]"] = field(default_factory=set)
    latest: bytes = b""


class StatsFeed:
    """Publishes each change of a collection's statistics to its listeners."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channels: dict[str, _Channel] = {}

    async def current(self, collection: Collection) -> dict[str, Any]:
        """Return the collection's statistics as JSON values."""
        return await self._database.read(_read, collection)

    async def listen(self, collection: Collection) -> AsyncIterator[bytes]:
        """Yield the statistics as server-sent events named ``stats``, at once and on every change."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1)
        channel = self._channels.get(collection.bucket)
        if channel is None:
            channel = self._channels[collection.bucket] = _Channel(asyncio.create_task(self._watch(collection.bucket)))
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

    async def _watch(self, bucket: str) -> None:
        while True:
            try:
                stats = await self._database.read(_read_bucket, bucket)
            except (ServiceError, psycopg.Error) as exc:
                log.info("no statistics of %s: %s", bucket, exc)
            else:
                if stats:
                    _publish(self._channels[bucket], stats)
            await asyncio.sleep(INTERVAL)


def _publish(channel: _Channel, stats: dict[str, Any]) -> None:
    event = ServerSentEvent(json.dumps(stats), event="stats").encode()
    if event == channel.latest:
        return
    channel.latest = event
    for queue in channel.listeners:
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(event)


async def _read_bucket(conn: Connection, bucket: str) -> dict[str, Any] | None:
    # The collection may have been dropped or switched to another model since the last event.
    collection = await collections.find(conn, bucket)
    return await _read(conn, collection) if collection else None


async def _read(conn: Connection, collection: Collection) -> dict[str, Any]:
    return (await collection_status.read(conn, collection, factory.model_price(collection.model))).as_json()

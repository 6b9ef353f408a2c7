"""Live progress of collections: one query per collection and second, however many clients listen."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from sse_starlette import ServerSentEvent

from server import metrics
from server.cache.single_flight import SingleFlightCache
from shared import collection_status, factory
from shared.db.pool import Connection, Database
from shared.errors import ServiceError
from shared.models import Collection
from shared.sql import collections

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds between two reads for one listener, and lifetime of what all listeners share
MAX_COLLECTIONS = 10_000


class StatsFeed:
    """Statistics of collections, on request and as streams of changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._events: SingleFlightCache[str, bytes] = SingleFlightCache(max_entries=MAX_COLLECTIONS, ttl=INTERVAL)

    async def current(self, collection: Collection) -> dict[str, Any]:
        """Return the collection's statistics as JSON values."""
        return await self._database.read(_read, collection)

    async def listen(self, collection: Collection) -> AsyncIterator[bytes]:
        """Yield the statistics as server-sent events named ``stats``, at once and on every change."""
        latest = b""
        with metrics.listeners.track_inprogress():
            while True:
                event = await self._events.get(collection.bucket, self._event, collection.bucket)
                if event and event != latest:
                    latest = event
                    yield event
                await asyncio.sleep(INTERVAL)

    async def _event(self, bucket: str) -> bytes:
        """Return the event with the current statistics, empty if they cannot be read."""
        try:
            stats = await self._database.read(_read_bucket, bucket)
        except (ServiceError, psycopg.Error) as exc:
            log.info("no statistics of %s: %s", bucket, exc)
            return b""
        return ServerSentEvent(json.dumps(stats), event="stats").encode() if stats else b""


async def _read_bucket(conn: Connection, bucket: str) -> dict[str, Any] | None:
    # The collection may have been dropped or switched to another model since the last event.
    collection = await collections.find(conn, bucket)
    return await _read(conn, collection) if collection else None


async def _read(conn: Connection, collection: Collection) -> dict[str, Any]:
    return (await collection_status.read(conn, collection, factory.model_price(collection.model))).as_json()

"""The target of a sync."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from shared.db.pool import Database
from shared.images.worker_pool import DecoderPool
from shared.ingest import Ingester
from shared.models import Collection
from shared.object_deletion import delete_pending_objects
from shared.retry import RetryPolicy
from shared.sql import collections
from shared.stores.base import ObjectStore
from syncer.progress import Progress
from syncer.source import Source


@dataclass(frozen=True)
class SyncTarget:
    """A collection and its store, with the services that each upload uses.

    Call ``notify_embedding`` when an image was added.
    """

    collection: Collection
    store: ObjectStore
    database: Database
    decoder: DecoderPool
    retry: RetryPolicy
    progress: Progress
    notify_embedding: Callable[[], None] = lambda: None

    @cached_property
    def ingester(self) -> Ingester:
        """Adds images; shared, so that concurrent uploads share transactions."""
        return Ingester(self.database, self.store, self.collection)

    async def ensure_source(self, name: str) -> Source:
        """Return the collection's source *name*; create it if it is new."""
        source_id = await self.database.run(collections.ensure_source, self.collection, name)
        return Source(self.database, self.collection, source_id)

    async def delete_pending_objects(self) -> None:
        """Delete the objects that are due and that no image references."""
        await self.retry.run(delete_pending_objects, self.database, self.store, self.collection)

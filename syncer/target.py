"""The target of a sync."""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Unpack

from shared.db.pool import Connection, Database
from shared.errors import ImageRefused
from shared.images import Examined, examine
from shared.images.worker_pool import DecoderPool
from shared.ingest import Ingester, IngestOptions
from shared.models import Collection, Job, NewImage
from shared.object_deletion import delete_pending_objects
from shared.retry import RetryPolicy
from shared.sql import collections
from shared.stores.base import ObjectStore
from syncer.embedding import EmbeddingRun
from syncer.progress import Progress
from syncer.source import Source


@dataclass(frozen=True)
class SyncTarget:
    """A collection and its store, with the services that each upload uses.

    With ``embedding``, images are embedded while others are added.
    """

    collection: Collection
    store: ObjectStore
    database: Database
    decoder: DecoderPool
    retry: RetryPolicy
    progress: Progress
    embedding: EmbeddingRun | None = None

    @cached_property
    def ingester(self) -> Ingester:
        """Adds images; shared, so that concurrent uploads share transactions."""
        return Ingester(self.database, self.store, self.collection)

    async def examine(self, path: Path, *, derivatives: bool = True, sidecar: bytes = b"") -> Examined:
        """Examine an image file for ``add_image``, with the model's input if that runs here. Raises ImageRefused.

        An image with a *sidecar* comes without the model's input, and is decoded again when it is embedded.
        """
        if not sidecar and self.embedding and (examination := self.embedding.examination):
            # The model needs the image at full size, which may take too much memory where a thumbnail does not.
            with suppress(ImageRefused):
                return await examination(path, derivatives)
        return await self.decoder.run(examine, path, derivatives=derivatives, sidecar=sidecar)

    async def add_image(
        self,
        image: NewImage,
        path: Path,
        examined: Examined,
        *,
        count: Literal["uploaded", "adopted"],
        **options: Unpack[IngestOptions],
    ) -> None:
        """Add an image like ``Ingester.add``, count it, and wait for its vector if its model input is known.

        So a file is decoded only once, and callers that limit how many images they add at a time limit the memory too.
        """
        jobs: list[Job] = []
        before_commit = options.get("before_commit")

        async def claim(conn: Connection, image_id: int) -> None:
            if before_commit:
                await before_commit(conn, image_id)
            if self.embedding and examined.model_input:
                jobs[:] = await self.embedding.claim(conn, image_id)

        options |= {"thumbnail": examined.thumbnail, "preview": examined.preview, "before_commit": claim}
        await self.ingester.add(image, path, **options)
        self.progress.count(count)
        if self.embedding:
            self.embedding.notify()
            for job in jobs:
                await self.embedding.embed(job, examined.model_input)

    async def ensure_source(self, name: str) -> Source:
        """Return the collection's source *name*; create it if it is new."""
        source_id = await self.database.run(collections.ensure_source, self.collection, name)
        return Source(self.database, self.collection, source_id)

    async def delete_pending_objects(self) -> None:
        """Delete the objects that are due and that no image references."""
        await self.retry.run(delete_pending_objects, self.database, self.store, self.collection)

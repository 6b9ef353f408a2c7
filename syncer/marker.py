"""The marker object, by which a sync recognises the bucket of its collection.

An emptied bucket and a disk that is not mounted look like a new one. Uploading there would hide the loss.
"""

import hashlib
import json
from contextlib import suppress

from shared.db.pool import Database
from shared.errors import ObjectExists, ObjectMissing, StoreError
from shared.models import Collection
from shared.object_keys import MARKER
from shared.sql import collections
from shared.stores.base import CACHE_IMAGE, ObjectStore


async def write_marker(database: Database, store: ObjectStore, collection: Collection) -> None:
    """Store the marker, unless the bucket has it."""
    if not collection.marked:
        body = json.dumps({"bucket": collection.bucket}).encode()
        digest = hashlib.sha256(body).hexdigest()
        options = {"content_type": "application/json", "cache_control": CACHE_IMAGE, "sha256": digest}
        with suppress(ObjectExists):
            await store.put(MARKER, body, **options, overwrite=False)
        await database.run(collections.set_marked, collection)


async def check_marker(store: ObjectStore, collection: Collection) -> None:
    """Raise StoreError if the bucket has lost its marker."""
    if collection.marked:
        try:
            await store.head(MARKER)
        except ObjectMissing as exc:
            raise StoreError(
                f"bucket {collection.bucket!r} has lost {MARKER}: was it emptied, or is its disk not mounted?"
                f" `syncer verify --bucket {collection.bucket}` lists what is missing, --repair uploads it again",
                transient=False,
            ) from exc

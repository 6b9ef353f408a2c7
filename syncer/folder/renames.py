"""Renamed files: the image's object is copied inside the bucket, and its row and vector stay."""

import os
from contextlib import suppress
from pathlib import Path

from shared.db.pool import Connection
from shared.errors import DatabaseError, ImageRefused, ObjectMissing
from shared.sql import files, pending_objects
from shared.sql.files import MovableImage
from shared.sql.pending_objects import UploadIntent
from shared.stores.base import ObjectStore, object_sha256
from syncer.folder.actions import Move
from syncer.folder.scan import LocalFile, digest, has_exact_name
from syncer.source import Source
from syncer.target import SyncTarget


class _Stale(Exception):
    """The image or its object has changed since the move was planned."""


async def move_image(source: Source, target: SyncTarget, move: Move) -> bool:
    """Copy the image's object to the key of its new path, and assign the image to the file there.

    Return False and change nothing if the image or its object has changed or is gone, or if an object that is not ours
    has the new key. Raises ImageRefused if the store cannot keep the key.
    """
    intent = UploadIntent(
        move.file.path, move.image.sha256, derivatives=False, source=source.id, replaces=move.replaces
    )
    existing = await target.ingester.begin(intent)
    store = target.store
    copied = False
    try:
        if not move.replaces and not await _is_free(store, intent.key, existing.leftovers):
            raise _Stale
        copied = True
        await store.copy(move.image.key, intent.key)
        await source.database.run(_commit, source, move, intent)
    except Exception as exc:
        stored = copied and not isinstance(exc, (ImageRefused, ObjectMissing))
        with suppress(DatabaseError):  # the intent becomes due at its deadline
            await source.database.run(pending_objects.abandon_upload, source.collection, intent, stored=stored)
        if isinstance(exc, (_Stale, ObjectMissing)):
            return False
        raise
    return True


async def _is_free(store: ObjectStore, key: str, leftovers: frozenset[bytes]) -> bool:
    try:
        found = await store.head(key)
    except ObjectMissing:
        return True
    return bool(leftovers) and await object_sha256(store, found) in {content.hex() for content in leftovers}


async def _commit(conn: Connection, source: Source, move: Move, intent: UploadIntent) -> None:
    if not await pending_objects.complete_uploads(conn, source.collection, [intent]):
        raise _Stale
    path, stat = move.file.path, move.file.stat
    if not await files.move(conn, source.collection, source.id, move.image, path=path, stat=stat):
        raise _Stale


def is_vacated(folder: Path, image: MovableImage, file: LocalFile, *, only_missing: bool) -> bool:
    """Return whether the image's own file is missing or, unless *only_missing*, has other content than *file*."""
    former = folder / image.path
    try:
        status = former.stat()
        # Where a disk ignores case or accents, the old name of a file still leads to it.
        if os.path.samestat(status, file.absolute.stat()) and not has_exact_name(folder, image.path):
            return True
        if only_missing or (status.st_size, status.st_mtime_ns, status.st_ctime_ns) == image.stat:
            return False
        return status.st_size != file.size or digest(former) != image.sha256
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ImageRefused):
        return False  # the content is unknown

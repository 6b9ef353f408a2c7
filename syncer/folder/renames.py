"""Files that changed their names: their images are copied inside the bucket, and keep their rows and vectors."""

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path

from shared.db.pool import Connection, Database
from shared.errors import DatabaseError, ImageRefused, ObjectMissing
from shared.models import Collection
from shared.sql import files, pending_objects
from shared.sql.files import Copy, Tombstone
from shared.sql.pending_objects import UploadIntent
from shared.stores.base import RESERVED_PREFIX, ObjectStore, object_sha256
from syncer.folder.scan import LocalFile, digest, spelled

# Where an image waits whose name another file has taken, until the file is met that has its content now. No file can
# have such a path, so that to the next run it is one more image whose file is gone.
PARKED = RESERVED_PREFIX + "moving/"


class _Changed(Exception):
    """The image is not what it was when it was looked up."""


async def move(
    database: Database,
    store: ObjectStore,
    collection: Collection,
    source: int,
    copy: Copy,
    *,
    path: str,
    stat: tuple[int, int, int],
    replaces: bool,
) -> bool:
    """Copy the image's object to the key *path*, and make the image that of the source's file *path*.

    With *replaces*, the object under that key is the source's own and is written over. False, with nothing done, when
    the image or its object has changed or is gone, or somebody else's object lies there. Raises ImageRefused when the
    store cannot keep the key.
    """
    note = UploadIntent(path, copy.sha256, derivatives=False)
    [found] = await database.run(pending_objects.record_intents, collection=collection, notes=[note], source=source)
    copied = False
    try:
        ours = {content.hex() for content in found.leftovers}
        if not replaces and not await _is_free(store, path, ours):
            raise _Changed
        copied = True
        await store.copy(copy.key, path)
        await database.run(_commit, collection, source, copy, note, stat)
    except Exception as exc:
        stored = copied and not isinstance(exc, (ImageRefused, ObjectMissing))
        with contextlib.suppress(DatabaseError):  # then the note becomes due by itself
            await database.run(pending_objects.abandon_upload, collection=collection, note=note, stored=stored)
        if isinstance(exc, (_Changed, ObjectMissing)):
            return False
        raise
    return True


async def _is_free(store: ObjectStore, key: str, ours: set[str]) -> bool:
    try:
        found = await store.head(key)
    except ObjectMissing:
        return True
    return bool(ours) and await object_sha256(store, found) in ours


async def _commit(
    conn: Connection, collection: Collection, source: int, copy: Copy, note: UploadIntent, stat: tuple[int, int, int]
) -> None:
    if await pending_objects.complete_uploads(conn, collection, [note]) == [False] or not await files.move(
        conn, collection, source, copy, path=note.key, stat=stat, now=datetime.now(UTC)
    ):
        raise _Changed


def is_free(folder: Path, former: Copy | Tombstone, file: LocalFile) -> bool:
    """Whether the content of *file*, which is that of *former*, is not in the former's own file any more."""
    assert former.path is not None
    absolute = folder / former.path
    try:
        status = absolute.stat()
        # Where case or accents do not matter to the disk, the old name of a file still leads to it.
        if os.path.samestat(status, file.absolute.stat()) and not spelled(folder, former.path):
            return True
        if (status.st_size, status.st_mtime_ns, status.st_ctime_ns) == former.stat:
            return False
        return status.st_size != file.size or digest(absolute) != former.sha256
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ImageRefused):
        return False  # nobody knows

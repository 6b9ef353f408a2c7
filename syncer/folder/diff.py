"""Comparison of a folder's listing with the files that the database has on record. Neither is in memory as a whole."""

import asyncio
from collections.abc import AsyncIterator
from itertools import islice

from shared.errors import RETRIED_REASONS
from shared.models import KnownFile
from shared.sql import files
from syncer.batches import BATCH_SIZE
from syncer.folder.options import FolderOptions
from syncer.folder.scan import Entry, LocalFile, Skipped, Unlisted, scan
from syncer.source import Source

Pair = tuple[Entry | None, KnownFile | None]


async def list_files(options: FolderOptions, at: str = "") -> AsyncIterator[Entry]:
    """Yield the results of ``scan`` without blocking the event loop."""
    entries = scan(options.folder, options.selection, at)
    while batch := await asyncio.to_thread(lambda: list(islice(entries, BATCH_SIZE))):
        for entry in batch:
            yield entry


async def list_known(source: Source | None, at: str = "") -> AsyncIterator[KnownFile]:
    """Yield the recorded files at and below the path *at*, by path."""
    last = ""
    while source and (rows := await source.run(files.list_known, after=last, limit=4 * BATCH_SIZE, at=at)):
        for row in rows:
            yield row
        last = rows[-1].path


async def merge(listed: AsyncIterator[Entry], known: AsyncIterator[KnownFile]) -> AsyncIterator[Pair]:
    """Yield each path's file and record, in order; None stands for one that does not exist.

    Both inputs come by path in code point order and are read once. Records of skipped files and below a folder that was
    not listed are left out, because their files may exist.
    """
    file = await anext(listed, None)
    row = await anext(known, None)
    unlisted: str | None = None
    while file or row:
        if row and (file is None or row.path < file.path):
            if unlisted is None or not row.path.startswith(unlisted):
                yield None, row
            row = await anext(known, None)
        elif isinstance(file, Unlisted | Skipped):
            yield file, None
            if isinstance(file, Unlisted) or file.path.endswith("/"):
                unlisted = file.path
            elif row and row.path == file.path:
                row = await anext(known, None)
            file = await anext(listed, None)
        elif file:
            same = row if row and row.path == file.path else None
            yield file, same
            file = await anext(listed, None)
            if same:
                row = await anext(known, None)


def is_unchanged(file: LocalFile, known: KnownFile) -> bool:
    """Return whether the file is certainly as recorded, and needs nothing."""
    # A ctime of 0 is unknown: two of them are not equal.
    if not file.ctime_ns or file.stat != (known.size, known.mtime_ns, known.ctime_ns):
        return False
    if known.reason is not None:
        return known.reason not in RETRIED_REASONS
    if known.removed:
        return True
    return known.image_id is not None and known.sha256 is not None and file.sidecar_state == known.sidecar

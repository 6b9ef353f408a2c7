"""Decides what a sync has to do, from what lies in the folder and what is known of it; does none of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.errors import RETRIED_REASONS
from shared.models import KnownFile
from syncer.folder.scan import LocalFile, Unlisted


@dataclass(frozen=True)
class Upload:
    """A file that is not known yet, or was lost since, or differs from what is known in size or times.

    Whether a known file was edited or only touched is seen from its content.
    """

    file: LocalFile
    known: KnownFile | None


@dataclass(frozen=True)
class Keep:
    """A file that is as it was; ``known`` says what became of it."""

    known: KnownFile


@dataclass(frozen=True)
class Gone:
    """A known file that is not in the folder any more."""

    known: KnownFile


@dataclass(frozen=True)
class Report:
    """Something that could not be looked at."""

    unlisted: Unlisted


Action = Upload | Keep | Gone | Report


async def plan(files: AsyncIterator[LocalFile | Unlisted], known: AsyncIterator[KnownFile]) -> AsyncIterator[Action]:
    """Yield one action per path, in order. Both inputs come by path in code point order, and are read once.

    What is known below a folder that could not be listed gets no action: nobody knows whether it is gone.
    """
    file = await anext(files, None)
    row = await anext(known, None)
    unlisted: str | None = None
    while file or row:
        if row and (file is None or row.path < file.path):
            if unlisted is None or not row.path.startswith(unlisted):
                yield Gone(row)
            row = await anext(known, None)
        elif isinstance(file, Unlisted):
            yield Report(file)
            unlisted = file.path
            file = await anext(files, None)
        elif file:
            same = row if row and row.path == file.path else None
            yield _judge(file, same)
            file = await anext(files, None)
            if same:
                row = await anext(known, None)


def _judge(file: LocalFile, known: KnownFile | None) -> Action:
    # Two times that are not known are not equal times.
    if known is None or not file.ctime_ns or file.stat != (known.size, known.mtime_ns, known.ctime_ns):
        return Upload(file, known)
    settled = known.image_id is not None or known.removed or known.reason is not None
    return Keep(known) if settled and known.reason not in RETRIED_REASONS else Upload(file, known)

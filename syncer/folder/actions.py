"""Actions of a plan: what a sync does with each file."""

from dataclasses import dataclass

from shared.errors import ImageRefused
from shared.models import KnownFile
from shared.sql.files import FileTimes, MovableImage
from syncer.dry_run import Step
from syncer.folder.scan import LocalFile


@dataclass(frozen=True)
class Unchanged:
    """A file that is as recorded; ``known.reason`` tells why an earlier run rejected it."""

    known: KnownFile


@dataclass(frozen=True)
class Touch:
    """A file with new times and unchanged content."""

    file: LocalFile


@dataclass(frozen=True)
class UpdateMetadata:
    """A file with unchanged content whose sidecar is new, has changed or is gone."""

    file: LocalFile
    image_id: int


@dataclass(frozen=True)
class Upload:
    """A file that is new, or whose content has changed."""

    file: LocalFile
    known: KnownFile | None

    @property
    def is_edit(self) -> bool:
        return self.known is not None and (self.known.image_id is not None or self.known.removed)

    @property
    def replaces(self) -> bool:
        """True if the object under the file's key belongs to the same file."""
        return self.known is not None and self.known.image_id is not None


@dataclass(frozen=True)
class Move:
    """A file with the content of an image whose own file no longer has it.

    With ``replaces``, the file had another image until now.
    """

    file: LocalFile
    known: KnownFile | None
    image: MovableImage
    replaces: bool


@dataclass(frozen=True)
class KeepRemoved:
    """A file whose content was deleted through the API."""

    file: LocalFile
    sha256: bytes


@dataclass(frozen=True)
class Reject:
    """A path that cannot be read or used; ``stat`` is None if not even the listing could read it."""

    path: str
    refusal: ImageRefused
    stat: FileTimes | None = None


@dataclass(frozen=True)
class Skip:
    """An entry that is no image file; ``kind`` says what it is."""

    path: str
    kind: str


@dataclass(frozen=True)
class Delete:
    """A missing file whose image is deleted."""

    path: str


@dataclass(frozen=True)
class Forget:
    """A missing file that has no image, or whose image does not belong to this source alone."""

    path: str


@dataclass(frozen=True)
class Missing:
    """A missing file whose image stays."""

    path: str


FileAction = Touch | UpdateMetadata | Upload | Move | KeepRemoved
Action = Unchanged | FileAction | Reject | Skip | Delete | Forget | Missing


def as_step(action: Action) -> Step:
    """Return the action as a dry run prints it."""
    match action:
        case Unchanged(known) if known.reason:
            return Step("unreadable", known.path, known.reason)
        case Unchanged(known):
            return Step("unchanged", known.path)
        case Touch(file) | KeepRemoved(file):
            return Step("unchanged", file.path)
        case UpdateMetadata(file):
            return Step("described", file.path)
        case Upload(file):
            return Step("edited" if action.is_edit else "new", file.path)
        case Move(file):
            return Step("moved", file.path, action.image.path)
        case Reject(path, refusal):
            return Step("unreadable", path, str(refusal))
        case Skip(path, kind):
            return Step("skipped", path, kind)
        case Delete(path):
            return Step("deleted", path)
        case Forget(path) | Missing(path):
            return Step("gone", path)

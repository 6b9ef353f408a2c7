"""What can go wrong, and whose fault it is.

    ImageBrowserError
    ├── SettingsError          a setting or an argument is wrong: nothing was started
    ├── ImageRefused           this image's fault: it is reported by name, the rest goes on
    ├── ModelChanged           a collection has got vectors of another model meanwhile
    └── ServiceError           a service's fault: never counted against an image
        ├── StoreError         the object store
        │   ├── ObjectMissing  there is no such key
        │   ├── ObjectLocked   it lies in an archive, and cannot be read now
        │   └── ObjectExists   the key is taken, and was not to be overwritten
        ├── ModelError         the embedding model or the service that runs it
        └── DatabaseError      PostgreSQL

Adapters translate what their libraries raise into these, ``from`` the original. A message names
the thing, its value and the remedy.
"""

from enum import StrEnum


class ImageBrowserError(Exception):
    """Anything that this program reports in one sentence, without a traceback."""


class SettingsError(ImageBrowserError):
    """A setting or an argument that cannot be used; the message lists every problem found."""


class Reason(StrEnum):
    """Why an image cannot be had or cannot be embedded; shown to people and counted by ``syncer status``."""

    EMPTY = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED = "unsupported_format"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    DECODE_TIMEOUT = "decode_timeout"
    DECODE_MEMORY = "decode_memory"
    CHANGED = "changed_while_read"
    UNREADABLE = "unreadable"
    KEY_INVALID = "key_invalid"
    KEY_TAKEN = "key_taken"
    OBJECT_MISSING = "object_missing"
    MODEL_REFUSED = "refused_by_model"
    BAD_VECTOR = "bad_vector"


# A file refused for one of these is retried by every sync, even if it did not change: the cause may be elsewhere.
RETRIED_REASONS = frozenset({Reason.UNREADABLE, Reason.CHANGED, Reason.KEY_TAKEN, Reason.KEY_INVALID})


class ImageRefused(ImageBrowserError):
    """The image is at fault: *reason* is what gets counted, *detail* is what a person reads.

    ``final`` says that trying the same bytes again cannot help.
    """

    def __init__(self, reason: Reason, detail: str, *, final: bool = True) -> None:
        # Pickled by these arguments, for it is raised in decoding workers too.
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.final = final

    def __str__(self) -> str:
        return self.detail


class ModelChanged(ImageBrowserError):
    """A collection's vectors are those of another model than what was read before: read it again and start over."""


class ServiceError(ImageBrowserError):
    """A service is at fault. ``transient`` says that the same call may succeed later.

    ``retry_after`` is the number of seconds that the service asked to wait, if it did.
    """

    def __init__(self, message: str, *, transient: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.transient = transient
        self.retry_after = retry_after


class StoreError(ServiceError):
    """The object store refused or could not be reached."""


class ObjectMissing(StoreError):
    """There is no object under this key."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=False)


class ObjectLocked(StoreError):
    """The object lies in an archive: it cannot be read before somebody has it restored."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=False)


class ObjectExists(StoreError):
    """An object lies under this key already, and ``overwrite=False`` was asked for."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=False)


class ModelError(ServiceError):
    """The embedding model, or the service that runs it, refused or could not be reached."""


class DatabaseError(ServiceError):
    """PostgreSQL refused or could not be reached."""

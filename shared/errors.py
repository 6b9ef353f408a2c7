"""Exceptions, by cause.

    ImageBrowserError
    ├── SettingsError          wrong setting or argument; nothing was started
    ├── ImageRefused           unusable image; it is reported by name and the others continue
    ├── ModelChanged           the collection switched to another model in the meantime
    └── ServiceError           outage or refusal of a service; never counted against an image
        ├── StoreError         object store
        │   ├── ObjectMissing  no object under this key
        │   ├── ObjectLocked   archived object, which cannot be read now
        │   └── ObjectExists   key taken, and overwriting was not allowed
        ├── ModelError         embedding model or the service that runs it
        └── DatabaseError      PostgreSQL

Adapters translate exceptions of their libraries into these, with ``from``. A message names the thing, its value and
the remedy.
"""

from enum import StrEnum


class ImageBrowserError(Exception):
    """Base class of errors that are reported in one sentence, without a traceback."""


class SettingsError(ImageBrowserError):
    """Unusable setting or argument; the message lists every problem."""


class Reason(StrEnum):
    """Reason why an image cannot be stored or embedded, as ``syncer failed`` and ``syncer status`` show it."""

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


# Every sync retries files that failed for one of these reasons, changed or not: the cause may lie outside the file.
RETRIED_REASONS = frozenset({Reason.UNREADABLE, Reason.CHANGED, Reason.KEY_TAKEN, Reason.KEY_INVALID})


class ImageRefused(ImageBrowserError):
    """Unusable image: *reason* is counted, *detail* is shown to people.

    ``final`` means that retrying the same bytes cannot help.
    """

    def __init__(self, reason: Reason, detail: str, *, final: bool = True) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.final = final


class ModelChanged(ImageBrowserError):
    """The collection switched to another model since it was read: read it again and start over."""


class ServiceError(ImageBrowserError):
    """Failure of a service. ``transient`` means that the same call may succeed later.

    ``retry_after`` is the wait in seconds that the service demands, if any.
    """

    def __init__(self, message: str, *, transient: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.transient = transient
        self.retry_after = retry_after


class StoreError(ServiceError):
    """The object store refused the request or is unavailable."""


class ObjectMissing(StoreError):
    """No object under this key."""


class ObjectLocked(StoreError):
    """Archived object, which must be restored before it can be read."""


class ObjectExists(StoreError):
    """The key is taken, and the call had ``overwrite=False``."""


class ModelError(ServiceError):
    """The embedding model, or the service that runs it, refused the request or is unavailable."""


class DatabaseError(ServiceError):
    """PostgreSQL refused the request or is unavailable."""

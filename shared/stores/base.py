"""The ObjectStore protocol.

Its adapters are ``folder`` (directories on this machine) and ``s3`` (Cloudflare R2 and any S3 service). The contract
suite ``tests/contract/test_stores.py`` runs on both.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from shared.errors import ImageRefused, Reason

# Prefix of everything that we store in a bucket beside the images.
RESERVED_PREFIX = ".image-browser/"

MAX_KEY_BYTES = 1024  # of UTF-8, in S3 and R2

# For keys whose content can change, such as edited photos.
CACHE_IMAGE = "public, max-age=3600"
# For keys that contain the hash of their content.
CACHE_IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class StoredObject:
    """Attributes of one object.

    ``etag`` changes with the bytes and has no other meaning. ``sha256``, ``content_type`` and ``cache_control`` are
    None in a listing, and when another program stored the object without them.
    """

    key: str
    size: int
    modified: datetime
    etag: str

    sha256: str | None = None  # hex
    content_type: str | None = None
    cache_control: str | None = None


class ObjectStore(Protocol):
    """One bucket. Every method raises StoreError when the store is unavailable or refuses the request.

    Adapters retry transient errors for about half a minute before they raise them. Keys are Unicode strings of 1 to
    1,024 UTF-8 bytes. Putting or copying to a key that the store does not support raises ImageRefused(KEY_INVALID) with
    the reason; all other methods treat such a key as missing.
    """

    bucket: str

    async def prepare(self, *, create: bool = True) -> None:
        """Check that the bucket exists and is usable. A missing folder is created only with *create*."""

    async def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        content_type: str,
        cache_control: str,
        sha256: str,
        overwrite: bool = True,
    ) -> None:
        """Store *body* under *key*, atomically: readers see the old object or the new one.

        With ``overwrite=False`` an existing object is left alone and ObjectExists is raised; of several such puts at
        once one succeeds.

        A Path is streamed. If its bytes do not match *sha256*, or it cannot be read, nothing is stored and ImageRefused
        (CHANGED or UNREADABLE) is raised.
        """

    async def get(self, key: str) -> bytes:
        """Return the object's bytes; raise ObjectMissing if there is none."""

    async def download(self, key: str, target: Path) -> StoredObject:
        """Stream the object into the file *target* and return its attributes.

        Raises ObjectMissing if there is none, and OSError if *target* cannot be written.
        """

    async def head(self, key: str) -> StoredObject:
        """Return the object's attributes; raise ObjectMissing if there is none."""

    async def copy(self, source: str, target: str) -> None:
        """Copy an object with its attributes, overwriting *target*; raise ObjectMissing if there is no *source*."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete the objects; ignore missing keys."""

    def list(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[StoredObject]:
        """Yield the objects whose keys begin with *prefix* and come after *start_after*, in UTF-8 byte order."""

    def address(self, key: str, *, version: str = "") -> str:
        """Return the URL for browsers, without a request to the store.

        The URL of one (key, version) stays the same for a while, so that browsers can cache it. A path that begins with
        ``/`` is served by our own server.
        """

    async def close(self) -> None:
        """Release connections and threads."""


async def object_sha256(store: ObjectStore, found: StoredObject) -> str:
    """Return the SHA-256 (hex) of the object that ``head`` *found*; read the object if its attributes lack it.

    They lack it if another program stored the object, or if our process was killed right after writing a file. Raises
    ObjectMissing.
    """
    return found.sha256 or hashlib.sha256(await store.get(found.key)).hexdigest()


def check_key(key: str) -> None:
    """Raise ImageRefused(KEY_INVALID) for a key that no store supports."""
    if problem := _key_problem(key):
        raise ImageRefused(Reason.KEY_INVALID, f"key {key!r} {problem}: rename the file")


def is_valid_key(key: str) -> bool:
    """Return whether stores support the key."""
    return _key_problem(key) is None


def _key_problem(key: str) -> str | None:
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if not 1 <= length <= MAX_KEY_BYTES:
        return f"has {length} bytes in UTF-8, not 1 to {MAX_KEY_BYTES}"
    if {".", ".."}.intersection(key.split("/")):
        return "contains the part '.' or '..', which browsers and file systems resolve"
    if "\0" in key:
        return "contains NUL, which file systems and databases cannot store"
    return None

"""Where images lie: the protocol that the program sees, whatever store is behind it.

The adapters are ``folder`` (directories on this machine) and ``s3`` (Cloudflare R2, any S3). One contract suite,
``tests/contract/test_stores.py``, runs on each.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from shared.errors import ImageRefused, Reason

# Everything in a bucket that is ours and not somebody's image lies under this prefix.
RESERVED_PREFIX = ".image-browser/"

MAX_KEY_BYTES = 1024  # of UTF-8, in S3 and R2

# Content under a key can change (an edited photo), so that a browser asks again after a while ...
CACHE_IMAGE = "public, max-age=3600"
# ... but what carries its content's hash in its key never does.
CACHE_IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class StoredObject:
    """What a store knows of one object.

    ``etag`` changes when the bytes do, and says nothing else. ``sha256``, ``content_type`` and ``cache_control`` are
    None in a listing, and where they are not known since somebody else put the object.
    """

    key: str
    size: int
    modified: datetime
    etag: str

    sha256: str | None = None  # hex
    content_type: str | None = None
    cache_control: str | None = None


class ObjectStore(Protocol):
    """One bucket. Every method raises StoreError when the store cannot be reached or refuses.

    Transient failures are tried again inside the adapter, for about half a minute, before they are raised.
    Keys are Unicode strings of 1 to 1,024 UTF-8 bytes. To put or copy to a key that the store cannot keep raises
    ImageRefused(KEY_INVALID), which says why; to all other methods there is no object under such a key.
    """

    bucket: str

    async def prepare(self) -> None:
        """Make sure that the bucket is there and can be used, and make it where that is ours to do (folders)."""

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
        """Store *body* under *key*, whole or not at all; readers see the old object or the new one, never a part.

        With ``overwrite=False`` an object that lies there already is left alone and raises ObjectExists; two such
        puts at once leave one winner.

        A Path is streamed, and must hold the bytes of which *sha256* speaks: nothing is stored, and ImageRefused
        raised, when it changed since (CHANGED) or cannot be read (UNREADABLE).
        """

    async def get(self, key: str) -> bytes:
        """Return the object's bytes; raise ObjectMissing when there is none."""

    async def download(self, key: str, target: Path) -> StoredObject:
        """Write the object's bytes into the file *target*, in pieces, and return all that is known of the object.

        Raises ObjectMissing when there is none, and OSError when *target* cannot be written.
        """

    async def head(self, key: str) -> StoredObject:
        """Return all that is known of the object; raise ObjectMissing when there is none."""

    async def copy(self, source: str, target: str) -> None:
        """Copy an object with its metadata, overwriting; raise ObjectMissing when there is no source."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove the objects; a key that is not there is no error."""

    def list(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[StoredObject]:
        """Yield the objects whose keys begin with *prefix* and come after *start_after*, in UTF-8 byte order."""

    def address(self, key: str, *, version: str = "") -> str:
        """Return the address at which a browser gets the object, without a request.

        The address of one (key, version) stays the same for a while, so that browsers can cache it. A path that
        begins with ``/`` is served by our own server.
        """

    async def close(self) -> None:
        """Give back connections and threads."""


async def object_sha256(store: ObjectStore, found: StoredObject) -> str:
    """Return the SHA-256 (hex) of the object that ``head`` has *found*, reading the object where it is not known.

    It is not known of what others put, and of a folder's object if our process was killed right after it was written.
    Raises ObjectMissing.
    """
    return found.sha256 or hashlib.sha256(await store.get(found.key)).hexdigest()


def check_key(key: str) -> bytes:
    """Return the key's UTF-8 bytes; raise ImageRefused(KEY_INVALID) for one that no store can keep."""
    try:
        encoded = key.encode()
    except UnicodeEncodeError as exc:
        raise ImageRefused(Reason.KEY_INVALID, f"the key {key!r} is not valid Unicode: rename the file") from exc
    if not encoded:
        raise ImageRefused(Reason.KEY_INVALID, "the key is empty")
    if len(encoded) > MAX_KEY_BYTES:
        detail = f"the key has {len(encoded)} bytes in UTF-8, and may have {MAX_KEY_BYTES}: shorten the path {key!r}"
        raise ImageRefused(Reason.KEY_INVALID, detail)
    if {".", ".."}.intersection(key.split("/")):
        detail = f"the key {key!r} has the part '.' or '..', which browsers and file systems take for a direction"
        raise ImageRefused(Reason.KEY_INVALID, detail)
    if "\0" in key:
        raise ImageRefused(Reason.KEY_INVALID, f"the key {key!r} holds a zero character, which no file name can")
    return encoded

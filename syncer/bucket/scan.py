"""List a bucket together with the recorded state of its objects. Changes nothing."""

import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shared.errors import ServiceError
from shared.images import EXTENSIONS
from shared.retry import RetryPolicy
from shared.sql import adopted_objects
from shared.sql.adopted_objects import AdoptedImage, MissingObject, ObjectState
from shared.stores.base import RESERVED_PREFIX, ObjectStore, StoredObject
from syncer.file_names import file_type, is_in_system_folder, is_sidecar, sidecar_names, suffix
from syncer.source import Source

log = logging.getLogger(__name__)

# The source of adopted objects. No folder's source has this name: theirs are HOST:DIR or chosen by the user.
SOURCE = ".bucket"
PAGE_SIZE = 1000  # the most that S3 returns per request
_AFTER_RESERVED = RESERVED_PREFIX + "\U0010ffff"


@dataclass(frozen=True)
class BucketPage:
    """One page of a listing: objects that may be images with their states, and skipped ones with their types."""

    candidates: Sequence[tuple[StoredObject, ObjectState]]
    skipped: Sequence[tuple[StoredObject, str]]


class BucketScan:
    """One pass over the objects whose keys begin with *prefix*.

    *source* is that of adopted objects, None if the bucket has no collection.
    """

    def __init__(self, store: ObjectStore, prefix: str, *, source: Source | None, retry: RetryPolicy) -> None:
        self.prefix = prefix
        self.bucket = store.bucket
        # Both are complete after the last page.
        self.missing: list[MissingObject] = []
        self.sidecars: dict[str, StoredObject] = {}
        self._store = store
        self._source = source
        self._retry = retry
        self._found_image = False
        self._in_order = True

    async def pages(self) -> AsyncIterator[BucketPage]:
        """Yield the listed objects page by page, without hidden ones and sidecars."""
        after = ""
        async for page in list_pages(self._store, self.prefix, retry=self._retry):
            keys = [stored.key for stored in page]
            self._in_order &= all(one < next for one, next in pairwise([after, *keys]))
            await self._find_missing(keys, after=after, to=keys[-1])
            after = keys[-1]
            candidates, skipped = [], []
            for stored in page:
                if self._is_hidden(stored):
                    continue
                if is_sidecar(stored.key):
                    self.sidecars[stored.key] = stored
                elif kind := self._type_to_skip(stored):
                    skipped.append((stored, kind))
                else:
                    candidates.append(stored)
            self._found_image |= bool(candidates)
            states = await self._states([stored.key for stored in candidates])
            yield BucketPage(list(zip(candidates, states, strict=True)), skipped)
        await self._find_missing([], after=after, to=None)

    def sidecar(self, key: str) -> StoredObject | None:
        """Return the sidecar of the image *key* among those listed so far."""
        return next((self.sidecars[name] for name in sidecar_names(key) if name in self.sidecars), None)

    async def adopted(self) -> AsyncIterator[AdoptedImage]:
        """Yield the adopted images that have a sidecar, had one, or may have got one, after the last page."""
        images: list[AdoptedImage] | None = None
        while self._source and images != []:
            images = await self._source.run(
                adopted_objects.list_images,
                prefix=self.prefix,
                after=images[-1].key if images else "",
                only_described=not self.sidecars,
                limit=PAGE_SIZE,
            )
            for image in images:
                yield image

    async def count_adopted(self) -> int:
        """Return the number of adopted images under the prefix."""
        return await self._source.run(adopted_objects.count, prefix=self.prefix) if self._source else 0

    def why_incomplete(self) -> str:
        """Return why the listing does not prove that missing objects are gone; "" if it does."""
        if not self._found_image:
            where = f"under {self.prefix!r} in bucket {self.bucket!r}" if self.prefix else f"in bucket {self.bucket!r}"
            return f"nothing deleted: no images {where} (is this the right {'prefix' if self.prefix else 'bucket'}?)"
        if not self._in_order:
            return f"nothing deleted: bucket {self.bucket!r} does not list its keys in order"
        return ""

    def _is_hidden(self, stored: StoredObject) -> bool:
        """Return whether a part of the key after the prefix is hidden or a system folder.

        "." and ".." are not hidden, and are refused later.
        """
        parts = stored.key[len(self.prefix) :].split("/")
        if self.prefix and not self.prefix.endswith("/"):
            parts = parts[1:]
        hidden = any(part.startswith(".") and part not in {".", ".."} for part in parts)
        return hidden or is_in_system_folder("/".join(parts))

    def _type_to_skip(self, stored: StoredObject) -> str:
        """Return the type of an object that is no image by its suffix; "" if it may be one.

        Without a suffix anything may be an image, except the empty objects that some programs create for folders.
        """
        ending = suffix(stored.key)
        if not stored.size and (stored.key.endswith("/") or not ending):
            return "empty"
        return file_type(stored.key) if ending and ending not in EXTENSIONS else ""

    async def _states(self, keys: Sequence[str]) -> list[ObjectState]:
        if self._source is None:
            return [ObjectState(key) for key in keys]
        return await self._source.run(adopted_objects.states, keys)

    async def _find_missing(self, keys: Sequence[str], *, after: str, to: str | None) -> None:
        """Compare one range of the listing with the recorded objects."""
        if self._source:
            self.missing += await self._source.run(
                adopted_objects.missing, prefix=self.prefix, keys=keys, after=after, to=to
            )


async def list_pages(store: ObjectStore, prefix: str, *, retry: RetryPolicy) -> AsyncIterator[list[StoredObject]]:
    """Yield the objects whose keys begin with *prefix* in pages; leave out our own unless the prefix is theirs."""
    listing = _Listing(store, prefix)
    while page := await retry.run(listing.next_page):
        yield page


class _Listing:
    """Listed objects in pages, without our own objects unless the prefix is theirs."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._objects = store.list(prefix)
        self._after = ""

    async def next_page(self) -> list[StoredObject]:
        """Return the next page, empty at the end. After an error, the next call resumes behind the last page."""
        try:
            page = await self._read_page()
        except ServiceError:
            self._objects = self._store.list(self._prefix, start_after=self._after)
            raise
        if page:
            self._after = page[-1].key
        return page

    async def _read_page(self) -> list[StoredObject]:
        page: list[StoredObject] = []
        async for stored in self._objects:
            if stored.key.startswith(RESERVED_PREFIX) and not self._prefix.startswith(RESERVED_PREFIX):
                # Two objects per image: skip them without listing them.
                self._objects = self._store.list(self._prefix, start_after=_AFTER_RESERVED)
                return page or await self._read_page()
            if "\0" in stored.key:
                log.warning(
                    "%s is left out: its key contains NUL, which a database cannot store: rename it", stored.key
                )
                continue
            page.append(stored)
            if len(page) == PAGE_SIZE:
                break
        return page


def object_stat(stored: StoredObject) -> tuple[int, int, int]:
    """Return the object's size and version in the form of a file's size and times.

    The modification time is not part of it: S3 gives it in seconds for an object and in milliseconds in a listing.
    """
    version = int.from_bytes(hashlib.sha256(stored.etag.encode()).digest()[:8], signed=True)
    return stored.size, 0, version


def sidecar_state(sidecar: StoredObject | None) -> str:
    """Return a text that changes with the sidecar, "" without one."""
    return f"{sidecar.size} {sidecar.etag}" if sidecar else ""

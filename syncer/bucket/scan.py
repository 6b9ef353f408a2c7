"""What a bucket lists, page by page, beside what is known of it, and in the end what is gone. It changes nothing."""

import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from collections.abc import Collection as Names
from itertools import pairwise

from shared.db.pool import Database
from shared.errors import RETRIED_REASONS, ImageRefused, Reason, ServiceError
from shared.models import Collection
from shared.retry import RetryPolicy
from shared.sql import adopted_objects
from shared.sql.adopted_objects import MissingObject, ObjectState
from shared.stores.base import RESERVED_PREFIX, ObjectStore, StoredObject, check_key
from syncer.deletion_policy import DeletionPolicy, refuse_mass_deletion
from syncer.folder.deletion import Verdict

# No folder's source is called so: theirs hold a host's name, or what a user gave.
SOURCE = ".bucket"
MAX_BYTES = 2 << 30  # of one object: it is copied to this machine's disk to be decoded
_PAGE = 1000  # objects, as many as S3 lists in one request
_AFTER_RESERVED = RESERVED_PREFIX + "\U0010ffff"


class Inventory:
    """One walk through what lies under *prefix* in a bucket, the beginning of keys as in S3.

    *source* is that of adopted objects; without it and a *collection*, nothing is known of any.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        *,
        suffixes: Names[str],
        database: Database,
        collection: Collection | None,
        source: int | None,
        retry: RetryPolicy,
    ) -> None:
        """*suffixes* are those of images, in lower case."""
        self._store = store
        self._prefix = prefix
        self._suffixes = suffixes
        self._database = database
        self._collection = collection
        self._source = source
        self._retry = retry
        self._missing: list[MissingObject] = []
        self._any_image = False
        self._in_order = True

    async def pages(self) -> AsyncIterator[list[tuple[StoredObject, ObjectState]]]:
        """Yield, page by page, the objects that may be images, each with what is known of it."""
        after = ""
        async for page in self._listed():
            keys = [stored.key for stored in page]
            self._in_order &= all(one < next for one, next in pairwise([after, *keys]))
            await self._note_missing(keys, after=after, to=keys[-1])
            after = keys[-1]
            wanted = [stored for stored in page if self._may_be_image(stored)]
            self._any_image |= bool(wanted)
            yield list(zip(wanted, await self._known([stored.key for stored in wanted]), strict=True))
        await self._note_missing([], after=after, to=None)

    @property
    def gone(self) -> list[str]:
        """The keys of adopted images whose objects are gone; known when all pages were read."""
        return [missing.key for missing in self._missing if missing.adopted]

    async def verdict(self, deletion: DeletionPolicy) -> Verdict:
        """Decide what becomes of what is gone; call it when all pages were read, for only then the listing is complete.

        A listing that shows no image at all, or keys out of order, decides nothing.
        """
        verdict, doubt = Verdict(), self._doubt()
        if not doubt:
            verdict.rejected = [each.key for each in self._missing if not (each.adopted or each.removed)]
        if deletion.requested and self._collection and self._source and self._missing:
            images = self.gone
            verdict.withheld = doubt or refuse_mass_deletion(
                len(images),
                await self._database.run(
                    adopted_objects.count, collection=self._collection, source=self._source, prefix=self._prefix
                ),
                deletion,
            )
            if not verdict.withheld:
                verdict.images = images
                verdict.marks = [each.key for each in self._missing if each.removed]
        return verdict

    def _doubt(self) -> str:
        """Return why what the bucket listed says nothing of what is gone; "" if it does."""
        if not self._any_image:
            where = f"under {self._prefix!r} " if self._prefix else ""
            return (
                f"nothing was removed, since no image at all lies {where}in bucket {self._store.bucket!r}:"
                f" is that the right {'prefix' if self._prefix else 'bucket'}?"
            )
        if not self._in_order:
            return f"nothing was removed, since bucket {self._store.bucket!r} does not list its keys in order"
        return ""

    async def _listed(self) -> AsyncIterator[list[StoredObject]]:
        """Yield what the bucket lists, without what is ours beside the images; an outage continues where it began."""
        after = ""
        listing = self._store.list(self._prefix)

        async def following() -> list[StoredObject]:
            nonlocal listing
            page: list[StoredObject] = []
            try:
                async for stored in listing:
                    if stored.key.startswith(RESERVED_PREFIX):
                        # Two objects for each image: not even listed.
                        listing = self._store.list(self._prefix, start_after=_AFTER_RESERVED)
                        return page or await following()
                    page.append(stored)
                    if len(page) == _PAGE:
                        break
            except ServiceError:
                listing = self._store.list(self._prefix, start_after=after)
                raise
            return page

        while page := await self._retry.run(following):
            after = page[-1].key
            yield page

    def _may_be_image(self, stored: StoredObject) -> bool:
        """Whether the object is looked at: as in folders, nothing hidden, and nothing with another kind's suffix.

        Without a suffix anything may be an image, but not the empty objects that stand for folders in some programs.
        """
        hidden = f"/{stored.key}".find("/.", len(self._prefix)) >= 0
        if hidden or stored.key.endswith("/"):
            return False
        suffix = os.path.splitext(stored.key)[1].lower()
        return suffix in self._suffixes if suffix else stored.size > 0

    async def _known(self, keys: Sequence[str]) -> list[ObjectState]:
        if self._collection is None or self._source is None:
            return [ObjectState(key) for key in keys]
        return await self._database.run(
            adopted_objects.states, collection=self._collection, source=self._source, keys=keys
        )

    async def _note_missing(self, keys: Sequence[str], *, after: str, to: str | None) -> None:
        if self._collection is None or self._source is None:
            return
        self._missing += await self._database.run(
            adopted_objects.missing,
            collection=self._collection,
            source=self._source,
            prefix=self._prefix,
            keys=keys,
            after=after,
            to=to,
        )


def stat_of(stored: StoredObject) -> tuple[int, int, int]:
    """Return the object's size and what tells its versions apart, in the place of a file's times.

    The time of modification is not among it: S3 tells it in seconds for an object, in milliseconds in a listing.
    """
    mark = int.from_bytes(hashlib.sha256(stored.etag.encode()).digest()[:8], signed=True)
    return stored.size, 0, mark


def is_settled(stored: StoredObject, known: ObjectState) -> bool:
    """Whether the object is indexed as it is: by us, as what a sync brought, or refused for good."""
    if known.origin not in {None, "adopted"}:
        return True
    size, _, mark = stat_of(stored)
    return (known.size, known.version) == (size, mark) and known.reason not in RETRIED_REASONS


def check_object(stored: StoredObject) -> None:
    """Raise ImageRefused for an object that cannot be adopted, whatever it holds."""
    check_key(stored.key)
    if stored.size > MAX_BYTES:
        raise ImageRefused(Reason.TOO_LARGE, f"the object has {stored.size} bytes, and may have {MAX_BYTES}")

"""Dry run of adopting a bucket."""

from collections.abc import AsyncIterator
from collections.abc import Collection as Names

from shared.db.pool import Database
from shared.errors import ImageRefused
from shared.retry import RetryPolicy
from shared.sql.adopted_objects import ObjectState
from shared.stores.base import ObjectStore, StoredObject
from syncer.bucket.scan import SOURCE, Inventory, check_object, is_settled
from syncer.deletion_policy import DeletionPolicy
from syncer.dry_run import Step, find_source


class BucketPreview:
    """What adopting would do with what lies under *prefix* in a bucket. No object is read, so images that no decoder
    can read are not told apart.
    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        *,
        suffixes: Names[str],
        database: Database,
        retry: RetryPolicy,
        deletion: DeletionPolicy,
    ) -> None:
        """*suffixes* are those of images, in lower case."""
        self.bucket = store.bucket
        self._store = store
        self._prefix = prefix
        self._suffixes = suffixes
        self._database = database
        self._retry = retry
        self._deletion = deletion
        self.withheld = ""

    async def steps(self) -> AsyncIterator[Step]:
        """Yield what would be done, object by object; afterwards ``withheld`` says why something would not be removed.

        The paths are keys.
        """
        collection, source = await self._database.run(find_source, self.bucket, SOURCE)
        inventory = Inventory(
            self._store,
            self._prefix,
            suffixes=self._suffixes,
            database=self._database,
            collection=collection,
            source=source,
            retry=self._retry,
        )
        async for page in inventory.pages():
            for stored, known in page:
                if not known.busy:
                    yield _step(stored, known)
        verdict = await inventory.verdict(self._deletion)
        self.withheld = verdict.withheld
        for key in inventory.gone:
            yield Step("deleted" if verdict.images else "gone", key)


def _step(stored: StoredObject, known: ObjectState) -> Step:
    """Return what adopting would do with an object."""
    if is_settled(stored, known):
        return Step("unreadable" if known.reason else "unchanged", stored.key, known.reason or "")
    try:
        check_object(stored)
    except ImageRefused as refusal:
        return Step("unreadable", stored.key, str(refusal))
    return Step("edited" if known.origin else "new", stored.key)

"""Dry run of an adoption."""

from collections.abc import AsyncIterator

from shared.db.pool import Database
from shared.retry import RetryPolicy
from shared.stores.base import ObjectStore
from syncer.bucket.planner import BucketPlanner
from syncer.bucket.scan import SOURCE, BucketScan
from syncer.deletion_policy import DeletionPolicy
from syncer.dry_run import Step, find_source


class BucketDryRun:
    """Steps of adopting a bucket. Objects are not read, so undecodable images are not detected."""

    def __init__(
        self, store: ObjectStore, prefix: str, *, database: Database, retry: RetryPolicy, deletion: DeletionPolicy
    ) -> None:
        self.bucket = store.bucket
        self.withheld = ""  # why requested deletions would not be made; set after the last step
        self._store = store
        self._prefix = prefix
        self._database = database
        self._retry = retry
        self._deletion = deletion

    async def steps(self) -> AsyncIterator[Step]:
        """Yield a step per object; paths are keys."""
        collection, source = await self._database.run(find_source, self.bucket, SOURCE)
        scan = BucketScan(
            self._store,
            self._prefix,
            database=self._database,
            collection=collection,
            source=source,
            retry=self._retry,
        )
        planner = BucketPlanner(scan, self._deletion)
        async for listed in planner.listed():
            yield listed.step
        for step in await planner.missing():
            yield step
        self.withheld = planner.withheld

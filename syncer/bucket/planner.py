"""Plan of an adoption: one step per object. A dry run prints the steps, ``BucketAdopter`` executes them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.errors import RETRIED_REASONS, ImageRefused, Reason
from shared.sql.adopted_objects import AdoptedImage, ObjectState
from shared.stores.base import StoredObject, check_key
from syncer.bucket.scan import BucketScan, object_stat, sidecar_state
from syncer.deletion_policy import DeletionPolicy, refuse_mass_deletion
from syncer.dry_run import Step

MAX_BYTES = 2 << 30  # per object: it is copied to the local disk for decoding


@dataclass(frozen=True)
class ListedObject:
    """An object of the bucket with the step for it. ``refusal`` is set if it is unusable whatever it contains."""

    step: Step
    stored: StoredObject
    was_adopted: bool
    refusal: ImageRefused | None = None


class BucketPlanner:
    """Plans one adoption in two phases; execute the steps for listed objects before planning those for missing ones.

    So an object that was renamed in the bucket is embedded for free, while the image under its old key still exists.
    """

    def __init__(self, scan: BucketScan, deletion: DeletionPolicy) -> None:
        self._scan = scan
        self._deletion = deletion
        self.forgotten: list[str] = []  # keys of missing objects whose rejection or tombstone is obsolete
        self.withheld = ""  # why requested deletions are not made

    async def listed(self) -> AsyncIterator[ListedObject]:
        """Yield the listed objects, except those that are being uploaded or deleted at the moment."""
        async for page in self._scan.pages():
            for stored, kind in page.skipped:
                yield ListedObject(Step("skipped", stored.key, kind), stored, was_adopted=False)
            for stored, state in page.candidates:
                if not state.busy:
                    yield _plan_object(stored, state)

    def sidecar(self, key: str) -> StoredObject | None:
        """Return the sidecar of the image *key* among those listed so far."""
        return self._scan.sidecar(key)

    async def described(self) -> AsyncIterator[AdoptedImage]:
        """Yield the adopted images whose sidecar is new, changed or gone, after the listed objects."""
        async for image in self._scan.adopted():
            if image.sidecar != sidecar_state(self.sidecar(image.key)):
                yield image

    async def steps(self) -> AsyncIterator[Step]:
        """Yield the whole plan for a dry run. Objects are not read, so corrupt ones count as new."""
        edited = set()
        async for listed in self.listed():
            if listed.step.kind == "edited":
                edited.add(listed.step.path)
            yield listed.step
        async for image in self.described():
            if image.key not in edited:
                yield Step("described", image.key)
        for step in await self.missing():
            yield step

    async def missing(self) -> list[Step]:
        """Return a step per adopted image whose object is missing from the complete listing.

        Also sets ``forgotten`` and ``withheld``. A listing without any image, or with keys out of order, proves
        nothing: then nothing is deleted.
        """
        missing, doubt = self._scan.missing, self._scan.why_incomplete()
        adopted = [each.key for each in missing if each.adopted]
        delete = self._deletion.requested and bool(missing)
        if delete:
            total = await self._scan.count_adopted()
            self.withheld = doubt or refuse_mass_deletion(len(adopted), total, self._deletion)
            delete = not self.withheld
        self.forgotten = [each.key for each in missing if (each.removed and delete) or (each.rejected and not doubt)]
        return [Step("deleted" if delete else "gone", key) for key in adopted]


def _plan_object(stored: StoredObject, state: ObjectState) -> ListedObject:
    adopted = state.origin == "adopted"
    if _is_current(stored, state):
        step = Step("unreadable" if state.reason else "unchanged", stored.key, state.reason or "")
        return ListedObject(step, stored, adopted)
    try:
        check_key(stored.key)
        if stored.size > MAX_BYTES:
            raise ImageRefused(Reason.TOO_LARGE, f"the object has {stored.size:,} bytes, more than {MAX_BYTES:,}")
    except ImageRefused as refusal:
        return ListedObject(Step("unreadable", stored.key, str(refusal)), stored, adopted, refusal)
    return ListedObject(Step("edited" if state.origin else "new", stored.key), stored, adopted)


def _is_current(stored: StoredObject, state: ObjectState) -> bool:
    """Return whether this version of the object was uploaded by a sync, adopted, or rejected permanently."""
    if state.origin not in {None, "adopted"}:
        return True
    size, _, version = object_stat(stored)
    return (state.size, state.version) == (size, version) and state.reason not in RETRIED_REASONS

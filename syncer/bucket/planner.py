"""Plan of an adoption: one action per object. A dry run prints the plan, ``BucketAdopter`` executes it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.errors import RETRIED_REASONS, ImageRefused, Reason
from shared.sql.adopted_objects import ObjectState
from shared.stores.base import StoredObject, check_key
from syncer.bucket.scan import BucketScan, object_stat
from syncer.deletion_policy import DeletionPolicy, refuse_mass_deletion

MAX_BYTES = 2 << 30  # per object: it is copied to the local disk for decoding


@dataclass(frozen=True)
class AdoptObject:
    """A new or changed object, to be read and indexed."""

    stored: StoredObject
    state: ObjectState


@dataclass(frozen=True)
class SkipObject:
    """An unchanged object; ``state.reason`` is set if an earlier run rejected it."""

    stored: StoredObject
    state: ObjectState


@dataclass(frozen=True)
class RejectObject:
    """An object that cannot be adopted whatever it contains."""

    stored: StoredObject
    refusal: ImageRefused


@dataclass(frozen=True)
class DeleteAdopted:
    """An adopted image to delete, because its object is gone."""

    key: str


@dataclass(frozen=True)
class KeepAdopted:
    """An adopted image that stays although its object is gone."""

    key: str


@dataclass(frozen=True)
class ForgetObject:
    """A record to delete: the rejection or the tombstone of an object that is gone."""

    key: str


ObjectAction = AdoptObject | SkipObject | RejectObject
MissingAction = DeleteAdopted | KeepAdopted | ForgetObject


class BucketPlanner:
    """Plans one adoption in two phases; execute the actions for listed objects before planning those for missing ones.

    So an object that was renamed in the bucket is embedded for free, while the image under its old key still exists.
    """

    def __init__(self, scan: BucketScan, deletion: DeletionPolicy) -> None:
        self._scan = scan
        self._deletion = deletion
        self.withheld = ""  # why requested deletions are not made

    async def listed(self) -> AsyncIterator[ObjectAction]:
        """Yield an action per listed object, except those that are being uploaded or deleted at the moment."""
        async for page in self._scan.pages():
            for stored, state in page:
                if not state.busy:
                    yield _object_action(stored, state)

    async def missing(self) -> list[MissingAction]:
        """Return an action per recorded object that the complete listing does not contain.

        A listing without any image, or with keys out of order, proves nothing: then nothing is deleted.
        """
        missing, doubt = self._scan.missing, self._scan.why_incomplete()
        adopted = [each.key for each in missing if each.adopted]
        delete = self._deletion.requested and bool(missing)
        if delete:
            self.withheld = doubt or refuse_mass_deletion(
                len(adopted), await self._scan.count_adopted(), self._deletion
            )
            delete = not self.withheld
        actions: list[MissingAction] = []
        for each in missing:
            if each.adopted:
                actions.append(DeleteAdopted(each.key) if delete else KeepAdopted(each.key))
            elif (each.removed and delete) or (each.rejected and not doubt):
                actions.append(ForgetObject(each.key))
        return actions


def _object_action(stored: StoredObject, state: ObjectState) -> ObjectAction:
    if _is_current(stored, state):
        return SkipObject(stored, state)
    try:
        check_key(stored.key)
        if stored.size > MAX_BYTES:
            raise ImageRefused(Reason.TOO_LARGE, f"the object has {stored.size:,} bytes, more than {MAX_BYTES:,}")
    except ImageRefused as refusal:
        return RejectObject(stored, refusal)
    return AdoptObject(stored, state)


def _is_current(stored: StoredObject, state: ObjectState) -> bool:
    """Return whether this version of the object was uploaded by a sync, adopted, or rejected for good."""
    if state.origin not in {None, "adopted"}:
        return True
    size, _, version = object_stat(stored)
    return (state.size, state.version) == (size, version) and state.reason not in RETRIED_REASONS

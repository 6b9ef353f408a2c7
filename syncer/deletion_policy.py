"""The limits on deleting: what was asked for, and how many images may go at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DeletionPolicy:
    """Whether images whose files are gone are deleted (``--delete``), and however many they are (``--yes``)."""

    requested: bool = False
    confirmed: bool = False


NO_DELETION = DeletionPolicy()


def refuse_mass_deletion(count: int, total: int, policy: DeletionPolicy) -> str:
    """Return why *count* of *total* images are not deleted without ``--yes``; "" if they may be."""
    if count * 10 > total and not policy.confirmed:
        return f"refusing to delete {count} of {total} images (over 10 %); pass --yes"
    return ""

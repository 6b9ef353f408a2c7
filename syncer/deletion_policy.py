"""Limits on deleting images whose files are missing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DeletionPolicy:
    """Permission to delete images (``--delete``), and to delete any number of them (``--yes``)."""

    requested: bool = False
    confirmed: bool = False


def refuse_mass_deletion(count: int, total: int, policy: DeletionPolicy) -> str:
    """Return why *count* of *total* images may not be deleted without ``--yes``; "" if they may."""
    if count * 10 > total and not policy.confirmed:
        return f"refusing to delete {count} of {total} images (over 10 %); pass --yes"
    return ""

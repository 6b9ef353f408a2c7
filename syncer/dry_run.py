"""Steps of a dry run, for folders and buckets alike."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["new", "edited", "moved", "described", "unchanged", "gone", "deleted", "unreadable", "skipped"]


@dataclass(frozen=True)
class Step:
    """A change that a run would make to one file.

    ``detail`` is the old path of a move, why a file is unreadable, or the kind of a skipped one.
    """

    kind: Kind
    path: str
    detail: str = ""


class Plan(Protocol):
    """The plan of one run; after the last step, ``withheld`` tells why images are not deleted."""

    @property
    def withheld(self) -> str: ...

    def steps(self) -> AsyncIterator[Step]: ...

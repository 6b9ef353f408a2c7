"""Steps of a dry run, for folders and buckets alike."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

_LONGEST_SUFFIX = 10  # characters: a longer one is part of the name

Kind = Literal["new", "edited", "moved", "described", "unchanged", "gone", "deleted", "unreadable", "skipped"]


@dataclass(frozen=True)
class Step:
    """A change that a run would make to one file.

    ``detail`` is the old path of a move, why a file is unreadable, or the kind of a skipped one.
    """

    kind: Kind
    path: str
    detail: str = ""


def file_type(path: str) -> str:
    """Return the suffix of a file that is skipped, without the dot, or "without a suffix"."""
    suffix = os.path.splitext(path)[1][1:].lower()
    return suffix if 0 < len(suffix) <= _LONGEST_SUFFIX else "without a suffix"


class Plan(Protocol):
    """The plan of one run; after the last step, ``withheld`` tells why images are not deleted."""

    @property
    def withheld(self) -> str: ...

    def steps(self) -> AsyncIterator[Step]: ...

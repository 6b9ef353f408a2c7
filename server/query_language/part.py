"""Parts of a typed text, and the recognisers of those that become filters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Any, Literal, Protocol

from server.query_language.typed_text import TypedText
from server.search.terms import Term
from shared.models import Facets

Kind = Literal["date", "camera", "place", "type", "orientation", "size", "colour"]
TextKind = Literal["words", "exact", "excluded"]


class Anchor(Enum):
    """Restrictions on where a phrase counts as a filter, so that "portrait of a woman" stays words."""

    ANYWHERE = "anywhere"
    LAST = "before a comma, another filter, or the end"
    ALONE = "between commas, other filters, or the ends"
    CLOSING = "between commas, other filters, or the ends, and not before words"
    BESIDE = "between commas, other filters, or the ends, and not alone"


@dataclass(frozen=True)
class Found:
    """A phrase of a text up to before token ``end``, and the filters it stands for.

    ``filters`` are fields of ``shared.models.Filters``. ``meaning`` explains them where the phrase does not, in figures
    and names that need no translation.
    """

    kind: Kind
    end: int
    filters: Mapping[str, Any]
    meaning: str = ""
    anchor: Anchor = Anchor.ANYWHERE


@dataclass(frozen=True)
class Part:
    """A part of typed words, with its filters (fields of ``shared.models.Filters``) and terms of the query."""

    text: str
    kind: Kind | TextKind
    filters: Mapping[str, Any] = field(default_factory=dict)
    terms: Sequence[Term] = ()
    meaning: str = ""


@dataclass(frozen=True)
class Surroundings:
    """The day and the collection, which decide what words mean: last March, or the name of a camera.

    ``places`` are the English names of the collection's places by their folded names in any language.
    """

    today: date
    facets: Facets
    places: Mapping[str, str] = field(default_factory=dict)


class Recogniser(Protocol):
    """A function that finds phrases of one kind."""

    def __call__(self, text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
        """Return the phrase that begins with token *index*, if any."""

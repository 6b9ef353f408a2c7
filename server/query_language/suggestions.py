"""Suggestions while a query is typed: values of the collection that its last words begin."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from server.cache.collection_cache import CollectionCache
from server.query_language.typed_text import fold
from shared.db.pool import Database
from shared.models import Collection
from shared.sql import suggestions

MAX_SUGGESTIONS = 8
MAX_NAMES = 3
MIN_LETTERS = 2
MAX_WORDS = 3  # of a value that is being typed

SuggestionKind = Literal["camera", "place", "keyword", "name"]
Values = Mapping[str, tuple[str, int]]  # as written and number of images, by the folded value, most frequent first


@dataclass(frozen=True)
class Suggestion:
    """A value that completes what is typed to ``text``, and its number of images."""

    kind: SuggestionKind
    value: str
    count: int
    text: str


@dataclass(frozen=True)
class Suggestions:
    """Suggestions from the cameras, places, keywords and file names of collections."""

    database: Database
    collections: CollectionCache

    async def suggest(self, collection: Collection, typed: str) -> list[Suggestion]:
        """Return completions of *typed*, those of more words first, then the most frequent; file names last."""
        facets = await self.collections.values(collection)
        sources: dict[SuggestionKind, Values] = {
            "camera": {fold(camera): (camera, count) for camera, count in facets.cameras.items()},
            "place": {fold(place): (place, count) for place, count in facets.places.items()},
            "keyword": await self.collections.keywords(collection),
        }
        found: dict[str, Suggestion] = {}
        for head, tail in _tails(typed):
            completions = [
                (folded, Suggestion(kind, values[folded][0], values[folded][1], head + values[folded][0]))
                for kind, values in sources.items()
                for folded in islice(_with_word(values, tail), MAX_SUGGESTIONS)
            ]
            for folded, each in sorted(completions, key=lambda completion: -completion[1].count):
                found.setdefault(folded, each)
        words = f" {' '.join(fold(typed).split())}"
        incomplete = [each for folded, each in found.items() if not words.endswith(f" {folded}")]
        return [*incomplete[: MAX_SUGGESTIONS - MAX_NAMES], *await self._names(collection, typed)]

    async def _names(self, collection: Collection, typed: str) -> list[Suggestion]:
        if len(typed.strip()) < MIN_LETTERS:
            return []
        found = await self.database.read(suggestions.names, collection, typed.strip(), limit=MAX_NAMES)
        return [Suggestion("name", name, count, name) for name, count in found.items()]


def _with_word(values: Values, beginning: str) -> Iterator[str]:
    """Yield the folded values in which a word begins with *beginning*."""
    wanted = f" {beginning}"
    return (each for each in values if beginning in each and (each.startswith(beginning) or wanted in each))


def _tails(typed: str) -> Iterator[tuple[str, str]]:
    """Yield the text before the last three, two and one words of *typed*, and these words, folded."""
    starts = [found.start() for found in re.finditer(r"\S+", typed)]
    for start in starts[-MAX_WORDS:]:
        if len(typed[start:].strip()) >= MIN_LETTERS:
            yield typed[:start], " ".join(fold(typed[start:]).split())

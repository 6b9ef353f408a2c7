"""Which matches are weak: no nearer to the query than what has nothing to do with it. Figures: docs/relevance.md.

There is always a nearest image, also for a query that means nothing. What tells the two apart cannot be read from the
collection's own scores: where many images match, those are what the others would be compared with. So a query is
compared with a background that has nothing to do with the collection, where the model has one, and else with what
nonsense scored in the collection when `syncer calibrate` measured it.
"""

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from server.search.query import Query
from shared.embedders.base import Embedder, HasBackground
from shared.errors import SettingsError
from shared.models import Collection
from shared.sql import calibrations
from shared.sql.calibrations import Calibration

if TYPE_CHECKING:
    from server.context import AppContext

KNOWN_AGAIN_AFTER = 30.0  # seconds
LEVELS = 10_000  # of queries, for each collection

# Chosen by one set of sentences, and reported on another: bench/relevance.py, docs/relevance.md.
KNOWN = 50  # the nearest of the background, whose mean says how much a query means to the model
WORDS_APART = 2.0  # standard deviations
WORDS_KNOWN = 0.0022
IMAGES_APART = 1.5


class Chance(Protocol):
    """What a query scores in a collection by chance."""

    def level(self, query: Query) -> float:
        """Return the cosine below which a match of *query* is weak."""


@dataclass(frozen=True)
class Background:
    """Chance as a background tells it: unit vectors [n, dimensions] of what images can show, of no collection.

    ``images`` is how many the collection has: the best of many unrelated ones comes nearer than the best of few, as the
    largest of n independent normal values, which is about sqrt(2 ln n) standard deviations from their mean.
    """

    vectors: NDArray[np.float32]
    images: int

    def level(self, query: Query) -> float:
        scores = self.vectors @ query.vector
        mean, spread = float(scores.mean()), float(scores.std())
        largest = math.sqrt(2 * math.log(max(self.images, 2)))
        # A text that means nothing is near to nothing that the model knows: the less it is, the more is asked.
        known = max(float(np.partition(scores, -KNOWN)[-KNOWN:].mean()), 0.01)
        words = max(mean + WORDS_APART * spread, WORDS_KNOWN * largest / known**2)
        images = mean + IMAGES_APART * largest * spread
        share = query.mixture.image_share
        return min(1.0, (1 - share) * words + share * images)


@dataclass(frozen=True)
class Measured:
    """Chance as it was measured in the collection: in a sum each term scores what nonsense in its place would."""

    calibration: Calibration

    def level(self, query: Query) -> float:
        found, mixture = self.calibration, query.mixture
        return min(
            1.0,
            mixture.words * found.words_level
            + mixture.images * found.image_level
            - mixture.words_against * found.words_mean
            - mixture.images_against * found.image_mean,
        )


@dataclass
class Known:
    """What is known of chance in one collection, None for nothing, and of the queries that were compared with it."""

    until: float
    chance: Chance | None
    levels: dict[str, float] = field(default_factory=dict)

    def level(self, query: Query) -> float | None:
        """Return the cosine below which a match of *query* is weak. To compare takes 0.1 ms, so it is kept."""
        if self.chance is None:
            return None
        if query.scope not in self.levels:
            if len(self.levels) >= LEVELS:
                self.levels.clear()
            self.levels[query.scope] = self.chance.level(query)
        return self.levels[query.scope]


@dataclass
class RelevanceThresholds:
    """What is known of chance in each collection, for some time."""

    _backgrounds: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    _known: dict[tuple[str, str], Known] = field(default_factory=dict)

    async def of(self, app: "AppContext", collection: Collection) -> Known:
        """Return what is known of chance in the collection."""
        name = collection.bucket, collection.model
        known = self._known.get(name)
        if known is None or known.until < time.monotonic():
            chance = await self._find(app, collection)
            known = self._known[name] = Known(time.monotonic() + KNOWN_AGAIN_AFTER, chance)
        return known

    async def _find(self, app: "AppContext", collection: Collection) -> Chance | None:
        try:
            embedder: Embedder | None = app.embedder(collection)
        except SettingsError:  # no token: a server that encodes texts itself needs none
            embedder = None
        if isinstance(embedder, HasBackground):
            if embedder.name not in self._backgrounds:
                self._backgrounds[embedder.name] = await embedder.background()
            return Background(self._backgrounds[embedder.name], await app.known.embedded(collection))
        measured = await app.database.read(calibrations.find, bucket=collection.bucket, model=collection.model)
        return Measured(measured) if measured else None


async def threshold(app: "AppContext", collection: Collection, query: Query) -> float | None:
    """Return the cosine below which a match of *query* is weak; None where nothing can be said."""
    return (await app.chances.of(app, collection)).level(query)

"""The weak-match threshold: the score that images unrelated to a query reach. Figures: docs/relevance.md.

Every query has a nearest image, even a meaningless one. The collection's own scores cannot tell a match from chance:
where many images match, those matches are most of the scores. So a query is compared with reference vectors unrelated
to the collection, if its model has them, and otherwise with the scores of nonsense texts measured by `syncer
calibrate`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.cache.collection_cache import CollectionCache
from server.cache.single_flight import SingleFlightCache
from server.search.query import Query
from shared.db.pool import Database
from shared.embedders.base import Embedder, HasReferenceVectors
from shared.models import Collection
from shared.sql import calibrations
from shared.sql.calibrations import Calibration

TTL = 30.0  # seconds
MAX_COLLECTIONS = 10_000

# Chosen with one set of sentences and reported on another: bench/relevance.py, docs/relevance.md.
NEAREST = 50  # vectors of the background; their mean score says how much a query means to the model
WORDS_DEVIATIONS = 2.0
WORDS_MEANING = 0.0022
BEST = 5  # vectors of the background; their mean score is what an image of the query alone would reach
WORDS_PRESENT = 0.75  # share of it that an image of the query among other things reaches
IMAGES_DEVIATIONS = 1.1


@dataclass(frozen=True)
class BackgroundBaseline:
    """A baseline from unit vectors [n, dimensions] of what images can show, independent of the collection.

    ``images`` is the size of the collection. The best of many unrelated images comes nearer than the best of few: the
    largest of n independent normal values is about sqrt(2 ln n) standard deviations above their mean.
    """

    vectors: NDArray[np.float32]
    images: int

    def threshold(self, query: Query) -> float:
        """Return the cosine below which a match of *query* is weak."""
        scores = self.vectors @ query.vector
        mean, spread = float(scores.mean()), float(scores.std())
        largest = math.sqrt(2 * math.log(max(self.images, 2)))
        # A text without meaning is near nothing that the model knows: the lower this is, the higher the threshold.
        nearest = np.sort(scores)[-NEAREST:]
        meaning = max(float(nearest.mean()), 0.01)
        words = max(
            mean + WORDS_DEVIATIONS * spread,
            WORDS_MEANING * largest / meaning**2,
            WORDS_PRESENT * float(nearest[-BEST:].mean()),
        )
        images = mean + IMAGES_DEVIATIONS * largest * spread
        share = query.mixture.image_share
        return min(1.0, (1 - share) * words + share * images)


@dataclass(frozen=True)
class CalibratedBaseline:
    """A baseline measured in the collection: each term of a sum scores like nonsense in its place."""

    calibration: Calibration

    def threshold(self, query: Query) -> float:
        """Return the cosine below which a match of *query* is weak."""
        measured, mixture = self.calibration, query.mixture
        return min(
            1.0,
            mixture.words * measured.words_level
            + mixture.images * measured.image_level
            - mixture.words_against * measured.words_mean
            - mixture.images_against * measured.image_mean,
        )


Baseline = BackgroundBaseline | CalibratedBaseline


class Relevance:
    """Weak-match thresholds of queries. Baselines are cached for some seconds."""

    def __init__(
        self, database: Database, collections: CollectionCache, find_embedder: Callable[[Collection], Embedder | None]
    ) -> None:
        self._database = database
        self._collections = collections
        self._find_embedder = find_embedder
        self._backgrounds: SingleFlightCache[str, NDArray[np.float32]] = SingleFlightCache(max_entries=MAX_COLLECTIONS)
        self._baselines: SingleFlightCache[tuple[str, str], Baseline | None] = SingleFlightCache(
            max_entries=MAX_COLLECTIONS, ttl=TTL
        )

    async def threshold(self, collection: Collection, query: Query) -> float | None:
        """Return the cosine below which a match of *query* is weak; None where no baseline exists."""
        key = collection.bucket, collection.model
        baseline = await self._baselines.get(key, self._baseline, collection)
        return baseline.threshold(query) if baseline else None

    async def _baseline(self, collection: Collection) -> Baseline | None:
        # A server that encodes texts itself may have no token for the collection's model, and so no embedder.
        embedder = self._find_embedder(collection)
        if isinstance(embedder, HasReferenceVectors):
            background = await self._backgrounds.get(embedder.name, embedder.reference_vectors)
            return BackgroundBaseline(background, await self._collections.embedded(collection))
        calibration = await self._database.read(calibrations.find, collection.bucket, collection.model)
        return CalibratedBaseline(calibration) if calibration else None

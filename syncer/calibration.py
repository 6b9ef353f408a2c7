"""Measure the cosines that meaningless queries reach in a collection, so that searches can mark weak matches.

docs/relevance.md has the figures.
"""

import random
import string
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from shared.db.pool import Database
from shared.embedders.base import Embedder, HasReferenceVectors
from shared.errors import SettingsError
from shared.models import Collection
from shared.sql import calibrations, stats, vector_search
from shared.sql.calibrations import Calibration
from shared.sql.vector_search import VectorQuery

TEXTS = 80
SAMPLE = 500  # images
# Share of the best matches of nonsense texts, and of pairs of images, that lie below the threshold.
QUANTILE = 0.95
# Syncs calibrate from MIN_IMAGES on, and again when a collection has grown by GROWTH.
MIN_IMAGES, GROWTH = 10, 10

_FUNCTION_WORDS = """
    a about above across also although and any because besides both but by despite either else ever for from hence how
    however if in instead into maybe moreover neither never nor not of often on onto or otherwise perhaps quite rather
    since so somehow such than that the their then thereby therefore these though thus to too until upon very whereas
    whether which while whose why with within without yet
"""
_CODE = ("x = {}", "return {}", "0x{:x}", "/{}/?q={}", "err {}", "v{}.{}", "[{}, {}]", "</{}>")


async def calibrate(database: Database, collection: Collection, embedder: Embedder) -> Calibration:
    """Measure the collection with its model, store the result for the servers, and return it.

    Embeds TEXTS texts, at the model's usual price. Raises SettingsError if the collection has too few images.
    """
    counts = await database.run(stats.counts, collection)
    images = np.array(await database.run(calibrations.random_vectors, collection, limit=SAMPLE), np.float32)
    if len(images) < 2:
        raise SettingsError(
            f"cannot calibrate {collection.bucket!r}: it has {len(images)} different embedded images, 2 are needed"
        )
    texts = await embedder.embed_texts(list(nonsense(TEXTS)))
    best = [await _best(database, collection, vector) for vector in texts]
    pairs = (images @ images.T)[np.triu_indices(len(images), k=1)]
    measured = Calibration(
        words_level=float(np.quantile(best, QUANTILE)),
        words_mean=float((texts @ images.T).mean()),
        image_level=float(np.quantile(pairs, QUANTILE)),
        image_mean=float(pairs.mean()),
        images=counts.embedded,
        measured_at=datetime.now(UTC),
    )
    await database.run(calibrations.save, collection.bucket, embedder.name, measured)
    return measured


async def calibrate_if_free(database: Database, collection: Collection, embedder: Embedder) -> None:
    """Calibrate a collection with a local model for the first time, or again when it has grown by GROWTH.

    A model with background vectors needs no calibration. Raises ModelError, and SettingsError like ``calibrate``.
    """
    if not embedder.local or isinstance(embedder, HasReferenceVectors):
        return
    embedded = (await database.run(stats.counts, collection)).embedded
    found = await database.run(calibrations.find, collection.bucket, embedder.name)
    if embedded >= max(MIN_IMAGES, GROWTH * found.images if found else 0):
        await calibrate(database, collection, embedder)


async def _best(database: Database, collection: Collection, vector: NDArray[np.float32]) -> float:
    """Return the score of the image nearest to *vector*."""
    query = VectorQuery(vector.tolist())
    ranking, _ = await database.run(vector_search.rank, collection, query, limit=1, ef_search=None)
    (score,) = ranking.scores
    assert score is not None
    return score


def nonsense(count: int) -> Iterator[str]:
    """Yield *count* texts that describe no picture, the same ones each time.

    They are invented words, runs of keys, numbers, punctuation, function words and code.
    """
    rng = random.Random(0)  # nosec B311
    kinds = (_invented, _key_runs, _numbers, _punctuation, _function_words, _code)
    for number in range(count):
        yield kinds[number % len(kinds)](rng)


def _invented(rng: random.Random) -> str:
    def syllable() -> str:
        return "".join(rng.choice(letters) for letters in ("bdfgklmnprstvwz", "aeiou", "bdfgklmnprstvwz "))

    words = ["".join(syllable() for _ in range(rng.randint(1, 3))) for _ in range(rng.randint(1, 3))]
    return " ".join(" ".join(words).split())


def _key_runs(rng: random.Random) -> str:
    row = rng.choice(("qwertyuiop", "asdfghjkl", "zxcvbnm"))
    return "".join(rng.choice(row) for _ in range(rng.randint(4, 9)))


def _numbers(rng: random.Random) -> str:
    return " ".join(str(rng.randrange(10 ** rng.randint(1, 7))) for _ in range(rng.randint(1, 3)))


def _punctuation(rng: random.Random) -> str:
    return "".join(rng.choice(string.punctuation) for _ in range(rng.randint(1, 6)))


def _function_words(rng: random.Random) -> str:
    return " ".join(rng.sample(_FUNCTION_WORDS.split(), rng.randint(2, 5)))


def _code(rng: random.Random) -> str:
    return rng.choice(_CODE).format(rng.randrange(1000), rng.randrange(1000))

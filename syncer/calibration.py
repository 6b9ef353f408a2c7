"""Measures what chance reaches in a collection, so that searches can tell which matches are weak.

docs/relevance.md has the figures.
"""

import random
import string
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from shared.db.pool import Database
from shared.embedders.base import Embedder
from shared.errors import SettingsError
from shared.models import Collection
from shared.sql import calibrations, stats, vector_search
from shared.sql.calibrations import Calibration

TEXTS = 80
SAMPLE = 500  # images
# Of nonsense, so much is to stay below the level that its best matches reach; of pairs of images, as much.
QUANTILE = 0.95

_JOINING = """
    a about above across also although and any because besides both but by despite either else ever for from hence how
    however if in instead into maybe moreover neither never nor not of often on onto or otherwise perhaps quite rather
    since so somehow such than that the their then thereby therefore these though thus to too until upon very whereas
    whether which while whose why with within without yet
"""
_CODE = ("x = {}", "return {}", "0x{:x}", "/{}/?q={}", "err {}", "v{}.{}", "[{}, {}]", "</{}>")


async def calibrate(database: Database, collection: Collection, embedder: Embedder) -> Calibration:
    """Measure the collection with its model, keep the result for the servers, and return it.

    Costs one call of the model for each of TEXTS texts, for a model that is paid for. Raises SettingsError where the
    collection has too few images.
    """
    counted = await database.run(stats.counts, collection=collection)
    images = np.array(await database.run(calibrations.random_vectors, collection=collection, limit=SAMPLE), np.float32)
    if len(images) < 2:
        raise SettingsError(f"{collection.bucket!r} has {len(images)} different images with vectors: 2 are needed")
    texts = await embedder.embed_texts(list(nonsense(TEXTS)))
    best = [await _best(database, collection, vector) for vector in texts]
    pairs = (images @ images.T)[np.triu_indices(len(images), k=1)]
    measured = Calibration(
        words_level=float(np.quantile(best, QUANTILE)),
        words_mean=float((texts @ images.T).mean()),
        image_level=float(np.quantile(pairs, QUANTILE)),
        image_mean=float(pairs.mean()),
        images=counted.embedded,
        measured_at=datetime.now(UTC),
    )
    await database.run(calibrations.save, bucket=collection.bucket, model=embedder.name, measured=measured)
    return measured


async def _best(database: Database, collection: Collection, vector: NDArray[np.float32]) -> float:
    """Return the score of the image nearest to *vector*."""
    found = await database.run(vector_search.nearest, collection, vector.tolist(), limit=1)
    (score,) = found.scores
    assert score is not None
    return score


def nonsense(count: int) -> Iterator[str]:
    """Yield *count* texts that describe no picture, the same each time: invented words, keys, numbers, signs, words
    that only join others, code.
    """
    chance = random.Random(0)
    kinds = (_invented, _keys, _numbers, _signs, _joined, _coded)
    for number in range(count):
        yield kinds[number % len(kinds)](chance)


def _invented(chance: random.Random) -> str:
    def syllable() -> str:
        return "".join(chance.choice(letters) for letters in ("bdfgklmnprstvwz", "aeiou", "bdfgklmnprstvwz "))

    words = ["".join(syllable() for _ in range(chance.randint(1, 3))) for _ in range(chance.randint(1, 3))]
    return " ".join(" ".join(words).split())


def _keys(chance: random.Random) -> str:
    row = chance.choice(("qwertyuiop", "asdfghjkl", "zxcvbnm"))
    return "".join(chance.choice(row) for _ in range(chance.randint(4, 9)))


def _numbers(chance: random.Random) -> str:
    return " ".join(str(chance.randrange(10 ** chance.randint(1, 7))) for _ in range(chance.randint(1, 3)))


def _signs(chance: random.Random) -> str:
    return "".join(chance.choice(string.punctuation) for _ in range(chance.randint(1, 6)))


def _joined(chance: random.Random) -> str:
    return " ".join(chance.sample(_JOINING.split(), chance.randint(2, 5)))


def _coded(chance: random.Random) -> str:
    return chance.choice(_CODE).format(chance.randrange(1000), chance.randrange(1000))

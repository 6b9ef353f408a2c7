"""What is searched for: terms as addresses write them, their sum, and the vectors of texts and pictures.

A query is a sum of terms: texts, images of the collection and uploaded pictures, each with a weight. In an address each
is one ``term`` parameter, the gallery's and ``GET /api/search``'s alike, in this form:

    [-][WEIGHT*]KIND:VALUE

    term=image:12                    more like image 12 of the collection
    term=text:at night               and more like these words
    term=-text:people                and less like these
    term=0.5*query_image:HANDLE      and half as much like a picture that POST /api/query-images took

The value goes on to the end, colons and stars included. A weight is a decimal number such as 2 or 0.25, without it 1;
a minus counts against. The parameters ``q`` (one text) and ``query_image`` (one handle) are terms of weight 1. Like any
value these are percent-encoded, and none needs a plus sign, which would be read as a space.
"""

import asyncio
import hashlib
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np

from server import metrics
from shared.db.pool import Connection, Database
from shared.embedders.base import Embedder, Vector, unit_vector
from shared.sql import query_vectors
from shared.timing import timed

MEMORY = 2000  # texts; 3 kB each
# The database keeps this many texts, those that were asked for last, each for this long after it was asked for last;
# that is written down once a day.
KEPT = 100_000
UNUSED = timedelta(days=90)
RECENT = timedelta(days=1)
MAX_TERMS = 16
MAX_WEIGHT = 100.0
# Of the weights' sum; what is left below it is rounding: vectors are stored in half precision.
NOTHING = 0.01

_WRITTEN = re.compile(r"(-?)(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)\*)?(text|image|query_image):(.+)", re.DOTALL)

Kind = Literal["text", "image", "query_image", "image_url"]


@dataclass(frozen=True)
class Term:
    """One part of what is asked for: *value* is words, an image's id, a handle or an address, by *kind*.

    A negative *weight* counts against it.
    """

    kind: Kind
    value: str
    weight: float = 1.0

    @classmethod
    def parse(cls, written: str) -> "Term":
        """Return the term that an address writes; raise ValueError that says what is allowed."""
        match = _WRITTEN.fullmatch(written.strip())
        if match is None:
            raise ValueError("give [-][WEIGHT*]KIND:VALUE, such as text:at night, -text:people, 0.5*image:12")
        sign, weight, kind, value = match.groups()
        return cls(kind, value.strip(), float(sign + (weight or "1")))  # type: ignore[arg-type]

    def __str__(self) -> str:
        """The term as an address writes it."""
        amount = "" if abs(self.weight) == 1 else f"{np.format_float_positional(abs(self.weight), trim='-')}*"
        return f"{'-' if self.weight < 0 else ''}{amount}{self.kind}:{self.value}"


def normalised(text: str) -> str:
    """Return *text* in the form by which it is cached: composed characters, single spaces, lower case."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


@dataclass(frozen=True)
class Mixture:
    """What a query is made of: the weights of texts and of images in it, for and against, as shares of its length.

    A query of one text, or of one image, has 1 there and 0 elsewhere.
    """

    words: float = 0.0
    images: float = 0.0
    words_against: float = 0.0
    images_against: float = 0.0

    @property
    def image_share(self) -> float:
        """How much of the query comes from images, 0 to 1."""
        images = self.images + self.images_against
        return images / (images + self.words + self.words_against)


@dataclass(frozen=True, eq=False)
class Query:
    """What is searched for. ``vector`` has unit length; ``scope`` says in one text what was asked, and binds cursors to
    it; ``words`` are to be looked for in names and captions too; ``leave_out`` are images not to be shown.
    ``mixture`` is what it is made of.
    """

    vector: Vector
    scope: str
    words: str | None = None
    leave_out: frozenset[int] = frozenset()
    mixture: Mixture = Mixture(words=1.0)

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """All that a ranking depends on."""
        return self.vector.tobytes(), self.words, self.leave_out


def summed(parts: Sequence[tuple[float, Vector]]) -> tuple[Vector, float] | None:
    """Return the sum of unit vectors by their weights, normalised again, and the length that it had before; None where
    (nearly) nothing is left of it.

    This is how CLIP's vectors are combined: prompts by their mean (Radford et al. 2021, arXiv:2103.00020, section
    3.1.4), an image and a text by their sum (the baseline of Baldrati et al. 2022, CVPR, "Effective conditioned and
    composed image retrieval combining CLIP-based features"). docs/relevance.md says why there is no more to it.
    """
    total = np.zeros(len(parts[0][1]))
    for weight, vector in parts:
        total += weight * vector.astype(np.float64)
    length = float(np.linalg.norm(total))
    if length < NOTHING * sum(abs(weight) for weight, _ in parts):
        return None
    return (total / length).astype(np.float32), length


def as_kept(vector: Vector) -> Vector:
    """Return the unit vector that comes back from the database when *vector* is kept there, in half precision.

    What comes from the model goes through this too: else a search's second page, asked for elsewhere, would be one of
    a slightly different order.
    """
    return unit_vector(vector.astype(np.float16), dimensions=len(vector))


def from_database(values: Sequence[float]) -> Vector:
    """Return the unit vector of what is kept in the database."""
    # They come as the shortest decimals that mean the same in single precision, and no other.
    return unit_vector(np.asarray(values, np.float32), dimensions=len(values))


async def free() -> None:
    """Spend nothing: what a model on this machine costs."""


class QueryVectors:
    """Vectors of query texts for one model. What was asked once, on any server, costs no model call again."""

    def __init__(self, embedder: Embedder, database: Database, spend: Callable[[], Awaitable[None]] = free) -> None:
        """*spend* is awaited before each call of the model, and refuses it by what it raises."""
        self._embedder = embedder
        self._database = database
        self._spend = spend
        self._memory: OrderedDict[bytes, Vector] = OrderedDict()
        self._asked: dict[bytes, asyncio.Task[Vector]] = {}

    async def of(self, text: str) -> Vector:
        """Return the unit vector of *text*; raises ModelError when it is new and the model cannot be asked."""
        text = normalised(text)
        digest = hashlib.sha256(text.encode()).digest()
        if (known := self._memory.get(digest)) is not None:
            self._memory.move_to_end(digest)
            metrics.query_vectors.labels("memory").inc()
            return known
        vector = await self._stored(digest)
        metrics.query_vectors.labels("database" if vector is not None else "nowhere").inc()
        if vector is None:
            vector = await self._from_model(text, digest)
        self._memory[digest] = vector
        if len(self._memory) > MEMORY:
            self._memory.popitem(last=False)
        return vector

    async def _stored(self, digest: bytes) -> Vector | None:
        found = await self._database.run(query_vectors.find, model=self._embedder.name, digest=digest)
        if found is None:
            return None
        values, used_at = found
        vector = from_database(values)
        if datetime.now(UTC) - used_at > RECENT:
            await self._keep(digest, vector)
        return vector

    async def _from_model(self, text: str, digest: bytes) -> Vector:
        """Return what the model makes of the text; those who ask for the same text meanwhile share the call."""
        if digest not in self._asked:
            task = asyncio.create_task(self._ask(text, digest))
            self._asked[digest] = task
            task.add_done_callback(lambda _: self._asked.pop(digest))
        # Who goes away meanwhile does not end the call of the others.
        with timed("model"):
            return await asyncio.shield(self._asked[digest])

    async def _ask(self, text: str, digest: bytes) -> Vector:
        await self._spend()
        with metrics.model_call(self._embedder.name):
            vector: Vector = (await self._embedder.embed_texts([text]))[0]
        await self._keep(digest, vector)
        return as_kept(vector)

    async def _keep(self, digest: bytes, vector: Vector) -> None:
        now = datetime.now(UTC)

        async def keep(conn: Connection) -> None:
            await query_vectors.save(conn, self._embedder.name, digest, vector.tolist(), now=now)
            # Chosen by the digest, about one text in 256 pays for looking what can be forgotten.
            if digest[0] == 0:
                await query_vectors.prune(conn, unused_since=now - UNUSED, keep=KEPT)

        await self._database.run(keep)

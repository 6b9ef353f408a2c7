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

import hashlib
import re
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Literal

import numpy as np

from shared.db.pool import Database
from shared.embedders import Embedder, Vector, unit_vector
from shared.sql import query_vectors

MEMORY = 2000  # texts; 3 kB each
MAX_TERMS = 16
MAX_WEIGHT = 100.0

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


@dataclass(frozen=True, eq=False)
class Query:
    """What is searched for. ``vector`` has unit length; ``scope`` says in one text what was asked, and binds cursors to
    it; ``words`` are to be looked for in names and captions too; ``leave_out`` are images not to be shown.
    ``image_share`` is how much of it comes from images: 0 for words alone, 1 for images alone.
    """

    vector: Vector
    scope: str
    words: str | None = None
    leave_out: frozenset[int] = frozenset()
    image_share: float = 0.0


class QueryVectors:
    """Vectors of query texts for one model. What was asked once, on any server, costs no model call again."""

    def __init__(self, embedder: Embedder, database: Database) -> None:
        self._embedder = embedder
        self._database = database
        self._memory: OrderedDict[bytes, Vector] = OrderedDict()

    async def of(self, text: str) -> Vector:
        """Return the unit vector of *text*; raises ModelError when it is new and the model cannot be asked."""
        text = normalised(text)
        digest = hashlib.sha256(text.encode()).digest()
        if (known := self._memory.get(digest)) is not None:
            self._memory.move_to_end(digest)
            return known
        stored = await self._database.run(partial(query_vectors.find, model=self._embedder.name, digest=digest))
        if stored is None:
            vector: Vector = (await self._embedder.embed_texts([text]))[0]
            await self._database.run(
                partial(
                    query_vectors.save,
                    model=self._embedder.name,
                    digest=digest,
                    vector=vector.tolist(),
                    now=datetime.now(UTC),
                )
            )
        else:
            vector = unit_vector(stored, dimensions=self._embedder.dimensions)
        self._memory[digest] = vector
        if len(self._memory) > MEMORY:
            self._memory.popitem(last=False)
        return vector

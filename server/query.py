"""What is searched for, as a vector. Query texts become vectors from memory, from the database, and only then from the
model.
"""

import hashlib
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from shared.db.pool import Database
from shared.embedders import Embedder, Vector, unit_vector
from shared.sql import query_vectors

MEMORY = 2000  # texts; 3 kB each


def normalised(text: str) -> str:
    """Return *text* in the form by which it is cached: composed characters, single spaces, lower case."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


@dataclass(frozen=True, eq=False)
class Query:
    """What is searched for. ``vector`` has unit length; ``scope`` says in one text what was asked, and binds cursors to
    it; ``words`` are to be looked for in names and captions too; ``leave_out`` are images not to be shown.
    """

    vector: Vector
    scope: str
    words: str | None = None
    leave_out: frozenset[int] = frozenset()


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

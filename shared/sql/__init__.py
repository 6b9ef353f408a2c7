"""Every SQL statement of the program, a module per subject. The caller owns the connection and the transaction.

Statements over a collection's tables name them by placeholders such as ``{images}``; ``for_collection`` fills them in.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import LiteralString

from psycopg.sql import SQL, Identifier
from pydantic_core import to_json

from shared.db import table_names
from shared.models import Collection


def for_collection(statement: LiteralString, collection: Collection) -> bytes:
    """Return *statement* with the names of the collection's tables in it, quoted."""
    return _filled(statement, collection.base, collection.vectors)


@lru_cache(maxsize=2048)
def _filled(statement: LiteralString, base: str, vectors: str) -> bytes:
    tables = {name: Identifier(f"{base}_{suffix}") for name, suffix in table_names.SUFFIXES.items()}
    tables["embeddings"] = tables[vectors]
    return SQL(statement).format(**tables).as_bytes(None)


def vector_text(vector: Sequence[float]) -> str:
    """Return a vector in pgvector's text form, for a parameter that the statement casts to halfvec.

    Text spares the four queries that registering pgvector's types costs for each new connection. It is the same as
    JSON, and pydantic writes that many times faster than Python numbers one by one.
    """
    return to_json(vector).decode()

"""All SQL statements, one module per subject. The caller owns the connection and the transaction.

Statements refer to a collection's tables by placeholders such as ``{images}``, which ``for_collection`` replaces.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import LiteralString

from psycopg.sql import SQL, Identifier
from pydantic_core import to_json

from shared.db import table_names
from shared.models import Collection


def for_collection(statement: LiteralString, collection: Collection) -> bytes:
    """Return *statement* with its placeholders replaced by the quoted names of the collection's tables."""
    return _format(statement, collection.base, collection.vectors)


@lru_cache(maxsize=2048)
def _format(statement: LiteralString, base: str, vectors: str) -> bytes:
    tables = {name: Identifier(f"{base}_{suffix}") for name, suffix in table_names.SUFFIXES.items()}
    tables["embeddings"] = tables[vectors]
    return SQL(statement).format(**tables).as_bytes(None)


def vector_text(vector: Sequence[float]) -> str:
    """Return a vector in pgvector's text format, for a parameter that the statement casts to halfvec.

    Text avoids the four queries that registering pgvector's types costs on each new connection. The format equals JSON,
    which pydantic serialises many times faster than a loop in Python.
    """
    return to_json(vector).decode()

"""All SQL statements, one module per subject. The caller owns the connection and the transaction.

Statements refer to a collection's tables by placeholders such as ``{images}``, which ``for_collection`` replaces.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, LiteralString, TypeVar

from psycopg import AsyncClientCursor, AsyncCursor
from psycopg.errors import UndefinedTable
from psycopg.rows import kwargs_row
from psycopg.sql import SQL, Literal
from pydantic_core import to_json

from shared.db import table_names
from shared.db.pool import Connection
from shared.models import Collection

Row = TypeVar("Row")
Parameters = Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True)
class Statement:
    """A statement and its parameters, by name."""

    text: LiteralString
    parameters: Mapping[str, Any]


def for_collection(statement: LiteralString, collection: Collection) -> bytes:
    """Return *statement* with its placeholders replaced by the quoted names of the collection's tables."""
    return _format(statement, collection.base, collection.vectors, collection.dimensions)


@lru_cache(maxsize=2048)
def _format(statement: LiteralString, base: str, vectors: str, dimensions: int) -> bytes:
    names = table_names.identifiers(base)
    prefix = vectors.removesuffix("embeddings")
    for name in ("embeddings", *table_names.VECTOR_INDEXES):
        names[name] = names[prefix + name]
    return SQL(statement).format(**names, dimensions=Literal(dimensions)).as_bytes(None)


def vector_text(vector: Sequence[float]) -> str:
    """Return a vector in pgvector's text format, for a parameter that the statement casts to halfvec.

    Text avoids the four queries that registering pgvector's types costs on each new connection. The format equals JSON,
    which pydantic serialises many times faster than a loop in Python.
    """
    return to_json(vector).decode()


async def execute(
    conn: Connection, collection: Collection, statement: LiteralString, parameters: Parameters | None = None
) -> AsyncCursor[Any]:
    """Run *statement* on the collection's tables and return the cursor."""
    return await conn.execute(for_collection(statement, collection), parameters)


async def fetch_all(
    conn: Connection,
    collection: Collection | None,
    row: Callable[..., Row],
    statement: LiteralString,
    parameters: Parameters | None = None,
) -> list[Row]:
    """Return the rows of *statement*, each passed to *row* as keyword arguments."""
    async with conn.cursor(row_factory=kwargs_row(row)) as cur:
        await cur.execute(for_collection(statement, collection) if collection else statement, parameters)
        return await cur.fetchall()


async def fetch_one(
    conn: Connection,
    collection: Collection | None,
    row: Callable[..., Row],
    statement: LiteralString,
    parameters: Parameters | None = None,
) -> Row | None:
    """Return the first row of *statement*, passed to *row* as keyword arguments, or None."""
    rows = await fetch_all(conn, collection, row, statement, parameters)
    return rows[0] if rows else None


async def fetch_value(
    conn: Connection, collection: Collection | None, statement: LiteralString, parameters: Parameters | None = None
) -> Any:
    """Return the first column of the first row of *statement*, or None without rows."""
    cur = await conn.execute(for_collection(statement, collection) if collection else statement, parameters)
    row = await cur.fetchone()
    return row[0] if row else None


async def fetch_sets(
    conn: Connection, collection: Collection, statements: Sequence[Statement]
) -> list[list[tuple[Any, ...]]]:
    """Return the rows of each of the *statements* that returns rows.

    They are sent as one message: one round trip, and one transaction unless there is one already. A parameter has the
    same value in all of them.
    """
    text: LiteralString = ";".join(statement.text for statement in statements)
    parameters = {name: value for statement in statements for name, value in statement.parameters.items()}
    # A message of several statements cannot have parameters, so psycopg puts their literals into the text.
    async with AsyncClientCursor(conn) as cur:
        await cur.execute(for_collection(text, collection), parameters)
        sets = []
        while True:
            if cur.description is not None:
                sets.append(await cur.fetchall())
            if not cur.nextset():
                return sets


async def fetch_each(
    conn: Connection, collections: Sequence[Collection], row: Callable[..., Row], statement: LiteralString
) -> dict[Collection, list[Row]]:
    """Return the rows of *statement* for each collection, in one round trip.

    The fields of the collection are the parameters. Collections dropped meanwhile are left out.
    """
    async with AsyncClientCursor(conn, row_factory=kwargs_row(row)) as cur:
        parts = [cur.mogrify(for_collection(statement, each), vars(each)) for each in collections]
        try:
            await cur.execute(";".join(parts).encode())
        except UndefinedTable:
            if len(collections) == 1:
                return {}
            single = [await fetch_each(conn, [each], row, statement) for each in collections]
            return {collection: rows for each in single for collection, rows in each.items()}
        return {each: await _next_rows(cur) for each in collections}


async def _next_rows(cur: AsyncCursor[Row]) -> list[Row]:
    rows = await cur.fetchall()
    cur.nextset()
    return rows

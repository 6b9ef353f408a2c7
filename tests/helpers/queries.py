"""Queries on the database of a command."""

from typing import Any, LiteralString

import psycopg


def query(database_url: str, statement: LiteralString) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows; none if the table does not exist yet."""
    with psycopg.connect(database_url) as conn:
        try:
            cur = conn.execute(statement)
        except psycopg.errors.UndefinedTable:
            return []
        return cur.fetchall() if cur.description else []

"""Rows about images as CSV or JSON, made while they are sent."""

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from pydantic_core import to_json

from server.schemas.responses import ExportRow

# Spreadsheets run a cell that begins with one of these as a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


async def csv_lines(pages: AsyncIterator[Sequence[ExportRow]]) -> AsyncGenerator[bytes, None]:
    """Yield the rows as CSV in UTF-8, with the byte order mark by which spreadsheets recognise it."""
    yield "\ufeff".encode() + _csv([list(ExportRow.__annotations__)])
    async for rows in pages:
        yield _csv([[_cell(value) for value in row.values()] for row in rows])


async def json_lines(pages: AsyncIterator[Sequence[ExportRow]]) -> AsyncGenerator[bytes, None]:
    """Yield the rows as a JSON object like that of a list of images."""
    start = b'{"images": ['
    async for rows in pages:
        for row in rows:
            yield start + b"\n" + to_json(row)
            start = b","
    yield (b"" if start == b"," else start) + b"]}\n"


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, list):
        value = "; ".join(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value

"""SQL conditions of filters, the same for every list."""

from datetime import datetime
from typing import Any, LiteralString

from shared.models import Filters, Placement

EVERYTHING = Filters()

# Conditions on {images} i; values are parameters of the same names.
_CONDITIONS: dict[str, LiteralString] = {
    "taken_after": "i.taken_local >= %(taken_after)s",
    "taken_before": "i.taken_local < %(taken_before)s",
    "taken_until": "i.taken_local < %(taken_until)s::date + 1",
    "camera": "lower(i.camera) = lower(%(camera)s)",
    # Keys that begin with the folder and a slash are a range of the unique index: in byte order, "0" follows "/".
    "folder": "i.r2_key > %(folder)s || '/' AND i.r2_key < %(folder)s || '0'",
    "orientation": "sign(i.width - i.height) = %(orientation)s",
    "type": "i.content_type = %(type)s",
    "min_width": "i.width >= %(min_width)s",
    "max_width": "i.width <= %(max_width)s",
    "min_height": "i.height >= %(min_height)s",
    "max_height": "i.height <= %(max_height)s",
    "min_size": "i.size >= %(min_size)s",
    "max_size": "i.size <= %(max_size)s",
}
# The conditions for times with an offset.
_MOMENTS: dict[str, LiteralString] = {
    "taken_after": "i.taken_at >= %(taken_after)s",
    "taken_before": "i.taken_at < %(taken_before)s",
}
_ORIENTATIONS = {"landscape": 1, "square": 0, "portrait": -1}


def condition(filters: Filters) -> tuple[LiteralString, dict[str, Any]]:
    """Return the condition on a row of {images} ``i``, "true" without filters, and its parameters."""
    values = {name: value for name, value in vars(filters).items() if value is not None}
    text: LiteralString = " AND ".join(_condition(name, value) for name, value in values.items()) or "true"
    if filters.orientation:
        values["orientation"] = _ORIENTATIONS[filters.orientation]
    return text, values


def _condition(name: str, value: object) -> LiteralString:
    is_moment = isinstance(value, datetime) and value.tzinfo is not None
    return _MOMENTS[name] if is_moment else _CONDITIONS[name]


def embedded_rows(filters: Filters) -> tuple[LiteralString, dict[str, Any]]:
    """Return FROM and WHERE clauses for the filtered rows of {embeddings} ``e`` that have a vector."""
    text, values = _passing(filters)
    return f"{{embeddings}} AS e WHERE e.embedding IS NOT NULL AND {text}", values


def _passing(filters: Filters) -> tuple[LiteralString, dict[str, Any]]:
    text, values = condition(filters)
    return (f"e.id IN (SELECT i.id FROM {{images}} AS i WHERE {text})" if values else text), values  # noqa: S608 - constants


def row_condition(filters: Filters, placement: Placement) -> tuple[LiteralString, dict[str, Any]]:
    """Return the condition on a row of {embeddings} ``e`` that an index scan finds.

    It looks up the image of each row: with a join, the planner could choose not to scan the index. Workers that have no
    images get the ids of all that pass.
    """
    if placement != "local":
        return _passing(filters)
    text, values = condition(filters)
    return (f"(SELECT {text} FROM {{images}} AS i WHERE i.id = e.id)" if values else text), values  # noqa: S608 - constants

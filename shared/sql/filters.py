"""SQL conditions of filters, the same for every list."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

from shared import colours
from shared.models import Filters, Placement

EVERYTHING = Filters()

# Conditions on {images} i for one value.
_CONDITIONS: dict[str, LiteralString] = {
    "taken_after": "i.taken_local >= %(value)s",
    "taken_before": "i.taken_local < %(value)s",
    "taken_until": "i.taken_local < %(value)s::date + 1",
    "camera": "lower(i.camera) = lower(%(value)s)",
    # Keys that begin with the folder and a slash are a range of the unique index: in byte order, "0" follows "/".
    "folder": "i.r2_key > %(value)s || '/' AND i.r2_key < %(value)s || '0'",
    "orientation": "sign(i.width - i.height) = %(value)s",
    "type": "i.content_type = %(value)s",
    "colour": "i.colours && %(value)s::smallint[]",
    "place": "i.places && ARRAY(SELECT p.id FROM places AS p WHERE p.names @> ARRAY[folded(%(value)s)])",
    "min_width": "i.width >= %(value)s",
    "max_width": "i.width <= %(value)s",
    "min_height": "i.height >= %(value)s",
    "max_height": "i.height <= %(value)s",
    "min_size": "i.size >= %(value)s",
    "max_size": "i.size <= %(value)s",
    "min_pixels": "i.width::bigint * i.height >= %(value)s",
    "max_pixels": "i.width::bigint * i.height <= %(value)s",
    # Both parts are scans of an index, which an OR would prevent.
    "exact": """
        i.id IN (SELECT m.id FROM {images} AS m
                  WHERE image_words(m.r2_key, m.keywords, m.title, m.caption, m.exif, m.places)
                        @@ phraseto_tsquery('simple', tokens(%(value)s))
                  UNION
                 SELECT t.id FROM {texts} AS t WHERE t.words @@ phraseto_tsquery('simple', tokens(%(value)s)))""",
}
# The conditions for times with an offset.
_MOMENTS: dict[str, LiteralString] = {
    "taken_after": "i.taken_at >= %(value)s",
    "taken_before": "i.taken_at < %(value)s",
}
_ORIENTATIONS = {"landscape": 1, "square": 0, "portrait": -1}


def condition(filters: Filters) -> tuple[LiteralString, dict[str, Any]]:
    """Return the condition on a row of {images} ``i``, "true" without filters, and its parameters."""
    conditions: list[LiteralString] = []
    parameters: dict[str, Any] = {}
    for name, given in vars(filters).items():
        values = given if isinstance(given, tuple) else () if given is None else (given,)
        if values:
            conditions.append(_any_of(name, values))
            parameters |= {f"{name}_{n}": _parameter(name, value) for n, value in enumerate(values)}
    return " AND ".join(conditions) or "true", parameters


def _any_of(name: str, values: Sequence[Any]) -> LiteralString:
    """Return the condition that any of *values* applies, for a ``not_`` filter none of them, for ``exact`` all of them.

    A condition for each value lets the planner combine scans of an index.
    """
    kind = name.removeprefix("not_")
    joint: LiteralString = " AND " if name == "exact" else " OR "
    found = joint.join(_condition(kind, v).replace("%(value)s", f"%({name}_{n})s") for n, v in enumerate(values))
    return f"({found})" if kind == name else f"({found}) IS NOT TRUE"


def _condition(name: str, value: object) -> LiteralString:
    is_moment = isinstance(value, datetime) and value.tzinfo is not None
    return _MOMENTS[name] if is_moment else _CONDITIONS[name]


def _parameter(name: str, value: Any) -> Any:
    match name.removeprefix("not_"):
        case "orientation":
            return _ORIENTATIONS[value]
        case "colour":
            return colours.codes(value)
    return value


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

"""Facets: the cameras, folders, types, colours, places and dates of a list of images, with counts."""

from dataclasses import replace
from typing import Any, LiteralString

from shared.colours import COLOURS
from shared.db.pool import Connection
from shared.models import Collection, Facets, Filters
from shared.sql import Statement, fetch_one
from shared.sql.filters import condition

MAX_VALUES = 200  # of each facet, the most frequent

_FOLDER = "%(prefix)s || split_part(substr(i.r2_key, length(%(prefix)s) + 1), '/', 1)"
_HAS_FOLDER = """
    (%(prefix)s = '' OR i.r2_key > %(prefix)s AND i.r2_key < left(%(prefix)s, -1) || '0')
    AND strpos(substr(i.r2_key, length(%(prefix)s) + 1), '/') > 0"""


async def read(conn: Connection, collection: Collection, filters: Filters, matching: Statement | None = None) -> Facets:
    """Return the values that filters can take, with the folders directly below the last one in *filters*.

    Each facet counts the images that pass all filters but its own, and are among the ids that *matching* selects.
    That takes about 0.25 s for 100,000 images, half of it for colours.
    """
    values: dict[str, Any] = {"prefix": f"{filters.folder[-1]}/" if filters.folder else "", "max": MAX_VALUES}
    ids: LiteralString = matching.text if matching else "SELECT NULL::bigint AS id"

    def passing(without: Filters) -> LiteralString:
        where, given = condition(without)
        values.update(given)
        # An array: the planner expects so many rows of a semi-join that it would scan all images for each facet.
        return f"{where} AND i.id = ANY (ARRAY(SELECT id FROM matching))" if matching else where  # noqa: S608 - constants

    cameras = f"i.camera IS NOT NULL AND {passing(replace(filters, camera=(), not_camera=()))}"
    folders = f"{_HAS_FOLDER} AND {passing(replace(filters, folder=(), not_folder=()))}"
    types = passing(replace(filters, type=(), not_type=()))
    colour = f"code < %(named)s AND {passing(replace(filters, colour=(), not_colour=()))}"
    coloured: LiteralString = "{images} AS i, unnest(i.colours) AS code"
    place = passing(replace(filters, place=(), not_place=()))
    placed: LiteralString = "{images} AS i, unnest(i.places) AS place JOIN places AS p ON p.id = place"
    dates = passing(replace(filters, taken_after=None, taken_before=None, taken_until=None))
    statement: LiteralString = f"""
        WITH matching AS MATERIALIZED ({ids})
        SELECT ({_counts("min(i.camera)", cameras, group="lower(i.camera)")}) AS cameras,
               ({_counts(_FOLDER, folders)}) AS folders,
               ({_counts("i.content_type", types)}) AS types,
               ({_counts("(%(colours)s::text[])[code + 1]", colour, source=coloured)}) AS colours,
               ({_counts("p.name", place, source=placed)}) AS places,
               first_taken, last_taken
          FROM (SELECT min(i.taken_local) AS first_taken, max(i.taken_local) AS last_taken
                  FROM {{images}} AS i WHERE {dates}) AS taken
    """  # noqa: S608 - constants
    values |= {"colours": list(COLOURS), "named": len(COLOURS)}
    values |= matching.parameters if matching else {}
    found = await fetch_one(conn, collection, Facets, statement, values)
    assert found
    return found


def _counts(
    value: LiteralString,
    where: LiteralString,
    *,
    source: LiteralString = "{images} AS i",
    group: LiteralString = "1",
) -> LiteralString:
    """Return the query of a JSON object with the number of images for each value, the most frequent first."""
    return f"""
        SELECT coalesce(json_object_agg(value, count ORDER BY count DESC, value), json_build_object())
          FROM (SELECT {value} AS value, count(*) AS count FROM {source} WHERE {where}
                 GROUP BY {group} ORDER BY count DESC, value LIMIT %(max)s) AS counted
    """  # noqa: S608 - constants

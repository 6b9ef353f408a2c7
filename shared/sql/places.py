"""Places where images were taken, by their ids in GeoNames."""

from collections.abc import Mapping, Sequence

from pydantic_core import to_json

from shared.db.pool import Connection
from shared.models import Collection, NamedPlace, Position
from shared.sql import execute, fetch_all


async def missing(conn: Connection, collection: Collection, *, limit: int) -> list[Position]:
    """Return the positions of up to *limit* images whose places were not looked up."""
    statement = """
        SELECT id, latitude, longitude FROM {images}
         WHERE places IS NULL AND latitude IS NOT NULL ORDER BY id LIMIT %(limit)s
    """
    return await fetch_all(conn, collection, Position, statement, {"limit": limit})


async def names(conn: Connection, collection: Collection) -> dict[str, str]:
    """Return the English names of the collection's places by their folded names in any language."""
    statement = """
        SELECT DISTINCT ON (each) each, p.name FROM places AS p, unnest(p.names) AS each
         WHERE p.id IN (SELECT unnest(places) FROM {images})
         ORDER BY each, p.kind = 'country' DESC, p.id
    """
    return dict(await (await execute(conn, collection, statement)).fetchall())


async def fill(conn: Connection, collection: Collection, found: Mapping[Position, Sequence[NamedPlace]]) -> None:
    """Store the places of images, the nearest first, unless their positions have changed meanwhile."""
    statement = """
        INSERT INTO places (id, kind, name, names)
        SELECT id, kind, name, ARRAY(SELECT DISTINCT folded(each) FROM unnest(names) AS each)
          FROM json_populate_recordset(NULL::places, %(places)s) ORDER BY id
        ON CONFLICT (id) DO NOTHING
    """
    places = {place.id: place for each in found.values() for place in each}
    await conn.execute(statement, {"places": to_json(list(places.values())).decode()})
    statement = """
        UPDATE {images} AS i SET places = given.places
          FROM json_populate_recordset(NULL::{images}, %(rows)s) AS given
         WHERE i.id = given.id AND (i.latitude, i.longitude) = (given.latitude, given.longitude)
    """
    rows = [vars(position) | {"places": [place.id for place in each]} for position, each in found.items()]
    await execute(conn, collection, statement, {"rows": to_json(rows).decode()})

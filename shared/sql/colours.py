"""Colours of images that earlier versions added without them."""

from collections.abc import Mapping, Sequence

from shared.db.pool import Connection
from shared.models import Collection
from shared.sql import execute


async def missing(conn: Connection, collection: Collection, *, limit: int) -> dict[int, bytes]:
    """Return up to *limit* images without colours: their placeholders by id, WebP files, empty if there is none."""
    statement = "SELECT id, coalesce(placeholder, '') FROM {images} WHERE colours IS NULL ORDER BY id LIMIT %s"
    return dict(await (await execute(conn, collection, statement, [limit])).fetchall())


async def fill(conn: Connection, collection: Collection, colours: Mapping[int, Sequence[int]]) -> None:
    """Store the colour codes of images by id, unless they have some by now."""
    statement = """
        UPDATE {images} AS i SET colours = given.colours::smallint[]
          FROM unnest(%(ids)s::bigint[], %(colours)s::text[]) AS given (id, colours)
         WHERE i.id = given.id AND i.colours IS NULL
    """
    literals = ["{" + ",".join(map(str, codes)) + "}" for codes in colours.values()]
    await execute(conn, collection, statement, {"ids": list(colours), "colours": literals})

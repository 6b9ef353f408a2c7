"""Objects that lie in the bucket: which of them are indexed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.model import Collection
from shared.sql import for_collection


@dataclass(frozen=True)
class KnownObject:
    """What is known of the object under ``key``.

    ``origin`` is that of its image, None where there is none. ``size`` and ``mark`` are those with which it was
    adopted, removed through the API since or, with a ``reason``, refused; None where it was neither. ``in_hand`` says
    that somebody is about to store or delete it.
    """

    key: str
    origin: str | None
    size: int | None
    mark: int | None
    reason: str | None
    in_hand: bool


async def known(
    conn: AsyncConnection[Any], collection: Collection, source: int, keys: Sequence[str]
) -> list[KnownObject]:
    """Return for each of *keys*, in their order, what is known of its object; *source* is that of adopted objects."""
    async with conn.cursor(row_factory=class_row(KnownObject)) as cur:
        await cur.execute(
            for_collection(
                """
                SELECT listed.key, i.origin, f.size, f.ctime_ns AS mark, f.reason,
                       i.id IS NULL AND EXISTS (SELECT FROM {trash} AS t WHERE t.key = listed.key) AS in_hand
                  FROM unnest(%(keys)s::text[]) WITH ORDINALITY AS listed (key, position)
                  LEFT JOIN {images} AS i ON i.r2_key = listed.key
                  LEFT JOIN {files} AS f ON f.source_id = %(source)s AND f.path = listed.key
                       AND (f.image_id IS NOT NULL OR f.removed OR f.reason IS NOT NULL)
                 ORDER BY listed.position
                """,
                collection,
            ),
            {"source": source, "keys": list(keys)},
        )
        return await cur.fetchall()


async def reclaim(conn: AsyncConnection[Any], collection: Collection, source: int, key: str, sha256: bytes) -> None:
    """Make the adopted image under *key* the collection's own, as if a folder had brought it, if it has this content.

    What *source*, that of adopted objects, knows of it is forgotten: only what a folder brings is ever deleted with it.
    """
    reclaimed = await conn.execute(
        for_collection(
            "UPDATE {images} SET origin = 'folder' WHERE r2_key = %s AND origin = 'adopted' AND sha256 = %s", collection
        ),
        [key, sha256],
    )
    if reclaimed.rowcount:
        await conn.execute(
            for_collection("DELETE FROM {files} WHERE source_id = %s AND path = %s", collection), [source, key]
        )

"""Comparison of a bucket's listing with the images, for ``syncer verify``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.db.pool import Connection
from shared.models import Collection
from shared.sql import execute, fetch_all, fetch_value


@dataclass(frozen=True)
class DamagedImage:
    """An image whose object or thumbnail is missing, or whose object has another size than the image."""

    id: int
    key: str
    sha256: bytes
    problem: Literal["missing", "wrong size", "no thumbnail"]


async def count_known(conn: Connection, collection: Collection, keys: Sequence[str]) -> int:
    """Return how many of *keys* are those of images."""
    statement = "SELECT count(*) FROM {images} WHERE r2_key = ANY(%s)"
    return int(await fetch_value(conn, collection, statement, [list(keys)]))


async def find_damaged(
    conn: Connection, collection: Collection, objects: Sequence[tuple[str, int]], *, after: str, to: str | None
) -> list[DamagedImage]:
    """Return the images with keys in (*after*, *to*] that *objects*, (key, size) in that range, do not match.

    Without *to*, the range has no end. The size of an adopted object may differ from its image's: it may be compressed.
    """
    statement = """
        SELECT i.id, i.r2_key AS key, i.sha256, CASE WHEN o.key IS NULL THEN 'missing' ELSE 'wrong size' END AS problem
          FROM {images} AS i
          LEFT JOIN unnest(%(keys)s::text[], %(sizes)s::bigint[]) AS o (key, size) ON o.key = i.r2_key
         WHERE i.r2_key > %(after)s AND (%(to)s::text IS NULL OR i.r2_key <= %(to)s)
           AND (o.key IS NULL OR (i.origin <> 'adopted' AND o.size <> i.size))
         ORDER BY i.r2_key
    """
    keys, sizes = [key for key, _ in objects], [size for _, size in objects]
    parameters = {"keys": keys, "sizes": sizes, "after": after, "to": to}
    return await fetch_all(conn, collection, DamagedImage, statement, parameters)


async def find_without_derivative(
    conn: Connection, collection: Collection, contents: Sequence[bytes], *, after: bytes, to: bytes | None
) -> list[DamagedImage]:
    """Return the images with a content in (*after*, *to*] that should have derivatives and is not in *contents*."""
    statement = """
        SELECT id, r2_key AS key, sha256, 'no thumbnail' AS problem FROM {images}
         WHERE derivatives AND sha256 > %(after)s AND (%(to)s::bytea IS NULL OR sha256 <= %(to)s)
           AND NOT sha256 = ANY(%(contents)s)
         ORDER BY sha256
    """
    parameters = {"contents": list(contents), "after": after, "to": to}
    return await fetch_all(conn, collection, DamagedImage, statement, parameters)


async def files_of(conn: Connection, collection: Collection, ids: Sequence[int]) -> list[tuple[str, str]]:
    """Return the files that were uploaded as these images, as names of sources and paths."""
    statement = """
        SELECT s.name, f.path FROM {files} AS f JOIN sources AS s ON s.id = f.source_id
          JOIN {images} AS i ON i.id = f.image_id
         WHERE f.image_id = ANY(%s) AND i.origin = 'folder' ORDER BY s.name, f.path
    """
    cur = await execute(conn, collection, statement, [list(ids)])
    return await cur.fetchall()


async def upload_again(conn: Connection, collection: Collection, ids: Sequence[int]) -> None:
    """Let the next sync of each folder upload these images again; their vectors stay."""
    await execute(conn, collection, "UPDATE {files} SET sha256 = NULL WHERE image_id = ANY(%s)", [list(ids)])

"""The trash: objects that may lie in the bucket without an image that names them. See migrations/collection/0002."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.derivatives import preview_key, thumbnail_key
from shared.model import Collection
from shared.sql import for_collection

# For how long an upload's keys are safe without a sign of its end. One that takes longer stores its image again.
UPLOAD_TIME = timedelta(hours=1)


@dataclass(frozen=True)
class Announced:
    """What an upload finds when it notes its keys.

    ``leftovers`` are the contents (SHA-256) that ended uploads and removals may have left under the image's key: an
    object that holds one of them is ours. ``derived`` says that the content's thumbnail and preview are there,
    ``indexed`` that the image itself is, under this key.
    """

    leftovers: frozenset[bytes]
    derived: bool
    indexed: bool


@dataclass(frozen=True)
class Due:
    """An object that is to go, unless an image names it. ``contents`` is what it may hold, if it is ours."""

    key: str
    derived: bool
    stored: bool
    contents: list[bytes]
    named: bool


async def announce(
    conn: AsyncConnection[Any],
    collection: Collection,
    upload: UUID,
    *,
    key: str,
    sha256: bytes,
    derivatives: bool,
    source: int | None,
    adopted: bool = False,
) -> Announced:
    """Note what *upload* is about to store: nobody deletes it as long as the note is there and not due.

    Of an adopted image these are the thumbnail and the preview alone: the object itself is not ours to delete, whatever
    becomes of the upload.
    """
    await conn.execute(
        for_collection(
            """
            INSERT INTO {trash} (key, upload, sha256, derived, stored, source_id, due_at)
            SELECT noted, %(upload)s, %(sha256)s, noted <> %(key)s, false, %(source)s, now() + %(time)s
              FROM unnest(%(keys)s::text[]) AS noted
            """,
            collection,
        ),
        {
            "keys": _keys(key, sha256, derivatives=derivatives, adopted=adopted),
            "key": key,
            "upload": upload,
            "sha256": sha256,
            "source": source,
            "time": UPLOAD_TIME,
        },
    )
    # A statement of its own, which sees what was committed while the first one waited for those who empty the trash.
    cur = await conn.execute(
        for_collection(
            """
            SELECT ARRAY(SELECT sha256 FROM {trash} WHERE key = %(key)s AND due_at <= now()),
                   EXISTS (SELECT FROM {images} WHERE sha256 = %(sha256)s AND derivatives),
                   EXISTS (SELECT FROM {images} WHERE sha256 = %(sha256)s AND r2_key = %(key)s)
            """,
            collection,
        ),
        {"key": key, "sha256": sha256},
    )
    row = await cur.fetchone()
    assert row is not None
    return Announced(frozenset(row[0]), row[1], row[2])


async def arrived(
    conn: AsyncConnection[Any],
    collection: Collection,
    upload: UUID,
    *,
    key: str,
    sha256: bytes,
    derivatives: bool,
    adopted: bool = False,
) -> bool:
    """Take the upload's notes away, in the transaction that makes the image's row.

    False means that it took too long: somebody may have deleted what it stored. Content that another image under this
    key had until now is noted to go.
    """
    keys = _keys(key, sha256, derivatives=derivatives, adopted=adopted)
    taken = await conn.execute(
        for_collection("DELETE FROM {trash} WHERE key = ANY(%s) AND upload = %s", collection), [keys, upload]
    )
    if taken.rowcount < len(keys):
        return False
    # Other notes on the key speak of what lay there before. An upload of another process to the same key finds that
    # its own is gone, and looks again.
    await conn.execute(for_collection("DELETE FROM {trash} WHERE key = %s", collection), [key])
    cur = await conn.execute(
        for_collection("SELECT sha256 FROM {images} WHERE r2_key = %s AND sha256 <> %s AND derivatives", collection),
        [key, sha256],
    )
    for (replaced,) in await cur.fetchall():
        await throw_away(conn, collection, [(derived, replaced) for derived in _derived(replaced)])
    return True


async def give_up(conn: AsyncConnection[Any], collection: Collection, upload: UUID, *, key: str, stored: bool) -> None:
    """Let what the upload may have stored be deleted; with ``stored=False`` it surely stored nothing under *key*."""
    if not stored:
        await conn.execute(
            for_collection("DELETE FROM {trash} WHERE key = %s AND upload = %s", collection), [key, upload]
        )
    await conn.execute(for_collection("UPDATE {trash} SET due_at = now() WHERE upload = %s", collection), [upload])


async def give_up_all(conn: AsyncConnection[Any], collection: Collection, *, source: int | None) -> None:
    """Let go what uploads of the source have noted (None: all uploads): whoever made them has ended."""
    await conn.execute(
        for_collection(
            """
            UPDATE {trash} SET due_at = now()
             WHERE due_at > now() AND (%(source)s::int IS NULL OR source_id = %(source)s)
            """,
            collection,
        ),
        {"source": source},
    )


async def take_out(conn: AsyncConnection[Any], collection: Collection, ids: Sequence[int], *, tombstone: bool) -> int:
    """Remove images and note their objects to go, except those that were adopted; return how many there were.

    With *tombstone* the files that they came from are marked, so that the content does not come back with the next
    sync; without it the files are forgotten.
    """
    if tombstone:
        await conn.execute(
            for_collection(
                """
                UPDATE {files} AS f SET removed = true, sha256 = i.sha256, reason = NULL, detail = NULL
                  FROM {images} AS i WHERE i.id = f.image_id AND i.id = ANY(%s)
                """,
                collection,
            ),
            [list(ids)],
        )
    else:
        await conn.execute(for_collection("DELETE FROM {files} WHERE image_id = ANY(%s)", collection), [list(ids)])
    cur = await conn.execute(
        for_collection(
            "DELETE FROM {images} WHERE id = ANY(%s) RETURNING r2_key, sha256, derivatives, origin", collection
        ),
        [list(ids)],
    )
    removed = await cur.fetchall()
    objects = [(key, sha256) for key, sha256, _, origin in removed if origin != "adopted"]
    contents = {sha256 for _, sha256, derivatives, _ in removed if derivatives}
    objects += [(derived, sha256) for sha256 in contents for derived in _derived(sha256)]
    await throw_away(conn, collection, objects)
    return len(removed)


async def lock_due(conn: AsyncConnection[Any], collection: Collection, *, limit: int) -> list[Due]:
    """Return up to *limit* objects that are to go, and keep uploads from storing any until the transaction ends."""
    anything = await conn.execute(
        for_collection("SELECT EXISTS (SELECT FROM {trash} WHERE due_at <= now())", collection)
    )
    if await anything.fetchone() == (False,):
        return []
    await conn.execute(for_collection("LOCK TABLE {trash} IN SHARE ROW EXCLUSIVE MODE", collection))
    async with conn.cursor(row_factory=class_row(Due)) as cur:
        await cur.execute(
            for_collection(
                """
                SELECT key, derived, stored, contents,
                       CASE WHEN derived THEN EXISTS (SELECT FROM {images} WHERE sha256 = contents[1] AND derivatives)
                            ELSE EXISTS (SELECT FROM {images} WHERE r2_key = key) END AS named
                  FROM (SELECT key, bool_or(derived) AS derived, bool_or(stored) AS stored,
                               array_agg(DISTINCT sha256) AS contents
                          FROM {trash} GROUP BY key HAVING max(due_at) <= now() ORDER BY key LIMIT %s) AS due
                """,
                collection,
            ),
            [limit],
        )
        return await cur.fetchall()


async def forget(conn: AsyncConnection[Any], collection: Collection, due: Sequence[Due]) -> None:
    """Strike out what was dealt with."""
    await conn.execute(
        for_collection("DELETE FROM {trash} WHERE key = ANY(%s)", collection), [[each.key for each in due]]
    )


async def throw_away(conn: AsyncConnection[Any], collection: Collection, objects: Sequence[tuple[str, bytes]]) -> None:
    """Note objects, which we once stored, to go; each with the content that it holds or was made from."""
    await conn.execute(
        for_collection(
            """
            INSERT INTO {trash} (key, upload, sha256, derived, stored, due_at)
            SELECT key, %(removal)s, sha256, key = ANY(%(derived)s), true, now()
              FROM unnest(%(keys)s::text[], %(contents)s::bytea[]) AS thrown (key, sha256)
            """,
            collection,
        ),
        {
            "removal": uuid4(),
            "keys": [key for key, _ in objects],
            "contents": [sha256 for _, sha256 in objects],
            "derived": [derived for _, sha256 in objects for derived in _derived(sha256)],
        },
    )


def _keys(key: str, sha256: bytes, *, derivatives: bool, adopted: bool) -> list[str]:
    return [*(() if adopted else (key,)), *(_derived(sha256) if derivatives else ())]


def _derived(sha256: bytes) -> tuple[str, str]:
    return thumbnail_key(sha256), preview_key(sha256)

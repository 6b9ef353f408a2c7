"""The trash: objects that may lie in the bucket without an image that names them. See migrations/collection/0002."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import class_row

from shared.models import Collection
from shared.object_keys import preview_key, thumbnail_key
from shared.sql import for_collection

# For how long an upload's keys are safe without a sign of its end. One that takes longer stores its image again.
UPLOAD_TIME = timedelta(hours=1)


@dataclass(frozen=True)
class UploadIntent:
    """What one upload stores: the image under *key*, and with *derivatives* a thumbnail and a preview.

    Of an *adopted* image these are the thumbnail and the preview alone: the object itself is not ours to delete,
    whatever becomes of the upload.
    """

    key: str
    sha256: bytes
    derivatives: bool
    adopted: bool = False
    upload: UUID = field(default_factory=uuid4)

    @property
    def keys(self) -> list[str]:
        """The keys of all its objects that are ours."""
        return [*(() if self.adopted else (self.key,)), *(_derived(self.sha256) if self.derivatives else ())]


@dataclass(frozen=True)
class ExistingObject:
    """What an upload finds when it notes its keys.

    ``leftovers`` are the contents (SHA-256) that ended uploads and removals may have left under the image's key: an
    object that holds one of them is ours. ``derived`` says that the content's thumbnail and preview are there,
    ``indexed`` that the image itself is, under this key, and that nothing else was about to be stored there.
    """

    leftovers: frozenset[bytes]
    derived: bool
    indexed: bool


@dataclass(frozen=True)
class PendingDeletion:
    """An object that is to go, unless an image names it. ``contents`` is what it may hold, if it is ours."""

    key: str
    derived: bool
    stored: bool
    contents: list[bytes]
    named: bool


async def record_intents(
    conn: AsyncConnection[Any], collection: Collection, notes: Sequence[UploadIntent], *, source: int | None
) -> list[ExistingObject]:
    """UploadIntent what uploads are about to store: nobody deletes it as long as the note is there and not due."""
    await conn.execute(
        for_collection(
            """
            INSERT INTO {pending_objects} (key, upload, sha256, derived, stored, source_id, due_at)
            SELECT key, upload, sha256, derived, false, %(source)s, now() + %(time)s
              FROM unnest(%(keys)s::text[], %(uploads)s::uuid[], %(contents)s::bytea[], %(derived)s::bool[])
                AS noted (key, upload, sha256, derived)
                ON CONFLICT DO NOTHING
            """,
            collection,
        ),
        {
            "keys": [key for note in notes for key in note.keys],
            "uploads": [note.upload for note in notes for _ in note.keys],
            "contents": [note.sha256 for note in notes for _ in note.keys],
            "derived": [key != note.key for note in notes for key in note.keys],
            "source": source,
            "time": UPLOAD_TIME,
        },
    )
    # A statement of its own, which sees what was committed while the first one waited for those who empty the trash.
    cur = await conn.execute(
        for_collection(
            """
            SELECT ARRAY(SELECT sha256 FROM {pending_objects} AS t WHERE t.key = noted.key AND due_at <= now()),
                   EXISTS (SELECT FROM {images} AS i WHERE i.sha256 = noted.sha256 AND derivatives),
                   EXISTS (SELECT FROM {images} AS i WHERE i.sha256 = noted.sha256 AND r2_key = noted.key)
                   AND NOT EXISTS (SELECT FROM {pending_objects} AS t
                                    WHERE t.key = noted.key AND t.sha256 <> noted.sha256)
              FROM unnest(%(keys)s::text[], %(contents)s::bytea[]) WITH ORDINALITY AS noted (key, sha256, place)
             ORDER BY place
            """,
            collection,
        ),
        {"keys": [note.key for note in notes], "contents": [note.sha256 for note in notes]},
    )
    return [
        ExistingObject(frozenset(leftovers), derived, indexed) for leftovers, derived, indexed in await cur.fetchall()
    ]


async def complete_uploads(
    conn: AsyncConnection[Any], collection: Collection, notes: Sequence[UploadIntent]
) -> list[bool]:
    """Take uploads' notes away, in the transaction that makes the images' rows; their keys are all different.

    False stands for one that took too long: somebody may have deleted what it stored. Content that another image under
    its key had until now is noted to go.
    """
    taken = await conn.execute(
        for_collection(
            """
            DELETE FROM {pending_objects} AS t USING unnest(%s::text[], %s::uuid[]) AS noted (key, upload)
             WHERE t.key = noted.key AND t.upload = noted.upload RETURNING t.upload
            """,
            collection,
        ),
        [[key for note in notes for key in note.keys], [note.upload for note in notes for _ in note.keys]],
    )
    found = Counter(upload for (upload,) in await taken.fetchall())
    in_time = [note for note in notes if found[note.upload] == len(note.keys)]
    keys, contents = [note.key for note in in_time], [note.sha256 for note in in_time]
    # Other notes on the key speak of what lay there before. An upload of another process to the same key finds that
    # its own is gone, and looks again.
    await conn.execute(for_collection("DELETE FROM {pending_objects} WHERE key = ANY(%s)", collection), [keys])
    cur = await conn.execute(
        for_collection(
            """
            SELECT i.sha256 FROM {images} AS i
              JOIN unnest(%s::text[], %s::bytea[]) AS noted (key, sha256) ON i.r2_key = noted.key
             WHERE i.sha256 <> noted.sha256 AND derivatives
            """,
            collection,
        ),
        [keys, contents],
    )
    replaced = {sha256 for (sha256,) in await cur.fetchall()}
    if replaced:
        await schedule_deletion(
            conn, collection, [(derived, sha256) for sha256 in replaced for derived in _derived(sha256)]
        )
    return [found[note.upload] == len(note.keys) for note in notes]


async def abandon_upload(
    conn: AsyncConnection[Any], collection: Collection, note: UploadIntent, *, stored: bool
) -> None:
    """Let what the upload may have stored be deleted; with ``stored=False`` it surely stored nothing under its key."""
    if not stored:
        await conn.execute(
            for_collection("DELETE FROM {pending_objects} WHERE key = %s AND upload = %s", collection),
            [note.key, note.upload],
        )
    await conn.execute(
        for_collection("UPDATE {pending_objects} SET due_at = now() WHERE upload = %s", collection), [note.upload]
    )


async def abandon_uploads(conn: AsyncConnection[Any], collection: Collection, *, source: int | None) -> None:
    """Let go what uploads of the source have noted (None: all uploads): whoever made them has ended."""
    await conn.execute(
        for_collection(
            """
            UPDATE {pending_objects} SET due_at = now()
             WHERE due_at > now() AND (%(source)s::int IS NULL OR source_id = %(source)s)
            """,
            collection,
        ),
        {"source": source},
    )


async def delete_images(
    conn: AsyncConnection[Any], collection: Collection, ids: Sequence[int], *, tombstone: bool
) -> int:
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
    await schedule_deletion(conn, collection, objects)
    return len(removed)


async def lock_due(conn: AsyncConnection[Any], collection: Collection, *, limit: int) -> list[PendingDeletion]:
    """Return up to *limit* objects that are to go, and keep uploads from storing any until the transaction ends.

    What may have been stored over another image's object is not among them: see ``lock_doubts``.
    """
    if not await _lock_if_due(conn, collection):
        return []
    async with conn.cursor(row_factory=class_row(PendingDeletion)) as cur:
        await cur.execute(
            for_collection(
                """
                SELECT key, derived, stored, contents,
                       CASE WHEN derived THEN EXISTS (SELECT FROM {images} WHERE sha256 = contents[1] AND derivatives)
                            ELSE EXISTS (SELECT FROM {images} WHERE r2_key = key) END AS named
                  FROM (SELECT t.key, bool_or(t.derived) AS derived, bool_or(t.stored) AS stored,
                               array_agg(DISTINCT t.sha256) AS contents
                          FROM {pending_objects} AS t LEFT JOIN {images} AS i ON i.r2_key = t.key
                         GROUP BY t.key
                        HAVING max(t.due_at) <= now() AND bool_and(t.stored OR i.id IS NULL OR i.sha256 = t.sha256)
                         ORDER BY t.key LIMIT %s) AS due
                """,
                collection,
            ),
            [limit],
        )
        return await cur.fetchall()


async def lock_doubts(conn: AsyncConnection[Any], collection: Collection, *, limit: int) -> list[tuple[str, bytes]]:
    """Return up to *limit* keys that may not hold what their images' rows say, with these images' contents (SHA-256),
    and keep uploads from storing any until the transaction ends.

    An upload of other content to such a key ended in the middle. That stays noted until the image is stored again or
    removed, or the object is found to be what it should.
    """
    if not await _lock_if_due(conn, collection):
        return []
    cur = await conn.execute(
        for_collection(
            """
            SELECT t.key, i.sha256 FROM {pending_objects} AS t JOIN {images} AS i ON i.r2_key = t.key
             GROUP BY t.key, i.sha256
            HAVING max(t.due_at) <= now() AND bool_or(NOT t.stored AND t.sha256 <> i.sha256)
             ORDER BY t.key LIMIT %s
            """,
            collection,
        ),
        [limit],
    )
    return await cur.fetchall()


async def _lock_if_due(conn: AsyncConnection[Any], collection: Collection) -> bool:
    anything = await conn.execute(
        for_collection("SELECT EXISTS (SELECT FROM {pending_objects} WHERE due_at <= now())", collection)
    )
    if await anything.fetchone() == (False,):
        return False
    await conn.execute(for_collection("LOCK TABLE {pending_objects} IN SHARE ROW EXCLUSIVE MODE", collection))
    return True


async def forget(conn: AsyncConnection[Any], collection: Collection, keys: Sequence[str]) -> None:
    """Strike out what was dealt with."""
    await conn.execute(for_collection("DELETE FROM {pending_objects} WHERE key = ANY(%s)", collection), [list(keys)])


async def schedule_deletion(
    conn: AsyncConnection[Any], collection: Collection, objects: Sequence[tuple[str, bytes]]
) -> None:
    """UploadIntent objects, which we once stored, to go; each with the content that it holds or was made from."""
    await conn.execute(
        for_collection(
            """
            INSERT INTO {pending_objects} (key, upload, sha256, derived, stored, due_at)
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


def _derived(sha256: bytes) -> tuple[str, str]:
    return thumbnail_key(sha256), preview_key(sha256)

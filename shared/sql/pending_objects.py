"""Objects that may be in the bucket without an image that references them.

Each row belongs to one upload (an *intent*, not due before its deadline) or to one deletion (due at once). An object is
deleted when all rows of its key are due and no image references it. ``shared.object_deletion`` describes the protocol.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

from shared.db.pool import Connection
from shared.models import Collection
from shared.object_keys import preview_key, thumbnail_key
from shared.sql import execute, fetch_all, fetch_value

# Deadline of an upload. One that takes longer stores its image again.
UPLOAD_TIME = timedelta(hours=1)

# Claims of keys exclude recording of intents: a claim sees every intent, and an intent sees every claim.
_LOCK = 0x1AB03


@dataclass(frozen=True)
class UploadIntent:
    """The objects that one upload is about to store: the image and, with *derivatives*, its thumbnail and preview.

    An *adopted* image lies in the bucket already and is not ours to delete, so its own key is left out. An upload that
    *replaces* overwrites an object of the *source*'s file.
    """

    key: str
    sha256: bytes
    derivatives: bool
    adopted: bool = False
    source: int | None = None
    replaces: bool = False
    upload: UUID = field(default_factory=uuid4)

    @property
    def keys(self) -> list[str]:
        own = [] if self.adopted else [self.key]
        return own + (_derivative_keys(self.sha256) if self.derivatives else [])


@dataclass(frozen=True)
class ExistingObject:
    """State of the bucket that an upload finds.

    ``leftovers`` are the contents (SHA-256) that earlier uploads and deletions may have left under the image's key: an
    object with one of them is ours. ``derivatives`` tells whether the content's thumbnail and preview are stored.
    """

    leftovers: frozenset[bytes]
    derivatives: bool


@dataclass(frozen=True)
class PendingDeletion:
    """A claimed object, which is deleted unless an image references it.

    Unless it is ``derived`` or certainly ``stored``, it is ours only if its content is one of ``contents``.
    """

    key: str
    derived: bool
    stored: bool
    contents: list[bytes]
    referenced: bool


async def record_intents(
    conn: Connection, collection: Collection, intents: Sequence[UploadIntent]
) -> list[ExistingObject | None]:
    """Record uploads before they store anything; return None for those not recorded, as a key is being deleted.

    If an upload replaces an object, clear its file's hash: if the upload is interrupted, the object may no longer be
    what its row says, and the next sync uploads the file again.
    """
    await conn.execute("SELECT pg_advisory_xact_lock_shared(%s, hashtext(%s))", [_LOCK, collection.base])
    statement = """
        SELECT key, sha256, due_at <= now() AS due, claimed_until > now() AS claimed
          FROM {pending_objects} WHERE key = ANY(%s)
    """
    cur = await execute(conn, collection, statement, [[key for intent in intents for key in intent.keys]])
    claimed, leftovers = set[str](), defaultdict[str, set[bytes]](set)
    for key, sha256, is_due, is_claimed in await cur.fetchall():
        if is_claimed:
            claimed.add(key)
        if is_due:
            leftovers[key].add(sha256)
    statement = "SELECT DISTINCT sha256 FROM {images} WHERE sha256 = ANY(%s) AND derivatives"
    cur = await execute(conn, collection, statement, [[intent.sha256 for intent in intents]])
    derived = {sha256 for (sha256,) in await cur.fetchall()}
    await _insert_intents(conn, collection, [intent for intent in intents if claimed.isdisjoint(intent.keys)])
    return [
        ExistingObject(frozenset(leftovers[intent.key]), intent.sha256 in derived)
        if claimed.isdisjoint(intent.keys)
        else None
        for intent in intents
    ]


async def _insert_intents(conn: Connection, collection: Collection, intents: Sequence[UploadIntent]) -> None:
    objects = [(key, intent) for intent in intents for key in intent.keys]
    statement = """
        INSERT INTO {pending_objects} (key, upload, sha256, derived, stored, source_id, due_at)
        SELECT key, upload, sha256, derived, false, source, now() + %(time)s
          FROM unnest(%(keys)s::text[], %(uploads)s::uuid[], %(contents)s::bytea[], %(derived)s::bool[],
                      %(sources)s::int[]) AS object (key, upload, sha256, derived, source)
            ON CONFLICT DO NOTHING
    """
    parameters = {
        "time": UPLOAD_TIME,
        "keys": [key for key, _ in objects],
        "uploads": [intent.upload for _, intent in objects],
        "contents": [intent.sha256 for _, intent in objects],
        "derived": [key != intent.key for key, intent in objects],
        "sources": [intent.source for _, intent in objects],
    }
    await execute(conn, collection, statement, parameters)
    if replacing := [intent for intent in intents if intent.replaces]:
        statement = """
            UPDATE {files} AS f SET sha256 = NULL
              FROM unnest(%s::int[], %s::text[]) AS replaced (source, path)
             WHERE f.source_id = replaced.source AND f.path = replaced.path
        """
        sources, paths = [intent.source for intent in replacing], [intent.key for intent in replacing]
        await execute(conn, collection, statement, [sources, paths])


async def complete_uploads(conn: Connection, collection: Collection, intents: Sequence[UploadIntent]) -> set[UUID]:
    """Delete the intents of uploads, in the transaction that writes the images' rows; return the completed uploads.

    Change nothing for an upload that missed its deadline: its objects may have been deleted. Schedule the derivatives
    of content that an image replaces for deletion.
    """
    keys = [key for intent in intents for key in intent.keys]
    statement = """
        SELECT upload FROM {pending_objects}
         WHERE key = ANY(%s) AND upload = ANY(%s) AND due_at > clock_timestamp() AND claim IS NULL
         ORDER BY key FOR UPDATE
    """
    cur = await execute(conn, collection, statement, [keys, [intent.upload for intent in intents]])
    found = Counter(upload for (upload,) in await cur.fetchall())
    completed = [intent for intent in intents if found[intent.upload] == len(intent.keys)]
    own_keys = [intent.key for intent in completed]
    uploads = [intent.upload for intent in completed]
    # Other rows with an image's key describe objects that this upload has overwritten. An upload of another process to
    # the same key misses its row and starts again.
    statement = "DELETE FROM {pending_objects} WHERE key = ANY(%s) AND upload = ANY(%s) OR key = ANY(%s)"
    await execute(conn, collection, statement, [keys, uploads, own_keys])
    statement = """
        SELECT i.sha256
          FROM {images} AS i JOIN unnest(%s::text[], %s::bytea[]) AS new (key, sha256) ON i.r2_key = new.key
         WHERE i.sha256 <> new.sha256 AND i.derivatives
    """
    replaced = await execute(conn, collection, statement, [own_keys, [intent.sha256 for intent in completed]])
    for (sha256,) in await replaced.fetchall():
        await schedule_deletion(conn, collection, [(key, sha256) for key in _derivative_keys(sha256)])
    return set(uploads)


async def abandon_upload(conn: Connection, collection: Collection, intent: UploadIntent, *, stored: bool) -> None:
    """Make the upload's objects due for deletion; with ``stored=False``, its image was certainly not stored."""
    if not stored:
        statement = "DELETE FROM {pending_objects} WHERE key = %s AND upload = %s"
        await execute(conn, collection, statement, [intent.key, intent.upload])
    await execute(conn, collection, "UPDATE {pending_objects} SET due_at = now() WHERE upload = %s", [intent.upload])


async def abandon_uploads(conn: Connection, collection: Collection, source: int | None) -> None:
    """Make all intents of the source due (None: of every source), because their processes have ended."""
    statement = """
        UPDATE {pending_objects} SET due_at = now()
         WHERE due_at > now() AND (%(source)s::int IS NULL OR source_id = %(source)s)
    """
    await execute(conn, collection, statement, {"source": source})


async def delete_images(conn: Connection, collection: Collection, ids: Sequence[int], *, tombstone: bool) -> int:
    """Delete images and schedule their objects for deletion, except adopted ones; return how many images there were.

    With *tombstone*, the sources of the images do not upload the content again; without it, their files are forgotten.
    """
    if tombstone:
        await _add_tombstones(conn, collection, ids)
    else:
        await execute(conn, collection, "DELETE FROM {files} WHERE image_id = ANY(%s)", [list(ids)])
    statement = "DELETE FROM {images} WHERE id = ANY(%s) RETURNING r2_key, sha256, derivatives, origin"
    cur = await execute(conn, collection, statement, [list(ids)])
    deleted = await cur.fetchall()
    objects = [(key, sha256) for key, sha256, _, origin in deleted if origin != "adopted"]
    contents = {sha256 for _, sha256, derivatives, _ in deleted if derivatives}
    objects += [(key, sha256) for sha256 in contents for key in _derivative_keys(sha256)]
    await schedule_deletion(conn, collection, objects)
    return len(deleted)


async def _add_tombstones(conn: Connection, collection: Collection, ids: Sequence[int]) -> None:
    statement = """
        INSERT INTO tombstones (source_id, sha256)
        SELECT DISTINCT f.source_id, i.sha256 FROM {files} AS f JOIN {images} AS i ON i.id = f.image_id
         WHERE i.id = ANY(%s) ORDER BY 1, 2
            ON CONFLICT DO NOTHING
    """
    await execute(conn, collection, statement, [list(ids)])
    statement = """
        UPDATE {files} AS f SET removed = true, sha256 = i.sha256, reason = NULL, detail = NULL
          FROM {images} AS i WHERE i.id = f.image_id AND i.id = ANY(%s)
    """
    await execute(conn, collection, statement, [list(ids)])


async def schedule_deletion(conn: Connection, collection: Collection, objects: Sequence[tuple[str, bytes]]) -> None:
    """Make objects that we stored due for deletion; each comes with the content that it has or was derived from."""
    statement = """
        INSERT INTO {pending_objects} (key, upload, sha256, derived, stored, due_at)
        SELECT key, %(deletion)s, sha256, derived, true, now()
          FROM unnest(%(keys)s::text[], %(contents)s::bytea[], %(derived)s::bool[]) AS object (key, sha256, derived)
    """
    parameters = {
        "deletion": uuid4(),
        "keys": [key for key, _ in objects],
        "contents": [sha256 for _, sha256 in objects],
        "derived": [key in _derivative_keys(sha256) for key, sha256 in objects],
    }
    await execute(conn, collection, statement, parameters)


async def claim_due(
    conn: Connection, collection: Collection, claim: UUID, *, duration: timedelta, limit: int
) -> list[PendingDeletion]:
    """Claim up to *limit* objects that are due, for *duration*."""
    if not await fetch_value(conn, collection, "SELECT EXISTS (SELECT FROM {pending_objects} WHERE due_at <= now())"):
        return []
    await conn.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_LOCK, collection.base])
    statement = """
        WITH due AS (
            SELECT key FROM {pending_objects} GROUP BY key
            HAVING max(due_at) <= now() AND coalesce(max(claimed_until) <= now(), true)
             ORDER BY key LIMIT %(limit)s),
        claimed AS (
            UPDATE {pending_objects} SET claim = %(claim)s, claimed_until = now() + %(duration)s
             WHERE key IN (SELECT key FROM due) RETURNING key, derived, stored, sha256),
        objects AS (
            SELECT key, bool_or(derived) AS derived, bool_or(stored) AS stored,
                   array_agg(DISTINCT sha256) AS contents
              FROM claimed GROUP BY key)
        SELECT *, CASE WHEN derived
                  THEN EXISTS (SELECT FROM {images} AS i WHERE i.sha256 = contents[1] AND i.derivatives)
                  ELSE EXISTS (SELECT FROM {images} AS i WHERE i.r2_key = key) END AS referenced
          FROM objects
    """
    parameters = {"limit": limit, "claim": claim, "duration": duration}
    return await fetch_all(conn, collection, PendingDeletion, statement, parameters)


async def finish_claim(conn: Connection, collection: Collection, claim: UUID) -> None:
    """Delete the rows of claimed objects, which are no longer in the bucket or are referenced."""
    await execute(conn, collection, "DELETE FROM {pending_objects} WHERE claim = %s", [claim])


async def release_claim(conn: Connection, collection: Collection, claim: UUID) -> None:
    """Give claimed objects back, so that they can be claimed again at once."""
    statement = "UPDATE {pending_objects} SET claim = NULL, claimed_until = NULL WHERE claim = %s"
    await execute(conn, collection, statement, [claim])


def _derivative_keys(sha256: bytes) -> list[str]:
    return [thumbnail_key(sha256), preview_key(sha256)]

"""Text in pictures: the stage of the queue that reads it, and its results.

The stage's queue entries are those of a collection with MODEL as its model, which ``stage`` returns. Triggers on
{images} queue new and changed images for as long as the collection has OCR.
"""

from collections.abc import Sequence
from dataclasses import replace

from psycopg.sql import SQL, Identifier, Literal

from shared.db import migrate
from shared.db.pool import Connection
from shared.models import Collection, Failure, Job, TextLine
from shared.sql import execute, fetch_all, queue

# Other networks or settings in shared/ocr find other texts and need another name.
MODEL = "ocr:pp-ocrv6-small"


def stage(collection: Collection) -> Collection:
    """Return the collection as the queue's functions take it to claim, renew, release and refuse images to read."""
    return replace(collection, model=MODEL)


async def enable(conn: Connection, collection: Collection) -> None:
    """Queue all images of the collection, and from now on new and changed ones."""
    await migrate.lock(conn)
    await _drop_triggers(conn, collection)
    names = {name: Literal(f"{collection.base}_{name}") for name in ("images", "texts", "queue")}
    statement = SQL(
        """
        CREATE TRIGGER text_inserted AFTER INSERT ON {table} FOR EACH ROW
            EXECUTE FUNCTION queue_text({model}, {images}, {texts}, {queue});
        CREATE TRIGGER text_changed AFTER UPDATE OF sha256 ON {table} FOR EACH ROW
            WHEN (OLD.sha256 IS DISTINCT FROM NEW.sha256)
            EXECUTE FUNCTION queue_text({model}, {images}, {texts}, {queue});
        """
    )
    table = Identifier(f"{collection.base}_images")
    await conn.execute(statement.format(table=table, model=Literal(MODEL), **names))
    await conn.execute("UPDATE collections SET ocr = true WHERE bucket = %s", [collection.bucket])
    missing = """
        INSERT INTO {queue} (id, model, due_at)
        SELECT id, %s, created_at FROM {images} AS i WHERE NOT EXISTS (SELECT FROM {texts} AS t WHERE t.id = i.id)
        ON CONFLICT DO NOTHING
    """
    await execute(conn, collection, missing, [MODEL])


async def disable(conn: Connection, collection: Collection) -> None:
    """Read no further images, and delete the texts of all."""
    await migrate.lock(conn)
    await _drop_triggers(conn, collection)
    await conn.execute("UPDATE collections SET ocr = false WHERE bucket = %s", [collection.bucket])
    await execute(conn, collection, "DELETE FROM {queue} WHERE model = %s", [MODEL])
    await execute(conn, collection, "TRUNCATE {texts}")


async def _drop_triggers(conn: Connection, collection: Collection) -> None:
    statement = "DROP TRIGGER IF EXISTS text_inserted ON {images}; DROP TRIGGER IF EXISTS text_changed ON {images}"
    await execute(conn, collection, statement)


async def complete(conn: Connection, collection: Collection, job: Job, lines: Sequence[TextLine]) -> int:
    """Store the text of the job's image and of all pending images of equal content; return their number.

    *collection* is the result of ``stage``. Returns 0 and writes nothing if the lease was lost.
    """
    statement = f"""
        WITH {queue.finished()}
        INSERT INTO {{texts}} (id, lines, boxes) SELECT id, %(lines)s, %(boxes)s::real[] FROM done
        ON CONFLICT (id) DO UPDATE SET lines = excluded.lines, boxes = excluded.boxes
    """  # noqa: S608 - constants
    boxes = [number for line in lines for number in line.box]
    texts = {"lines": [line.text for line in lines], "boxes": boxes}
    return (await execute(conn, collection, statement, vars(collection) | vars(job) | texts)).rowcount


async def failures(conn: Connection, collection: Collection) -> list[Failure]:
    """Return the images that could not be read, by key."""
    statement = """
        SELECT i.r2_key AS key, i.id AS image_id, q.reason, q.detail, q.attempts, q.due_at AS failed_at
          FROM {queue} AS q JOIN {images} AS i USING (id) WHERE q.model = %s AND q.state = 'failed' ORDER BY i.r2_key
    """
    return await fetch_all(conn, collection, Failure, statement, [MODEL])


async def read(conn: Connection, collection: Collection, image_id: int) -> list[TextLine]:
    """Return the lines of text in an image; none if it was not read."""
    cur = await execute(conn, collection, "SELECT lines, boxes FROM {texts} WHERE id = %s", [image_id])
    lines, boxes = await cur.fetchone() or ([], [])
    return [TextLine(text, tuple(boxes[8 * n : 8 * n + 8])) for n, text in enumerate(lines)]

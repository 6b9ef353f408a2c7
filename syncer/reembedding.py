"""Replace a collection's vectors with those of another model while searches keep using the current ones."""

from collections.abc import Callable
from datetime import UTC, datetime

from shared.db.pool import Connection, Database
from shared.embedders.base import Embedder
from shared.errors import ModelChanged, SettingsError
from shared.models import Collection, NextEmbeddings
from shared.sql import collections, next_embeddings
from syncer.embedding import EmbeddingRun

BATCH = 5000  # rows prepared in one transaction
MAX_LOSSES = 0.1  # share of vectors that a switch may lose without confirmation


async def find_next(conn: Connection, collection: Collection) -> tuple[NextEmbeddings, Collection] | None:
    """Return the collection's next embeddings, and the collection with them in place; None if there are none."""
    found = await next_embeddings.find(conn, collection.bucket)
    return (found, next_embeddings.with_next(collection, found)) if found else None


async def start(database: Database, collection: Collection, embedder: Embedder) -> Collection:
    """Create or resume the next embeddings for *embedder*; return the collection with them in place.

    Raises SettingsError if the collection has that model already, or is being re-embedded with yet another one.
    """
    now = datetime.now(UTC)
    created = await database.run(
        next_embeddings.start, collection, model=embedder.name, dimensions=embedder.dimensions, now=now
    )
    target = next_embeddings.with_next(collection, created)
    last: int | None = 0
    while last is not None:
        last = await database.run(next_embeddings.prepare, target, after=last, limit=BATCH, now=now)
    return target


async def fill_and_switch(
    database: Database, collection: Collection, model: str, make_run: Callable[[], EmbeddingRun], *, yes: bool
) -> None:
    """Embed all images with *model*, then switch; quarantined images lose their vector.

    *make_run* returns a run over the result of ``start``. Several processes may do this at once. Raises SettingsError
    if the re-embedding is discarded meanwhile, or if more than MAX_LOSSES would lose their vector, unless *yes*.
    """
    try:
        switched = False
        while not switched:
            run = make_run()
            run.finish()
            await run.run()
            if not yes:
                await _check_losses(database, collection, model)
            switched = await database.run(
                next_embeddings.switch, collection, model=model, rollback=False, now=datetime.now(UTC)
            )
        return
    except* ModelChanged:
        pass  # another process switched or discarded
    current = await database.run(collections.find, collection.bucket)
    if current is None or current.model != model:
        raise SettingsError(f"the re-embedding of {collection.bucket!r} with {model!r} was discarded meanwhile")


async def _check_losses(database: Database, collection: Collection, model: str) -> None:
    lost, total = await database.run(next_embeddings.count_losses, collection, model=model)
    if lost > MAX_LOSSES * total:
        raise SettingsError(
            f"refusing to switch {collection.bucket!r} to {model!r}: {lost} of {total} images failed and would no"
            " longer be found (over 10 %); fix the cause, run `syncer retry` and start again, or pass --yes"
        )


async def roll_back(database: Database, collection: Collection) -> None:
    """Switch back to the vectors of the previous model; raise SettingsError if there are none."""
    previous = await database.run(next_embeddings.find, collection.bucket)
    if previous is None or previous.state != "previous":
        unfinished = f": the re-embedding with {previous.model!r} has not switched yet" if previous else ""
        raise SettingsError(f"collection {collection.bucket!r} has no previous vectors to roll back to{unfinished}")
    await database.run(next_embeddings.switch, collection, model=previous.model, rollback=True, now=datetime.now(UTC))


async def discard(database: Database, collection: Collection) -> NextEmbeddings:
    """Delete the vectors that are not in use and return their description; raise SettingsError if there are none."""
    found = await database.run(next_embeddings.find, collection.bucket)
    if found is None:
        raise SettingsError(f"collection {collection.bucket!r} has no second set of vectors: nothing to do")
    await database.run(next_embeddings.discard, collection)
    return found

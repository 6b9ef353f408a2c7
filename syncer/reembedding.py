"""Replace a collection's vectors with those of another model while searches keep using the current ones."""

from shared.db.pool import Connection, Database
from shared.embedders.base import Embedder
from shared.errors import ModelChanged, SettingsError
from shared.models import Collection, NextEmbeddings
from shared.sql import collections, next_embeddings
from shared.stores.base import ObjectStore
from syncer.context import CommandContext, show_progress
from syncer.embedding import EmbeddingRun

BATCH = 5000  # rows prepared in one transaction
MAX_LOSSES = 0.1  # share of vectors that a switch may lose without confirmation


async def find_next(conn: Connection, collection: Collection) -> tuple[NextEmbeddings, Collection] | None:
    """Return the collection's next embeddings, and the collection with them in place; None if there are none."""
    found = await next_embeddings.find(conn, collection.bucket)
    return (found, next_embeddings.with_next(collection, found)) if found else None


async def re_embed(
    context: CommandContext, collection: Collection, embedder: Embedder, store: ObjectStore, *, confirmed: bool
) -> None:
    """Embed all images with another model, then switch; quarantined images lose their vector.

    Resumes an interrupted re-embedding. Several processes may do this at once. Raises SettingsError if the collection
    has that model already, is being re-embedded with yet another one, or if the re-embedding is discarded meanwhile;
    and unless *confirmed* if more than MAX_LOSSES would lose their vector.
    """
    target = await _start(context.database, collection, embedder)
    try:
        async with show_progress(context, target):
            switched = False
            while not switched:
                run = EmbeddingRun(context, target, embedder, store)
                run.finish()
                await run.run()
                if not confirmed:
                    await _check_losses(context.database, collection, target.model)
                switched = await context.database.run(
                    next_embeddings.switch, collection, model=target.model, rollback=False
                )
    except* ModelChanged:  # another process switched or discarded
        current = await context.database.run(collections.find, target.bucket)
        if current is None or current.model != target.model:
            raise SettingsError(
                f"the re-embedding of {target.bucket!r} with {target.model!r} was discarded meanwhile"
            ) from None


async def _start(database: Database, collection: Collection, embedder: Embedder) -> Collection:
    """Create or resume the next embeddings for *embedder*; return the collection with them in place."""
    created = await database.run(next_embeddings.start, collection, model=embedder.name, dimensions=embedder.dimensions)
    target = next_embeddings.with_next(collection, created)
    last: int | None = 0
    while last is not None:
        last = await database.run(next_embeddings.prepare, target, after=last, limit=BATCH)
    return target


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
    await database.run(next_embeddings.switch, collection, model=previous.model, rollback=True)


async def discard(database: Database, collection: Collection) -> NextEmbeddings:
    """Delete the vectors that are not in use and return their description; raise SettingsError if there are none."""
    found = await database.run(next_embeddings.find, collection.bucket)
    if found is None:
        raise SettingsError(f"collection {collection.bucket!r} has no second set of vectors: nothing to do")
    await database.run(next_embeddings.discard, collection)
    return found

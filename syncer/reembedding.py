"""Gives a collection the vectors of another model, while searches go on with those that it has."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from shared.db.pool import Connection, Database
from shared.embedders.base import Embedder
from shared.errors import ModelChanged, SettingsError
from shared.models import Collection, NextEmbeddings
from shared.sql import collections, next_embeddings
from syncer.embedding import Embedding

BATCH = 5000  # images that get their places in one transaction
MOST_LOST = 0.1  # of the vectors, without being asked for


async def beside(conn: Connection, collection: Collection) -> tuple[NextEmbeddings, Collection] | None:
    """Return what lies beside the collection's vectors, and the collection as it looks with that; None for nothing."""
    shadow = await next_embeddings.find(conn, collection.bucket)
    return (shadow, next_embeddings.beside(collection, shadow)) if shadow else None


async def begin(database: Database, collection: Collection, embedder: Embedder) -> Collection:
    """Return the collection as it looks with the embedder's vectors beside its own, with a place for each image.

    Raises SettingsError when it has that model already, or is being re-embedded with yet another.
    """
    now = datetime.now(UTC)
    target = next_embeddings.beside(
        collection,
        await database.run(
            next_embeddings.begin, collection=collection, model=embedder.name, dimensions=embedder.dimensions, now=now
        ),
    )
    last: int | None = 0
    while last is not None:
        last = await database.run(next_embeddings.prepare, collection=target, after=last, limit=BATCH, now=now)
    return target


async def fill_and_switch(
    database: Database, collection: Collection, model: str, fill: Callable[[], Embedding], *, yes: bool
) -> None:
    """Fill what is missing of *model* beside the collection, and switch; images that were given up have no vector then.

    *fill* makes a run over what ``begin`` returned. Others may do the same at the same time. Raises SettingsError when
    the re-embedding was given up meanwhile, and when more than a tenth of the vectors would be lost, unless *yes*.
    """
    switch = partial(next_embeddings.switch, collection=collection, model=model, back=False)
    try:
        switched = False
        while not switched:
            embedding = fill()
            embedding.no_more_to_come()
            await embedding.run()
            if not yes:
                await _check_losses(database, collection, model)
            switched = await database.run(switch, now=datetime.now(UTC))
        return
    except* ModelChanged:
        pass  # somebody else has switched, or given up
    current = await database.run(collections.find, bucket=collection.bucket)
    if current is None or current.model != model:
        raise SettingsError(f"the re-embedding of {collection.bucket!r} with {model!r} was given up")


async def _check_losses(database: Database, collection: Collection, model: str) -> None:
    lost, among = await database.run(next_embeddings.losses, collection=collection, model=model)
    if lost > MOST_LOST * among:
        raise SettingsError(
            f"{lost} of the {among} images of {collection.bucket!r} that searches find would be lost to them: they"
            f" failed with {model!r}. Mend that, `syncer retry` and start again; or add --yes to switch all the same"
        )


async def roll_back(database: Database, collection: Collection) -> None:
    """Switch the collection back to the vectors of its previous model; raises SettingsError where there are none."""
    shadow = await database.run(next_embeddings.find, bucket=collection.bucket)
    if shadow is None or shadow.state != "previous":
        raise SettingsError(
            f"collection {collection.bucket!r} has no previous vectors to go back to"
            + (f": the re-embedding with {shadow.model!r} has not switched yet" if shadow else "")
        )
    await database.run(
        next_embeddings.switch, collection=collection, model=shadow.model, back=True, now=datetime.now(UTC)
    )


async def forget(database: Database, collection: Collection) -> NextEmbeddings:
    """Remove the vectors beside the collection's own and return what they were; SettingsError where there are none."""
    shadow = await database.run(next_embeddings.find, bucket=collection.bucket)
    if shadow is None:
        raise SettingsError(f"collection {collection.bucket!r} has no vectors beside its own: nothing is to be done")
    await database.run(next_embeddings.forget, collection=collection)
    return shadow

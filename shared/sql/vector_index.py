"""The index that finds nearest neighbours: its definition, state and progress.

A collection has one kind of index at a time:

- ``hnsw``: pgvector's graph of the vectors.
- ``compact``: pgvector's graph of their signs, one bit per dimension. A search orders more candidates than it needs by
  Hamming distance, and then ranks them by their vectors.
- ``vchordrq``: VectorChord's inverted lists, where the database has that extension.

Without its index, a search compares the query with all vectors.
"""

from dataclasses import dataclass
from typing import LiteralString

from shared.db import table_names
from shared.db.pool import Connection
from shared.errors import SettingsError
from shared.models import Collection, IndexKind
from shared.sql import execute, fetch_one, fetch_value, for_collection

_LOCK = 0x1AB02  # namespace of the advisory locks of builds

# Beyond this many images, a first load is faster without the index, which is then built at the end: 5,000 vectors of
# 768 dimensions take 13 s to insert and 3 s to build.
BUILD_ONCE_FROM = 5_000

# With pgvector's default ef_construction of 64, queries far from all clusters, as texts are from images, miss whole
# clusters. An m of up to 32 takes the same space in a full graph, since four vectors fill a page, but a larger one more
# time. In a compact graph m = 8 saves a quarter of the space and half the time, at equal recall.
_DEFINITIONS: dict[IndexKind, LiteralString] = {
    "hnsw": "{hnsw} ON {embeddings} USING hnsw (embedding halfvec_ip_ops) WITH (m = 16, ef_construction = 200)",
    "compact": """
        {compact} ON {embeddings}
        USING hnsw ((binary_quantize(embedding)::bit({dimensions})) bit_hamming_ops) WITH (m = 8, ef_construction = 200)
    """,
    "vchordrq": """
        {vchordrq} ON {embeddings} USING vchordrq (embedding halfvec_ip_ops) WITH (options = $$
        residual_quantization = false
        [build.internal]
        lists = [LISTS]
        spherical_centroids = true
        $$)
    """,
}


@dataclass(frozen=True)
class IndexState:
    """State of the index that a collection should have.

    ``state`` is ``ready``, ``building`` or ``missing``; ``progress`` of a build is from 0 to 1, None while it is
    unknown.
    """

    kind: IndexKind
    state: str
    progress: float | None


def order(kind: IndexKind) -> LiteralString:
    """Return the expression by which a search for ``%(vector)s`` orders the rows ``e``, so that it uses the index.

    The search selects their inner product as ``distance``.
    With ``compact`` that order is approximate: fetch ``oversampling(kind)`` times the rows, and order them by distance.
    """
    if kind == "compact":
        return "binary_quantize(e.embedding)::bit({dimensions}) <~> binary_quantize(%(vector)s::halfvec({dimensions}))"
    return "distance"


def oversampling(kind: IndexKind) -> int:
    """Return how many candidates a search needs for each result."""
    return 10 if kind == "compact" else 1


async def create(conn: Connection, collection: Collection) -> None:
    """Create the index in the caller's transaction, which blocks writers: for a table with few vectors."""
    await conn.execute(b"CREATE INDEX IF NOT EXISTS " + definition(collection, rows=0))


async def build(
    conn: Connection, collection: Collection, *, rows: int, memory: int | None = None, workers: int | None = None
) -> None:
    """Build the index of *rows* vectors while others read and write the table; replace an interrupted build.

    Runs outside a transaction. The graph gets the memory that it needs, up to *memory* bytes (default: shared_buffers,
    usually a quarter of the machine's), and so many parallel *workers* (default: PostgreSQL's own setting).
    """
    # A vector with its neighbours while the graph is built, measured.
    need = rows * (2 * collection.dimensions + 1_200)
    statement = """
        SELECT set_config('statement_timeout', '0', false),
               set_config('maintenance_work_mem', greatest(
                   pg_size_bytes(current_setting('maintenance_work_mem')),
                   least(%(need)s, coalesce(%(memory)s::bigint, pg_size_bytes(current_setting('shared_buffers'))))
                   ) / 1024 || 'kB', false),
               set_config('max_parallel_maintenance_workers',
                   coalesce(%(workers)s::text, current_setting('max_parallel_maintenance_workers')), false)
    """
    await conn.execute(statement, {"need": need, "memory": memory, "workers": workers})
    try:
        await _drop(conn, collection, collection.index_kind)
        await conn.execute(b"CREATE INDEX CONCURRENTLY " + definition(collection, rows=rows))
    finally:
        if not conn.closed:
            await conn.execute("RESET ALL")


async def drop(conn: Connection, collection: Collection) -> None:
    """Drop the index while others read and write the table, outside a transaction."""
    await _drop(conn, collection, collection.index_kind)


async def drop_others(conn: Connection, collection: Collection) -> None:
    """Drop the indexes of other kinds, as ``drop`` does."""
    for kind in _DEFINITIONS:
        if kind != collection.index_kind:
            await _drop(conn, collection, kind)


async def find(conn: Connection, collection: Collection) -> IndexState:
    """Return the state of the collection's index."""
    statement = """
        SELECT index_kind AS kind,
               CASE WHEN p.pid IS NOT NULL THEN 'building' WHEN i.indisvalid THEN 'ready' ELSE 'missing' END AS state,
               CASE WHEN p.phase LIKE 'building%%' THEN p.blocks_done::float8 / nullif(p.blocks_total, 0) END
                   AS progress
          FROM (SELECT %(kind)s::text AS index_kind, to_regclass(quote_ident(%(name)s)) AS oid) AS wanted
          LEFT JOIN pg_index AS i ON i.indexrelid = wanted.oid
          LEFT JOIN pg_stat_progress_create_index AS p ON p.index_relid = wanted.oid
    """
    name = table_names.vector_index(collection.base, collection.vectors, collection.index_kind)
    found = await fetch_one(conn, None, IndexState, statement, {"kind": collection.index_kind, "name": name})
    assert found is not None
    return found


async def choose(conn: Connection, collection: Collection) -> None:
    """Let searches use the index of the collection's kind from now on."""
    statement = "UPDATE collections SET index_kind = %s WHERE bucket = %s"
    await conn.execute(statement, [collection.index_kind, collection.bucket])


async def try_lock(conn: Connection, collection: Collection) -> bool:
    """Let no other process build an index of the collection before the transaction ends; False if one does so now."""
    statement = "SELECT pg_try_advisory_xact_lock(%s, hashtext(%s))"
    locked: bool = await fetch_value(conn, None, statement, [_LOCK, f"{collection.base} {collection.vectors}"])
    return locked


async def require_extension(conn: Connection, kind: IndexKind) -> None:
    """Create the extension that *kind* needs; raise SettingsError if the database does not have it."""
    if kind != "vchordrq":
        return
    available = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vchord')"
    if not await fetch_value(conn, None, available):
        raise SettingsError("index vchordrq: PostgreSQL has no extension vchord; install VectorChord, or pass another")
    await conn.execute("CREATE EXTENSION IF NOT EXISTS vchord CASCADE")


def definition(collection: Collection, *, rows: int) -> bytes:
    """Return the definition, from the index's name on, for a table of *rows* vectors."""
    lists: LiteralString = str(max(1, rows // 1000))
    # PostgreSQL uses the index only for statements with the same condition.
    statement = _DEFINITIONS[collection.index_kind].replace("LISTS", lists) + " WHERE embedding IS NOT NULL"
    return for_collection(statement, collection)


async def _drop(conn: Connection, collection: Collection, kind: IndexKind) -> None:
    await execute(conn, collection, f"DROP INDEX CONCURRENTLY IF EXISTS {{{kind}}}")

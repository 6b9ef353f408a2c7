"""Names of a bucket's tables and indexes.

Each name is ``<base>_<suffix>``, and a suffix is a single word, so names of different bases never collide. For a plain
bucket name ``base`` is the name with ``-`` replaced by ``_``. Any other name (dots, capitals, quotes, underscores, too
long) gets a hash after a double underscore, which no plain name contains.
"""

import hashlib
import re

from psycopg.sql import Identifier

from shared.errors import SettingsError

_TABLES = ("images", "embeddings", "queue", "files", "counts", "texts")
_INDEXES = ("recent", "content", "due", "reason", "rejected", "fileimage")
_SEARCH_INDEXES = (
    "taken",
    "takenlocal",
    "camera",
    "shape",
    "stem",
    "words",
    "textwords",
    "colours",
    "colourless",
    "places",
    "unplaced",
)
VECTOR_INDEXES = ("hnsw", "compact", "vchordrq")
# Suffixes by placeholder in SQL statements.
SUFFIXES = {name: name for name in (*_TABLES, *_INDEXES, *_SEARCH_INDEXES, *VECTOR_INDEXES, "swap")} | {
    "next_embeddings": "next",
    **{f"next_{kind}": f"n{kind}" for kind in VECTOR_INDEXES},
    "pending_objects": "pending",
}
_LONGEST_BASE = 63 - len("_embeddings")  # PostgreSQL silently truncates names to 63 bytes
_PLAIN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HASH_LENGTH = 10


def vector_index(base: str, vectors: str, kind: str) -> str:
    """Return the name of the index of *kind* on the table that the placeholder *vectors* names."""
    return f"{base}_{SUFFIXES[vectors.removesuffix('embeddings') + kind]}"


def identifiers(base: str) -> dict[str, Identifier]:
    """Return the quoted names of a collection's tables and indexes by placeholder."""
    return {name: Identifier(f"{base}_{suffix}") for name, suffix in SUFFIXES.items()}


def base_name(bucket: str) -> str:
    """Return the common prefix of the names of *bucket*'s tables, unique to the bucket."""
    if _PLAIN.fullmatch(bucket) and len(bucket) <= _LONGEST_BASE:
        return bucket.replace("-", "_")
    digest = hashlib.sha256(bucket.encode()).hexdigest()[:_HASH_LENGTH]
    readable = re.sub(r"[^a-z0-9]+", "_", bucket.lower()).strip("_")
    return f"{readable[: _LONGEST_BASE - _HASH_LENGTH - 2]}__{digest}"


def check_bucket(bucket: str) -> str:
    """Return *bucket*; raise SettingsError if it cannot name both a bucket and a folder."""
    problem = None
    if not bucket or len(bucket.encode(errors="replace")) > 255:
        problem = "must have 1 to 255 bytes"
    elif bucket in {".", ".."} or "/" in bucket or "\\" in bucket:
        problem = "must be a single name, not a path"
    elif any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in bucket):
        problem = "must not contain control characters"
    if problem:
        raise SettingsError(f"invalid bucket name {bucket[:80]!r}: {problem}")
    return bucket

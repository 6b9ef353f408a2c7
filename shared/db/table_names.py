"""Which tables belong to a bucket.

Every name that we make for a bucket is ``base + suffix``, each suffix one word behind one underscore, so that two
bases never meet in one name. ``base`` is the bucket with ``-`` written as ``_`` where that loses nothing; any other
bucket name (dots, capitals, quotes, underscores, too long) is told apart by a hash behind two underscores, which no
plain name holds.
"""

import hashlib
import re

from shared.errors import SettingsError

# Placeholders of SQL statements, and the suffix that each stands for.
TABLES = {
    "images": "images",
    "embeddings": "embeddings",
    "next_embeddings": "next",
    "queue": "queue",
    "files": "files",
    "pending_objects": "pending",
    "counts": "counts",
}
_INDEXES = {
    name: name.replace("_", "")
    for name in (
        *("hnsw", "recent", "content", "due", "reason", "rejected", "fileimage", "removed"),
        *("taken", "camera", "shape", "stem", "words", "next_hnsw"),
    )
}
SUFFIXES = {**TABLES, **_INDEXES, "swap": "swap"}
_LONGEST_BASE = 63 - len("_embeddings")  # PostgreSQL cuts names at 63 bytes, silently
_PLAIN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HASH_LENGTH = 10


def base_name(bucket: str) -> str:
    """Return the stem of all table names of *bucket*; different for different buckets."""
    if _PLAIN.fullmatch(bucket) and len(bucket) <= _LONGEST_BASE:
        return bucket.replace("-", "_")
    digest = hashlib.sha256(bucket.encode()).hexdigest()[:_HASH_LENGTH]
    readable = re.sub(r"[^a-z0-9]+", "_", bucket.lower()).strip("_")
    return f"{readable[: _LONGEST_BASE - _HASH_LENGTH - 2]}__{digest}"


def check_bucket(bucket: str) -> str:
    """Return *bucket* if it can name a bucket and a folder; raise SettingsError saying why not."""
    problem = None
    if not bucket or len(bucket.encode(errors="replace")) > 255:
        problem = "it must have 1 to 255 bytes"
    elif bucket in {".", ".."} or "/" in bucket or "\\" in bucket:
        problem = "it must name one folder, not a path"
    elif any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in bucket):
        problem = "it must not hold control characters"
    if problem:
        raise SettingsError(f"bucket {bucket[:80]!r} cannot be used: {problem}")
    return bucket

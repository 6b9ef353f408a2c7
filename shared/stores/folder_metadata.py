"""Attributes of objects in a FolderStore that file systems do not store, in one small JSON file per object.

A metadata file is removed before its object changes and written afterwards. It contains the size and modification time
of the bytes that it describes. A process killed in between leaves an object without metadata, never with wrong ones.
"""

import contextlib
import hashlib
import json
import mimetypes
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class ObjectMetadata:
    """Attributes of one object, valid while the file has *size* and *mtime_ns*."""

    key: str
    size: int
    mtime_ns: int
    sha256: str | None
    content_type: str | None
    cache_control: str | None


class MetadataFiles:
    """The metadata files of one bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: str, status: os.stat_result) -> ObjectMetadata:
        """Return the object's metadata. If there is none for these bytes, only guess the type from the key."""
        # ValueError and TypeError: a power failure can leave anything in the file.
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            metadata = ObjectMetadata(**json.loads(self._path(key).read_bytes()))
            if (metadata.key, metadata.size, metadata.mtime_ns) == (key, status.st_size, status.st_mtime_ns):
                return metadata
        content_type, _ = mimetypes.guess_type(f"name{Path(key).suffix}", strict=False)
        return ObjectMetadata(key, status.st_size, status.st_mtime_ns, None, content_type, None)

    def write(self, metadata: ObjectMetadata, temporary: Path) -> None:
        """Store the metadata atomically, by way of the file *temporary*."""
        path = self._path(metadata.key)
        temporary.write_text(json.dumps(asdict(metadata)))
        path.parent.mkdir(0o700, exist_ok=True)
        temporary.replace(path)

    def remove(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:]}.json"

"""Buckets as folders on this machine: every object is a plain file that people can look at.

``root/<bucket>/<key>`` holds the object. What a file system does not keep with a file (content type, cache header,
SHA-256) lies in ``root/<bucket>/.image-browser/folder-store/metadata/``, one small JSON file per object. It is removed
before its object changes and written after, and names the size and the modification time of the file that it speaks
of. So a process killed in between leaves an object without metadata, never one with another's.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import io
import itertools
import json
import mimetypes
import os
import re
import shutil
import stat
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import quote

from shared.errors import ImageRefused, ObjectExists, ObjectMissing, Reason, SettingsError, StoreError
from shared.stores.base import MAX_KEY_BYTES, RESERVED_PREFIX, StoredObject, check_key
from shared.stores.body import read_pieces

P = ParamSpec("P")
T = TypeVar("T")

_OWN_FOLDER = RESERVED_PREFIX + "folder-store/"
_MAX_NAME_BYTES = 255  # of one file or folder, on every file system in common use
_PIECE = 1 << 20  # bytes read and written at once
_ABANDONED_AFTER = 24 * 3600  # seconds after which a temporary file must be that of a process that was killed
_PLAIN_BUCKET = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,199}")

_TRANSIENT = {errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NAME_REFUSED = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
_REMEDIES = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room within the quota",
    errno.EACCES: "give this user the right to read and write there",
    errno.EROFS: "mount the file system for writing",
}


@dataclass(frozen=True)
class _Metadata:
    """What is kept beside an object; *size* and *mtime_ns* tell of which bytes it speaks."""

    key: str
    size: int
    mtime_ns: int
    sha256: str | None
    content_type: str | None
    cache_control: str | None


def folder_name(bucket: str) -> str:
    """Return the name of the folder that holds *bucket*: the bucket's own where every file system can keep it apart.

    Any other becomes a readable form and a hash, so that no two buckets share a folder, even where case is folded.
    """
    if _PLAIN_BUCKET.fullmatch(bucket):
        return bucket
    if not bucket:
        raise SettingsError("the bucket's name is empty: give one with --bucket or BUCKET")
    try:
        digest = hashlib.sha256(bucket.encode()).hexdigest()
    except UnicodeEncodeError as exc:
        raise SettingsError(f"the bucket's name {bucket!r} is not valid Unicode: choose another") from exc
    readable = re.sub(r"[^\w-]+", "-", bucket.casefold()).encode()[:100].decode(errors="ignore")
    return f"{readable}~{digest[:16]}"


class FolderStore:
    """One bucket in a folder below *root*; an ObjectStore, with ``path`` beside for the server that serves the files.

    Symbolic links inside the bucket's folder are not followed: what lies behind one is not in the bucket.
    """

    def __init__(self, root: Path, bucket: str, *, threads: int = 8) -> None:
        self.bucket = bucket
        self._address = f"/files/{quote(bucket, safe='')}/"
        # Resolved once, so that any folder below that does not resolve to itself lies behind a symbolic link.
        self._folder = Path(os.path.realpath(root / folder_name(bucket)))
        self._partial = self._folder / _OWN_FOLDER / "partial"
        self._metadata = self._folder / _OWN_FOLDER / "metadata"
        self._folds_names = False
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="folder-store")

    async def prepare(self) -> None:
        await self._run(self._prepare)

    async def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        content_type: str,
        cache_control: str,
        sha256: str,
        overwrite: bool = True,
    ) -> None:
        await self._run(self._put, key, body, content_type, cache_control, sha256, overwrite)

    async def get(self, key: str) -> bytes:
        return await self._run(self._get, key)

    async def download(self, key: str, target: Path) -> StoredObject:
        return await self._run(self._download, key, target)

    async def head(self, key: str) -> StoredObject:
        return await self._run(self._head, key)

    async def copy(self, source: str, target: str) -> None:
        """Copy an object; both keys share the bytes on disk where the file system can, and the time of modification."""
        await self._run(self._copy, source, target)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._run(self._delete, keys)

    async def list(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[StoredObject]:
        objects = self._walk(self._folder, b"", prefix.encode(), start_after.encode())
        while batch := await self._run(lambda: [*itertools.islice(objects, 500)]):
            for stored in batch:
                yield stored

    def address(self, key: str, *, version: str = "") -> str:
        address = f"{self._address}{quote(key)}"
        return f"{address}?v={quote(version, safe='')}" if version else address

    def path(self, key: str) -> Path:
        """Return the file that holds the object, always one inside the bucket; raise ObjectMissing if there is none."""
        try:
            with self._open(key):
                return self._path(key)
        except OSError as exc:
            raise self._store_error(exc) from exc

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown)

    async def _run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        def translated() -> T:
            try:
                return function(*args, **kwargs)
            except OSError as exc:
                raise self._store_error(exc) from exc

        return await asyncio.get_running_loop().run_in_executor(self._executor, translated)

    def _store_error(self, exc: OSError) -> StoreError:
        self._check_mounted()
        remedy = _REMEDIES.get(exc.errno or 0, "look at the disk")
        message = f"the folder of bucket {self.bucket!r} refused: {exc}: {remedy}"
        return StoreError(message, transient=exc.errno in _TRANSIENT)

    def _check_mounted(self) -> None:
        """Raise StoreError when the bucket's folder is gone: then a missing object says nothing."""
        if not self._partial.is_dir():
            message = f"bucket {self.bucket!r} has no folder {self._folder} (any more): is the disk mounted?"
            raise StoreError(message, transient=False)

    def _prepare(self) -> None:
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            self._metadata.mkdir(exist_ok=True)
            for left in self._partial.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if left.stat().st_mtime < time.time() - _ABANDONED_AFTER:
                        left.unlink()
            with self._temporary() as probe:
                probe.touch()
                # As macOS does by default: "a" and "A" are one name there.
                self._folds_names = probe.with_name(probe.name.upper()).exists()
        except OSError as exc:
            message = f"cannot use the folder {self._folder} for bucket {self.bucket!r}: {exc.strerror}"
            remedy = "set IMAGE_BROWSER_HOME to a folder that this user can write"
            raise StoreError(f"{message}: {remedy}", transient=False) from exc

    def _put(
        self, key: str, body: bytes | Path, content_type: str, cache_control: str, sha256: str, overwrite: bool
    ) -> None:
        self._path(key)  # refuses an impossible key before anything is written
        with self._temporary() as temporary:
            status = _write(temporary, read_pieces(body, sha256=sha256, size=_PIECE))
            self._place(temporary, key, overwrite=overwrite)
        self._describe(_Metadata(key, status.st_size, status.st_mtime_ns, sha256, content_type, cache_control))

    def _get(self, key: str) -> bytes:
        with self._open(key) as file:
            return file.readall()

    def _download(self, key: str, target: Path) -> StoredObject:
        with self._open(key) as file, target.open("wb") as copy:
            shutil.copyfileobj(file, copy, _PIECE)
            status = os.fstat(file.fileno())
        return _stored(key, status, self._known(key, status))

    def _head(self, key: str) -> StoredObject:
        with self._open(key) as file:
            status = os.fstat(file.fileno())
        return _stored(key, status, self._known(key, status))

    def _copy(self, source: str, target: str) -> None:
        self._path(target)
        with self._open(source) as original, self._temporary() as temporary:
            if source == target:
                return
            known = self._known(source, os.fstat(original.fileno()))
            status = self._duplicate(source, original, temporary)
            self._place(temporary, target, overwrite=True)
        self._describe(replace(known, key=target, size=status.st_size, mtime_ns=status.st_mtime_ns))

    def _duplicate(self, source: str, original: io.FileIO, temporary: Path) -> os.stat_result:
        with contextlib.suppress(OSError):  # no hard links here, or too many to this file
            os.link(self._path(source), temporary, follow_symlinks=False)
            status = temporary.stat()
            if os.path.samestat(status, os.fstat(original.fileno())):
                return status
            temporary.unlink()  # the source was replaced since it was opened
        return _write(temporary, iter(lambda: original.read(_PIECE), b""))

    def _delete(self, keys: Sequence[str]) -> None:
        self._check_mounted()
        for key in keys:
            try:
                self._open(key).close()
            except ObjectMissing:
                continue
            path = self._path(key)
            self._metadata_path(key).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            # Folders are nothing but parts of keys: the last object takes them along.
            with contextlib.suppress(OSError):
                for folder in itertools.takewhile(lambda folder: folder != self._folder, path.parents):
                    folder.rmdir()

    def _walk(self, folder: Path, at: bytes, prefix: bytes, start_after: bytes) -> Iterator[StoredObject]:
        """Yield the objects in *folder*, where keys begin with *at*, holding only the names of one folder per level."""
        self._check_mounted()
        names = []
        with contextlib.suppress(FileNotFoundError), os.scandir(os.fsencode(folder)) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    key = at + entry.name
                    if key.startswith(prefix) and key > start_after:
                        names.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    # With the slash that its keys have, a folder sorts among the files as its keys do.
                    key = at + entry.name + b"/"
                    wanted = key.startswith(prefix) or prefix.startswith(key)
                    if wanted and (key > start_after or start_after.startswith(key)):
                        names.append(entry.name + b"/")
        for name in sorted(names):
            key = at + name
            if key == _OWN_FOLDER.encode() or len(key) > MAX_KEY_BYTES:
                continue
            path = folder / os.fsdecode(name)
            if name.endswith(b"/"):
                yield from self._walk(path, key, prefix, start_after)
            else:
                with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
                    yield _stored(key.decode(), path.lstat())

    def _path(self, key: str) -> Path:
        """Return where the object lies; raise ImageRefused for a key that cannot be a path."""
        check_key(key)
        names = key.split("/")
        if "" in names:
            raise _refused(key, "has an empty part: a folder needs a name")
        if longest := next((name for name in names if len(name.encode()) > _MAX_NAME_BYTES), None):
            length = len(longest.encode())
            raise _refused(key, f"has a part of {length} bytes in UTF-8, and a file name may have {_MAX_NAME_BYTES}")
        if key.startswith(_OWN_FOLDER):
            raise _refused(key, f"lies under {_OWN_FOLDER}, where the store keeps its own files")
        return self._folder / key

    def _open(self, key: str) -> io.FileIO:
        """Open the object to read it; raise ObjectMissing where the bucket holds no plain file of exactly that name."""
        try:
            path = self._path(key)
            # A pipe would block until somebody writes.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (ImageRefused, FileNotFoundError, NotADirectoryError) as exc:
            raise self._missing(key) from exc
        except OSError as exc:
            if exc.errno in _NAME_REFUSED | {errno.ELOOP, errno.ENXIO}:
                raise self._missing(key) from exc
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and self._inside(path) and self._spelled(key):
            return io.FileIO(descriptor)
        os.close(descriptor)
        raise self._missing(key)

    def _missing(self, key: str) -> ObjectMissing:
        self._check_mounted()
        return ObjectMissing(f"there is no object {key!r} in bucket {self.bucket!r}")

    def _inside(self, path: Path) -> bool:
        """Return whether no folder on the way to *path* is a symbolic link."""
        return os.path.realpath(path.parent) == str(path.parent)

    def _spelled(self, key: str) -> bool:
        """Return whether the file or folder *key*, which is there, has that very name, not only one taken for it."""
        if not self._folds_names:
            return True
        if sys.platform == "darwin":
            with open(os.open(self._folder / key, os.O_RDONLY)) as file:
                name = fcntl.fcntl(file, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")
            return name.endswith(b"/" + key.encode())
        folders = [self._folder, *reversed((self._folder / key).parents[: key.count("/")])]
        return all(name in os.listdir(folder) for name, folder in zip(key.split("/"), folders, strict=True))

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        """Give the name of a file that can be made, moved or left: it is gone afterwards."""
        path = self._partial / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _place(self, temporary: Path, key: str, *, overwrite: bool) -> None:
        """Move the finished file *temporary* to its key, in one step; where ObjectExists is raised, nothing changed."""
        target = self._path(key)
        for _ in range(100):
            try:
                self._make_folder(key, target)
                self._move(temporary, key, target, overwrite=overwrite)
            except FileNotFoundError:  # between the two, the last object of the folder was deleted
                self._check_mounted()
            else:
                _sync_folder(target.parent)
                return
        raise StoreError(f"the folder of {key!r} keeps disappearing from bucket {self.bucket!r}", transient=True)

    def _make_folder(self, key: str, target: Path) -> None:
        if not self._inside(target):
            raise _refused(key, "leads through a symbolic link in the bucket's folder", final=False)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as exc:
            if any(os.path.lexists(folder) and not folder.is_dir() for folder in target.parents):
                raise _refused(key, "needs a folder where an object lies that has its name", final=False) from exc
            raise FileNotFoundError(f"{target.parent} came and went") from exc
        except OSError as exc:
            if exc.errno in _NAME_REFUSED:
                raise _refused(key, f"cannot be a path on this disk: {exc.strerror}") from exc
            raise
        folder, _, _ = key.rpartition("/")
        if folder and not self._spelled(folder):
            raise _refused(key, "differs only in case or accents from a folder that is there", final=False)

    def _move(self, temporary: Path, key: str, target: Path, *, overwrite: bool) -> None:
        if target.is_dir() and not target.is_symlink():
            try:
                target.rmdir()  # left empty by a process that was killed
            except OSError as exc:
                raise _refused(key, "is the name of a folder that holds other objects", final=False) from exc
        try:
            if overwrite and not self._folds_names:
                self._replace(temporary, key, target)
            else:
                self._create(temporary, target)
        except FileExistsError as exc:
            if not self._spelled(key):
                raise _refused(
                    key, "differs only in case or accents from an object that is there", final=False
                ) from exc
            if not overwrite:
                raise ObjectExists(f"there is an object {key!r} in bucket {self.bucket!r} already") from exc
            self._replace(temporary, key, target)
        except OSError as exc:
            if exc.errno in _NAME_REFUSED:
                raise _refused(key, f"cannot be a file name on this disk: {exc.strerror}") from exc
            raise

    def _replace(self, temporary: Path, key: str, target: Path) -> None:
        self._metadata_path(key).unlink(missing_ok=True)
        temporary.replace(target)

    def _create(self, temporary: Path, target: Path) -> None:
        """Move to a name that is free; raise FileExistsError if it is taken. One of two at once wins."""
        try:
            os.link(temporary, target)
        except OSError as exc:
            if exc.errno not in _NO_HARD_LINKS:
                raise
            # exFAT and some network disks have no hard links; nor a rename that spares what is there.
            with (self._partial.parent / "create.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.path.lexists(target):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from exc
                temporary.replace(target)

    def _metadata_path(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._metadata / digest[:2] / f"{digest[2:]}.json"

    def _describe(self, metadata: _Metadata) -> None:
        path = self._metadata_path(metadata.key)
        with self._temporary() as temporary:
            temporary.write_text(json.dumps(asdict(metadata)))
            path.parent.mkdir(exist_ok=True)
            temporary.replace(path)

    def _known(self, key: str, status: os.stat_result) -> _Metadata:
        """Return the object's metadata; only what its name tells, where what is kept does not speak of these bytes."""
        # ValueError: what a power cut left of the file is not JSON.
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            metadata = _Metadata(**json.loads(self._metadata_path(key).read_bytes()))
            if (metadata.key, metadata.size, metadata.mtime_ns) == (key, status.st_size, status.st_mtime_ns):
                return metadata
        content_type, _ = mimetypes.guess_type(f"name{Path(key).suffix}", strict=False)
        return _Metadata(key, status.st_size, status.st_mtime_ns, None, content_type, None)


def _refused(key: str, why: str, *, final: bool = True) -> ImageRefused:
    return ImageRefused(Reason.KEY_INVALID, f"the key {key!r} {why}", final=final)


def _write(path: Path, pieces: Iterator[bytes]) -> os.stat_result:
    """Make the file, and return its status once it is on the disk."""
    with path.open("xb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        # The kernel's own time stamp moves in steps of milliseconds, within which an object can change twice.
        os.utime(file.fileno(), ns=(time.time_ns(),) * 2)
        os.fsync(file.fileno())
        return os.fstat(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Write the folder's entries to the disk: until then a power cut may take a new name back."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stored(key: str, status: os.stat_result, known: _Metadata | None = None) -> StoredObject:
    return StoredObject(
        key=key,
        size=status.st_size,
        modified=datetime.fromtimestamp(status.st_mtime, UTC),
        etag=f"{status.st_mtime_ns:x}-{status.st_size:x}",
        sha256=known.sha256 if known else None,
        content_type=known.content_type if known else None,
        cache_control=known.cache_control if known else None,
    )

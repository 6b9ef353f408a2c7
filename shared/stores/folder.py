"""Buckets as folders on this machine, with each object as a plain file.

``root/<bucket>/<key>`` is the object. ``root/<bucket>/.image-browser/folder-store/`` contains temporary files, and the
metadata files that ``folder_metadata`` describes.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import io
import itertools
import os
import re
import shutil
import stat
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from shared.errors import ImageRefused, ObjectExists, ObjectMissing, Reason, SettingsError, StoreError
from shared.stores.base import MAX_KEY_BYTES, RESERVED_PREFIX, StoredObject, check_key
from shared.stores.body import read_pieces
from shared.stores.folder_metadata import MetadataFiles, ObjectMetadata

P = ParamSpec("P")
T = TypeVar("T")

_INTERNAL_PREFIX = RESERVED_PREFIX + "folder-store/"
_MAX_NAME_BYTES = 255  # of a file or folder, on every common file system
# Photos may be private, even if everything above the bucket's folder is open to others.
_PRIVATE_FOLDER = 0o700
_PRIVATE_FILE = 0o600
_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that a datetime can hold
_PIECE = 1 << 20  # bytes read and written at once
_ABANDONED_AFTER = 24 * 3600  # seconds until a temporary file counts as left by a killed process
_LIST_BATCH = 500  # objects read in one call of the thread pool
_PLACE_ATTEMPTS = 100
_PLAIN_BUCKET = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,199}")

_TRANSIENT = {errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NAME_REFUSED = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
_REMEDIES = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some space within the quota",
    errno.EACCES: "allow this user to read and write there",
    errno.EROFS: "mount the file system for writing",
}


def folder_name(bucket: str) -> str:
    """Return the name of the folder of *bucket*: the bucket's own name if it is safe on every file system.

    Any other name becomes a readable form with a hash, so that no two buckets share a folder, even if case is folded.
    """
    if _PLAIN_BUCKET.fullmatch(bucket):
        return bucket
    if not bucket:
        raise SettingsError("the bucket name is empty: set --bucket or BUCKET")
    try:
        digest = hashlib.sha256(bucket.encode()).hexdigest()
    except UnicodeEncodeError as exc:
        raise SettingsError(f"the bucket name {bucket!r} is not valid Unicode: use another") from exc
    readable = re.sub(r"[^\w-]+", "-", bucket.casefold()).encode()[:100].decode(errors="ignore")
    return f"{readable}~{digest[:16]}"


def _in_thread(
    method: Callable[Concatenate["FolderStore", P], T],
) -> Callable[Concatenate["FolderStore", P], Coroutine[Any, Any, T]]:
    """Make a blocking method asynchronous: run it in the store's thread pool and turn OSError into StoreError."""

    async def run(self: "FolderStore", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(method, self, *args, **kwargs)

    return run


class FolderStore:
    """One bucket in a folder below *root*; an ObjectStore, and ``path`` for the server, which serves the files.

    Symbolic links inside the folder are not followed: their targets are not part of the bucket.
    """

    def __init__(self, root: Path, bucket: str, *, threads: int = 8) -> None:
        self.bucket = bucket
        self._address = f"/files/{quote(bucket, safe='')}/"
        # Resolved once. A folder inside the bucket that does not resolve to itself is behind a symbolic link.
        self._folder = Path(os.path.realpath(root / folder_name(bucket)))
        self._internal = self._folder / _INTERNAL_PREFIX
        self._temporary_folder = self._internal / "partial"
        self._metadata = MetadataFiles(self._internal / "metadata")
        self._folds_case = False
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="folder-store")

    @_in_thread
    def prepare(self, *, create: bool = True) -> None:
        if not create:
            self._check_mounted()
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._make_folders(self._temporary_folder)
            self._make_folders(self._metadata.folder)
            self._remove_abandoned()
            with self._temporary_path() as probe:
                probe.touch()
                # On macOS, "a" and "A" are the same name by default.
                self._folds_case = probe.with_name(probe.name.upper()).exists()
        except OSError as exc:
            message = f"cannot use the folder {self._folder} for bucket {self.bucket!r}: {exc.strerror}"
            remedy = "set IMAGE_BROWSER_HOME to a folder that this user can write"
            raise StoreError(f"{message}: {remedy}", transient=False) from exc

    @_in_thread
    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        content_type: str,
        cache_control: str,
        sha256: str,
        overwrite: bool = True,
    ) -> None:
        self._path(key)  # refuse an invalid key before writing anything
        with self._temporary_path() as temporary:
            status = _write(temporary, read_pieces(body, sha256=sha256, size=_PIECE))
            self._place(temporary, key, overwrite=overwrite)
        self._write_metadata(
            ObjectMetadata(key, status.st_size, status.st_mtime_ns, sha256, content_type, cache_control)
        )

    @_in_thread
    def get(self, key: str) -> bytes:
        with self._open(key) as file:
            return file.readall()

    async def download(self, key: str, target: Path) -> StoredObject:
        def write() -> None:
            with target.open("wb") as copy:
                shutil.copyfileobj(file, copy, _PIECE)

        with await self._run(self._open, key) as file:
            # Without translation: these errors are about *target*.
            await asyncio.get_running_loop().run_in_executor(self._executor, write)
            return await self._run(self._stored_object, key, file)

    @_in_thread
    def head(self, key: str) -> StoredObject:
        with self._open(key) as file:
            return self._stored_object(key, file)

    @_in_thread
    def copy(self, source: str, target: str) -> None:
        """Copy an object with its modification time, as a hard link where the file system supports it."""
        self._path(target)
        with self._open(source) as original, self._temporary_path() as temporary:
            if source == target:
                return
            metadata = self._metadata.read(source, os.fstat(original.fileno()))
            status = self._link_or_copy(source, original, temporary)
            self._place(temporary, target, overwrite=True)
        self._write_metadata(replace(metadata, key=target, size=status.st_size, mtime_ns=status.st_mtime_ns))

    @_in_thread
    def delete(self, keys: Sequence[str]) -> None:
        self._check_mounted()
        for key in keys:
            try:
                self._open(key).close()
            except ObjectMissing:
                continue
            path = self._path(key)
            self._metadata.remove(key)
            path.unlink(missing_ok=True)
            # Buckets have no empty folders.
            with contextlib.suppress(OSError):
                for folder in itertools.takewhile(lambda folder: folder != self._folder, path.parents):
                    folder.rmdir()

    async def list(self, prefix: str = "", *, start_after: str = "") -> AsyncIterator[StoredObject]:
        objects = self._walk(self._folder, b"", prefix.encode(), start_after.encode())
        while batch := await self._run(lambda: [*itertools.islice(objects, _LIST_BATCH)]):
            for stored in batch:
                yield stored

    def address(self, key: str, *, version: str = "") -> str:
        address = f"{self._address}{quote(key)}"
        return f"{address}?v={quote(version, safe='')}" if version else address

    def path(self, key: str) -> Path:
        """Return the object's file, which is always inside the bucket; raise ObjectMissing if there is none."""
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
        remedy = _REMEDIES.get(exc.errno or 0, "check the disk")
        return StoreError(f"folder of bucket {self.bucket!r}: {exc}: {remedy}", transient=exc.errno in _TRANSIENT)

    def _check_mounted(self) -> None:
        """Raise StoreError if the bucket's folder is missing, so that objects do not count as missing."""
        if not self._temporary_folder.is_dir():
            message = f"the folder {self._folder} of bucket {self.bucket!r} is missing: is the disk mounted?"
            raise StoreError(message, transient=False)

    def _remove_abandoned(self) -> None:
        for path in self._temporary_folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _ABANDONED_AFTER:
                    path.unlink()

    def _stored_object(self, key: str, file: io.FileIO) -> StoredObject:
        status = os.fstat(file.fileno())
        metadata = self._metadata.read(key, status)
        return replace(
            _listed_object(key, status),
            sha256=metadata.sha256,
            content_type=metadata.content_type,
            cache_control=metadata.cache_control,
        )

    def _link_or_copy(self, source: str, original: io.FileIO, temporary: Path) -> os.stat_result:
        with contextlib.suppress(OSError):  # hard links are unsupported, or there are too many to this file
            os.link(self._path(source), temporary, follow_symlinks=False)
            status = temporary.stat()
            if os.path.samestat(status, os.fstat(original.fileno())):
                return status
            temporary.unlink()  # the source was replaced after it was opened
        return _write(temporary, iter(lambda: original.read(_PIECE), b""))

    def _write_metadata(self, metadata: ObjectMetadata) -> None:
        with self._temporary_path() as temporary:
            self._metadata.write(metadata, temporary)

    def _walk(self, folder: Path, parent: bytes, prefix: bytes, start_after: bytes) -> Iterator[StoredObject]:
        """Yield the objects below *folder*, whose keys begin with *parent*, in order; buffer one folder per level."""
        for name in sorted(self._entry_names(folder, parent, prefix, start_after)):
            key = parent + name
            if key == _INTERNAL_PREFIX.encode() or len(key) > MAX_KEY_BYTES:
                continue
            path = folder / os.fsdecode(name)
            if name.endswith(b"/"):
                yield from self._walk(path, key, prefix, start_after)
            else:
                with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
                    yield _listed_object(key.decode(), path.lstat())

    def _entry_names(self, folder: Path, parent: bytes, prefix: bytes, start_after: bytes) -> Iterator[bytes]:
        """Yield the names of files and, with a trailing slash, of folders that may contain keys to list.

        With the slash, sorting the names sorts the keys.
        """
        self._check_mounted()
        with contextlib.suppress(FileNotFoundError), os.scandir(os.fsencode(folder)) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    key = parent + entry.name
                    if key.startswith(prefix) and key > start_after:
                        yield entry.name
                elif entry.is_dir(follow_symlinks=False):
                    key = parent + entry.name + b"/"
                    in_prefix = key.startswith(prefix) or prefix.startswith(key)
                    if in_prefix and (key > start_after or start_after.startswith(key)):
                        yield entry.name + b"/"

    def _path(self, key: str) -> Path:
        """Return the path of the object; raise ImageRefused for a key that cannot be a path."""
        check_key(key)
        names = key.split("/")
        if "" in names:
            raise _refused(key, "has an empty part, which cannot name a folder")
        for name in names:
            if (length := len(name.encode())) > _MAX_NAME_BYTES:
                raise _refused(key, f"has a part of {length} bytes in UTF-8 (at most {_MAX_NAME_BYTES})")
        if key.startswith(_INTERNAL_PREFIX):
            raise _refused(key, f"is under {_INTERNAL_PREFIX}, which is reserved")
        return self._folder / key

    def _open(self, key: str) -> io.FileIO:
        """Open the object for reading; raise ObjectMissing unless there is a plain file of exactly that name."""
        try:
            path = self._path(key)
            # Without O_NONBLOCK, opening a pipe would block.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (ImageRefused, FileNotFoundError, NotADirectoryError) as exc:
            raise self._missing(key) from exc
        except OSError as exc:
            if exc.errno in _NAME_REFUSED | {errno.ELOOP, errno.ENXIO}:
                raise self._missing(key) from exc
            raise
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and self._is_inside(path) and self._has_exact_name(key):
            return io.FileIO(descriptor)
        os.close(descriptor)
        raise self._missing(key)

    def _missing(self, key: str) -> ObjectMissing:
        self._check_mounted()
        return ObjectMissing(f"no object {key!r} in bucket {self.bucket!r}")

    def _is_inside(self, path: Path) -> bool:
        """Return whether no folder on the way to *path* is a symbolic link."""
        return os.path.realpath(path.parent) == str(path.parent)

    def _has_exact_name(self, key: str) -> bool:
        """Return whether the name of the existing file or folder *key* on disk is equal without case folding."""
        if not self._folds_case:
            return True
        if sys.platform == "darwin":
            with open(os.open(self._folder / key, os.O_RDONLY)) as file:
                name = fcntl.fcntl(file, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")
            return name.endswith(b"/" + key.encode())
        folders = [self._folder, *reversed((self._folder / key).parents[: key.count("/")])]
        return all(name in os.listdir(folder) for name, folder in zip(key.split("/"), folders, strict=True))

    @contextlib.contextmanager
    def _temporary_path(self) -> Iterator[Path]:
        """Yield a free path for a temporary file, which is removed afterwards if it still exists."""
        path = self._temporary_folder / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _place(self, temporary: Path, key: str, *, overwrite: bool) -> None:
        """Move the complete file *temporary* to its key, atomically; change nothing if ObjectExists is raised."""
        target = self._path(key)
        for _ in range(_PLACE_ATTEMPTS):
            try:
                self._make_folder(key, target)
                self._move(temporary, key, target, overwrite=overwrite)
            except FileNotFoundError:  # the folder's last object was deleted in between, and the folder with it
                self._check_mounted()
            except OSError as exc:
                if exc.errno in _NAME_REFUSED:
                    raise _refused(key, f"cannot be a path on this disk: {exc.strerror}") from exc
                raise
            else:
                _sync_folder(target.parent)
                return
        raise StoreError(f"the folder of {key!r} in bucket {self.bucket!r} keeps disappearing", transient=True)

    def _make_folder(self, key: str, target: Path) -> None:
        if not self._is_inside(target):
            raise _refused(key, "leads through a symbolic link in the bucket's folder", final=False)
        try:
            self._make_folders(target.parent)
        except (FileExistsError, NotADirectoryError) as exc:
            if any(os.path.lexists(folder) and not folder.is_dir() for folder in target.parents):
                raise _refused(key, "needs a folder with the name of an existing object", final=False) from exc
            raise FileNotFoundError(f"{target.parent} was deleted concurrently") from exc
        folder, _, _ = key.rpartition("/")
        if folder and not self._has_exact_name(folder):
            raise _refused(key, "differs only in case or accents from an existing folder", final=False)

    def _make_folders(self, folder: Path) -> None:
        """Create *folder* and those above it in the bucket, for their owner alone."""
        for each in [*reversed(folder.parents), folder]:
            if each.is_relative_to(self._folder):
                each.mkdir(_PRIVATE_FOLDER, exist_ok=True)

    def _move(self, temporary: Path, key: str, target: Path, *, overwrite: bool) -> None:
        if target.is_dir() and not target.is_symlink():
            try:
                target.rmdir()  # left empty by a killed process
            except OSError as exc:
                raise _refused(key, "is the name of a folder that contains other objects", final=False) from exc
        try:
            if overwrite and not self._folds_case:
                self._replace(temporary, key, target)
            else:
                self._create(temporary, target)
        except FileExistsError as exc:
            if not self._has_exact_name(key):
                raise _refused(key, "differs only in case or accents from an existing object", final=False) from exc
            if not overwrite:
                raise ObjectExists(f"object {key!r} already exists in bucket {self.bucket!r}") from exc
            self._replace(temporary, key, target)

    def _replace(self, temporary: Path, key: str, target: Path) -> None:
        self._metadata.remove(key)
        temporary.replace(target)

    def _create(self, temporary: Path, target: Path) -> None:
        """Move the file to a free name; raise FileExistsError if it is taken. Of two at once, one succeeds."""
        try:
            os.link(temporary, target)
        except OSError as exc:
            if exc.errno not in _NO_HARD_LINKS:
                raise
            # exFAT and some network file systems have neither hard links nor a rename that refuses to overwrite.
            with (self._internal / "create.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if os.path.lexists(target):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from exc
                temporary.replace(target)


def _refused(key: str, problem: str, *, final: bool = True) -> ImageRefused:
    return ImageRefused(Reason.KEY_INVALID, f"key {key!r} {problem}", final=final)


def _write(path: Path, pieces: Iterator[bytes]) -> os.stat_result:
    """Create the file, readable for its owner alone, and return its status after it has been flushed to disk."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        # The kernel's own timestamps advance in steps of milliseconds, within which an object can change twice.
        os.utime(file.fileno(), ns=(time.time_ns(),) * 2)
        os.fsync(file.fileno())
        return os.fstat(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Flush the folder's entries to disk; before that, a power failure may undo a new name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _listed_object(key: str, status: os.stat_result) -> StoredObject:
    return StoredObject(
        key=key,
        size=status.st_size,
        modified=datetime.fromtimestamp(min(max(0, status.st_mtime), _LAST_SECOND), UTC),
        etag=f"{status.st_mtime_ns:x}-{status.st_size:x}",
    )

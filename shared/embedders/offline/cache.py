"""Keeps the built model on disk for all processes, and builds it where it is missing or damaged."""

import fcntl
import hashlib
import json
import shutil
from pathlib import Path

from shared.errors import SettingsError

_MANIFEST = "sha256.json"  # written last, so that a folder without it is not finished


def ensure_built(folder: Path) -> Path:
    """Return *folder*, which then holds the whole model as it was built.

    Of several processes that find it missing or damaged one builds, and the others wait.
    Raises SettingsError when the folder cannot be written, or a package that the model is built from is missing.
    """
    if _is_intact(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back by the kernel, however the process ends
            if not _is_intact(folder):
                _build(folder)
    except OSError as exc:
        raise SettingsError(f"the offline model cannot be built in {folder}: {exc.strerror or exc}") from exc
    return folder


def _build(folder: Path) -> None:
    from shared.embedders.offline.build import build  # its libraries are needed this once

    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    build(unfinished)
    sums = {path.name: _sha256(path) for path in unfinished.iterdir()}
    (unfinished / _MANIFEST).write_text(json.dumps(sums))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _is_intact(folder: Path) -> bool:
    try:
        sums = json.loads((folder / _MANIFEST).read_bytes())
        return all(_sha256(folder / name) == expected for name, expected in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

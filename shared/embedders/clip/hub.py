"""Models that can be chosen by name, and their download from the model hub."""

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from shared.embedders.clip.layouts import OPEN_CLIP, TRANSFORMERS, Layout, Tower
from shared.errors import ModelError

_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class HubModel:
    """A model that the hub offers as ONNX files."""

    name: str
    repository: str
    layout: Layout
    dimensions: int

    @property
    def folder_name(self) -> str:
        return self.name.replace("/", "-")


HUB_MODELS = (
    HubModel("ViT-B-16-SigLIP2", "immich-app/ViT-B-16-SigLIP2__webli", OPEN_CLIP, 768),
    # Xenova's exports accept texts of any length and batches of images.
    HubModel("ViT-L/14", "Xenova/clip-vit-large-patch14", TRANSFORMERS, 768),
    HubModel("ViT-B/32", "Xenova/clip-vit-base-patch32", TRANSFORMERS, 512),
)
DEFAULT_MODEL = "ViT-B-16-SigLIP2"
REPLICATE_WEIGHTS = "ViT-L/14"  # the model that has the weights of Replicate's


def known_model(name: str) -> HubModel | None:
    """Return the model of that name, regardless of case and of ``/`` or ``-``."""
    folder_name = name.replace("/", "-").lower()
    return next((model for model in HUB_MODELS if model.folder_name.lower() == folder_name), None)


async def fetch(model: HubModel, folder: Path, tower: Tower, *, endpoint: str | None = None) -> None:
    """Download the files of *tower* that *folder* lacks; without any, the hub is not contacted.

    The next call resumes an interrupted download. Raises ModelError with the remedy.
    """
    missing = [name for name in model.layout.files(tower) if not (folder / name).is_file()]
    if not missing:
        return
    finished: Future[None] = Future()
    finished.set_running_or_notify_cancel()

    def work() -> None:
        try:
            _download(model, folder, missing, endpoint)
        except ModelError as exc:
            finished.set_exception(exc)
        else:
            finished.set_result(None)

    # The interpreter does not wait for a daemon thread at exit, and a download takes minutes.
    threading.Thread(target=work, daemon=True, name="download").start()
    await asyncio.wrap_future(finished)


def _download(model: HubModel, folder: Path, names: list[str], endpoint: str | None) -> None:
    name = "list of files"
    try:
        import huggingface_hub  # takes a third of a second, and most starts find all files

        # First, because it fails at once without a connection, and so that all files come from the same commit.
        commit = huggingface_hub.HfApi(endpoint).model_info(model.repository, timeout=_TIMEOUT).sha
        for name in names:
            huggingface_hub.hf_hub_download(
                model.repository, name, revision=commit, local_dir=folder, endpoint=endpoint
            )
    except Exception as exc:  # its exceptions and those of its HTTP library have no common class
        raise ModelError(
            f"cannot download {model.repository} from the model hub for CLIP_MODEL={model.name}: {name}:"
            f" {str(exc).strip().partition(chr(10))[0]}. Try again later, put the files of that repository into"
            f" {folder}, set CLIP_MODEL to a folder with a model, or set EMBEDDER=offline, which needs no download",
            transient=False,
        ) from exc

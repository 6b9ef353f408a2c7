"""The models that are known by name, and fetching them from the model hub, once."""

from dataclasses import dataclass
from pathlib import Path

from shared.embedders.clip.layouts import OPEN_CLIP, TRANSFORMERS, Layout, Tower
from shared.errors import ModelError

_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class HubModel:
    """A model that the hub has as ONNX files."""

    name: str
    repository: str
    layout: Layout
    dimensions: int

    @property
    def folder_name(self) -> str:
        return self.name.replace("/", "-")


HUB_MODELS = (
    # The layout of Xenova encodes only the tokens that a query has, and images in batches.
    HubModel("ViT-L/14", "Xenova/clip-vit-large-patch14", TRANSFORMERS, 768),
    HubModel("ViT-B/32", "Xenova/clip-vit-base-patch32", TRANSFORMERS, 512),
    HubModel("ViT-B-16-SigLIP2", "immich-app/ViT-B-16-SigLIP2__webli", OPEN_CLIP, 768),
)


def known_model(name: str) -> HubModel | None:
    """Return the model of that name; ``/`` and ``-``, capitals and small letters are the same."""
    wanted = name.replace("/", "-").lower()
    return next((model for model in HUB_MODELS if model.folder_name.lower() == wanted), None)


def fetch(model: HubModel, folder: Path, tower: Tower, *, endpoint: str | None = None) -> None:
    """Fetch what *tower* needs and *folder* has not got yet; nothing is asked of the hub when all is there.

    Raises ModelError with the remedy. What was cut short is continued by the next call.
    """
    missing = [name for name in model.layout.files(tower) if not (folder / name).is_file()]
    if not missing:
        return
    import huggingface_hub  # takes a third of a second, and most starts find all files

    name = "its list of files"
    try:
        # Asked first: this answers at once when there is no connection, and all files come from the same commit.
        commit = huggingface_hub.HfApi(endpoint).model_info(model.repository, timeout=_TIMEOUT).sha
        for name in missing:
            huggingface_hub.hf_hub_download(
                model.repository, name, revision=commit, local_dir=folder, endpoint=endpoint
            )
    except Exception as exc:  # its own, and those of whichever HTTP library it found, have no common class
        raise ModelError(
            f"{model.repository} cannot be fetched from the model hub for CLIP_MODEL={model.name}: {name}:"
            f" {str(exc).strip().partition(chr(10))[0]}. Try again later; or put the files of that repository into"
            f" {folder}; or give CLIP_MODEL a folder that holds a model; or set EMBEDDER=offline, which needs no"
            " download",
            transient=False,
        ) from exc

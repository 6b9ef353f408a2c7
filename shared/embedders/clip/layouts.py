"""Read the two folder layouts of CLIP models into one description.

    open_clip (the repositories of immich-app)    transformers.js (those of Xenova and onnx-community)

    config.json                                   config.json
    textual/model.onnx                            onnx/text_model.onnx
    textual/tokenizer.json                        tokenizer.json
    textual/tokenizer_config.json                 tokenizer_config.json (may be missing)
    visual/model.onnx                             onnx/vision_model.onnx
    visual/preprocess_cfg.json                    preprocessor_config.json

Preprocessing follows open_clip or transformers, according to the layout, where the two differ.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from shared.embedders.clip.preprocess import Preprocessing, Resampling
from shared.errors import ModelError

Clean = Literal["none", "lower", "open_clip_whitespace", "open_clip_lower", "open_clip_canonicalize"]
Json = dict[str, Any]

_OPEN_CLIP_CLEAN: dict[str, Clean] = {
    "lower": "open_clip_lower",
    "whitespace": "open_clip_whitespace",
    "canonicalize": "open_clip_canonicalize",
}
# By name in open_clip, by number (of Pillow's enum) in transformers.
_RESAMPLING: dict[str | int, Resampling] = {"bicubic": "bicubic", 3: "bicubic", "bilinear": "bilinear", 2: "bilinear"}


class Tower(Enum):
    """One of the two networks of a model."""

    TEXT = "text"
    IMAGE = "image"


@dataclass(frozen=True)
class TextModel:
    """The text tower. ``causal`` means that nothing after the end token influences the vector."""

    weights: Path
    tokenizer: Path
    context_length: int
    pad_token: str
    pad_left: bool
    clean: Clean
    causal: bool


@dataclass(frozen=True)
class ImageModel:
    """The image tower and its preprocessing."""

    weights: Path
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Layout:
    """Paths in the folder of a model."""

    config: str
    tokenizer: str
    tokenizer_config: str
    text_weights: str
    image_config: str
    image_weights: str

    def files(self, tower: Tower) -> tuple[str, ...]:
        """Return the files that *tower* needs, largest last."""
        if tower is Tower.TEXT:
            return self.config, self.tokenizer_config, self.tokenizer, self.text_weights
        return self.config, self.image_config, self.image_weights


OPEN_CLIP = Layout(
    config="config.json",
    tokenizer="textual/tokenizer.json",
    tokenizer_config="textual/tokenizer_config.json",
    text_weights="textual/model.onnx",
    image_config="visual/preprocess_cfg.json",
    image_weights="visual/model.onnx",
)
TRANSFORMERS = Layout(
    config="config.json",
    tokenizer="tokenizer.json",
    tokenizer_config="tokenizer_config.json",
    text_weights="onnx/text_model.onnx",
    image_config="preprocessor_config.json",
    image_weights="onnx/vision_model.onnx",
)


def read_dimensions(folder: Path) -> int:
    """Return the number of dimensions of the model's vectors. Raises ModelError."""
    config, layout = _read_config(folder)
    with _explained(folder / layout.config):
        if layout is OPEN_CLIP:
            return int(config["embed_dim"])
        if _is_clip(config):
            return int(config.get("projection_dim", 512))
        # Configurations of transformers omit values that equal the defaults.
        text = config.get("text_config") or {}
        return int(text.get("projection_size", text.get("hidden_size", 768)))


def read_text_model(folder: Path) -> TextModel:
    """Return the description of the text tower in *folder*. Raises ModelError that names the file and the problem."""
    config, layout = _read_config(folder)
    _require(folder, layout.tokenizer, layout.text_weights)
    with _explained(folder / layout.config):
        read = _open_clip_text if layout is OPEN_CLIP else _transformers_text
        context_length, clean, causal = read(config)
    tokenizer_config = folder / layout.tokenizer_config
    tokens = _read_json(tokenizer_config) if tokenizer_config.exists() else {}
    return TextModel(
        weights=folder / layout.text_weights,
        tokenizer=folder / layout.tokenizer,
        context_length=context_length,
        pad_token=_token(tokens.get("pad_token")) or ("<|endoftext|>" if causal else "<pad>"),
        pad_left=tokens.get("padding_side") == "left",
        clean=clean,
        causal=causal,
    )


def read_image_model(folder: Path) -> ImageModel:
    """Return the description of the image tower in *folder*. Raises ModelError that names the file and the problem."""
    _, layout = _read_config(folder)
    _require(folder, layout.image_config, layout.image_weights)
    settings = _read_json(folder / layout.image_config)
    with _explained(folder / layout.image_config):
        read = _open_clip_preprocessing if layout is OPEN_CLIP else _transformers_preprocessing
        return ImageModel(weights=folder / layout.image_weights, preprocessing=read(settings))


def fingerprint(folder: Path) -> str:
    """Return 12 hexadecimal digits that identify the weights of both towers. Raises ModelError.

    Only the size and 64 samples of each file are hashed, which takes milliseconds instead of many seconds: weights of
    different trainings differ everywhere.
    """
    layout = _read_config(folder)[1]
    return _digest(folder, layout.text_weights, layout.image_weights)


def text_fingerprint(folder: Path) -> str:
    """Return the fingerprint of the text tower alone."""
    return _digest(folder, _read_config(folder)[1].text_weights)


def _digest(folder: Path, *names: str) -> str:
    _require(folder, *names)
    digest = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as file:
            size = file.seek(0, 2)
            digest.update(size.to_bytes(8, "big"))
            for sample in range(64):
                file.seek(size * sample // 64)
                digest.update(file.read(4096))
    return digest.hexdigest()[:12]


def _open_clip_text(config: Json) -> tuple[int, Clean, bool]:
    """Return the context length, the cleaning of texts, and whether the tower is causal."""
    text = config["text_cfg"]
    # open_clip's own tokenizer converts to lower case; one of another library receives the text unchanged.
    default = "whitespace" if "hf_tokenizer_name" in text else "lower"
    clean = (text.get("tokenizer_kwargs") or {}).get("clean", default)
    causal = not text.get("no_causal_mask") and not text.get("embed_cls")
    causal = causal and text.get("pool_type", "argmax") in ("argmax", "eos")
    return int(text.get("context_length", 77)), _OPEN_CLIP_CLEAN[clean], causal


def _transformers_text(config: Json) -> tuple[int, Clean, bool]:
    causal = _is_clip(config)
    text = config.get("text_config") or {}
    # SigLIP was trained on lower-case texts, but the tokenizer file of SigLIP2 does not state it.
    return int(text.get("max_position_embeddings", 77 if causal else 64)), "none" if causal else "lower", causal


def _open_clip_preprocessing(settings: Json) -> Preprocessing:
    size = _size(settings["size"])
    squash = {"shortest": False, "squash": True}[settings.get("resize_mode", "shortest")]
    if not squash and size[0] != size[1]:
        raise ValueError("resize_mode 'shortest' needs a size of equal sides")
    return Preprocessing(
        size=size,
        shortest_edge=None if squash else size[0],
        # torchvision's CenterCrop rounds half a pixel to even.
        crop_rounds=True,
        resampling=_RESAMPLING[settings.get("interpolation", "bicubic")],
        mean=_rgb(settings["mean"]),
        std=_rgb(settings["std"]),
    )


def _transformers_preprocessing(settings: Json) -> Preprocessing:
    if False in (settings.get(step) for step in ("do_resize", "do_rescale", "do_normalize")):
        raise ValueError("only models that resize, rescale and normalise their images are supported")
    shortest_edge, size = None, _size(settings["size"])
    has_edge = isinstance(settings["size"], dict) and "shortest_edge" in settings["size"]
    if settings.get("do_center_crop"):
        shortest_edge, size = size[0], _size(settings["crop_size"])
        if not (has_edge or isinstance(settings["size"], int)) or shortest_edge < max(size):
            raise ValueError(f"crop_size {settings['crop_size']} exceeds the shortest edge of the resized image")
    elif has_edge:
        raise ValueError("a shortest edge without a crop gives images of varying size")
    return Preprocessing(
        size=size,
        shortest_edge=shortest_edge,
        crop_rounds=False,
        resampling=_RESAMPLING[settings.get("resample", "bicubic")],
        mean=_rgb(settings["image_mean"]),
        std=_rgb(settings["image_std"]),
        rescale=float(settings.get("rescale_factor", 1 / 255)),
    )


def _size(value: Any) -> tuple[int, int]:
    """Return *value* as (height, width); a single number means both."""
    match value:
        case int(edge) | {"shortest_edge": int(edge)} | [int(edge)]:
            return edge, edge
        case {"height": int(height), "width": int(width)} | [int(height), int(width)]:
            return height, width
    raise ValueError(f"{value!r} is not a size: expected a number of pixels, or a height and a width")


def _rgb(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _is_clip(config: Json) -> bool:
    """Return whether the model is CLIP, as opposed to SigLIP."""
    return {"clip": True, "siglip": False, "siglip2": False}[config["model_type"]]


def _token(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")


def _read_config(folder: Path) -> tuple[Json, Layout]:
    path = folder / "config.json"
    config = _read_json(path)
    if "text_cfg" in config:
        return config, OPEN_CLIP
    if "model_type" in config:
        return config, TRANSFORMERS
    raise ModelError(
        f"{path} belongs neither to an open_clip model (text_cfg) nor to a transformers model (model_type): give a"
        " folder as published by immich-app or Xenova",
        transient=False,
    )


def _read_json(path: Path) -> Json:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ModelError(f"cannot read {path} as JSON ({exc}): download it again", transient=False) from exc
    if not isinstance(values, dict):
        raise ModelError(f"{path} does not contain a JSON object: download it again", transient=False)
    return values


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raise a ModelError that names *path* for settings that are missing or unusable."""
    try:
        yield
    except KeyError as exc:
        raise ModelError(f"{path}: {exc} is missing or not supported", transient=False) from exc
    except (AttributeError, TypeError, ValueError) as exc:
        raise ModelError(f"{path} has unusable settings: {exc}", transient=False) from exc


def _require(folder: Path, *names: str) -> None:
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(f"the model in {folder} lacks {' and '.join(missing)}: add the missing files", transient=False)

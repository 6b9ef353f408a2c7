"""Reads the two ways in which CLIP models lie in folders into one description.

    open_clip (the repositories of immich-app)    transformers.js (those of Xenova and onnx-community)

    config.json                                   config.json
    textual/model.onnx                            onnx/text_model.onnx
    textual/tokenizer.json                        tokenizer.json
    textual/tokenizer_config.json                 tokenizer_config.json (may be missing)
    visual/model.onnx                             onnx/vision_model.onnx
    visual/preprocess_cfg.json                    preprocessor_config.json

The settings say how open_clip or transformers prepare their inputs, and each is followed where the two differ.
"""

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from shared.embedders.clip.preprocess import Preprocessing, Resampling
from shared.errors import ModelError

Clean = Literal["none", "lower", "open_clip_whitespace", "open_clip_lower", "open_clip_canonicalize"]


class Tower(Enum):
    """One half of a model: what encodes texts, or what encodes images."""

    TEXT = "text"
    IMAGE = "image"


@dataclass(frozen=True)
class TextModel:
    """The tower for texts. ``causal`` says that nothing after a text's end token has any influence on its vector."""

    weights: Path
    tokenizer: Path
    context_length: int
    pad_token: str
    pad_left: bool
    clean: Clean
    causal: bool


@dataclass(frozen=True)
class ImageModel:
    """The tower for images, and what is done to an image before."""

    weights: Path
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Layout:
    config: str
    tokenizer: str
    tokenizer_config: str
    text_weights: str
    image_config: str
    image_weights: str

    def files(self, tower: Tower) -> tuple[str, ...]:
        """The files that this tower needs, largest last."""
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
    """Return how many dimensions the model's vectors have. Raises ModelError."""
    config = _Settings.read(folder / "config.json")
    if _layout(config) is OPEN_CLIP:
        return config.whole("embed_dim")
    if _family(config) == "clip":
        return config.whole("projection_dim", default=512)
    # Configurations of transformers leave out what equals its defaults.
    text = config.section("text_config")
    return text.whole("projection_size", default=text.whole("hidden_size", default=768))


def read_text_model(folder: Path) -> TextModel:
    """Return what *folder* says of its tower for texts. Raises ModelError, naming the file and what is wrong."""
    config = _Settings.read(folder / "config.json")
    layout = _layout(config)
    _require(folder, layout.tokenizer, layout.text_weights)
    tokenizer_config = _Settings.read(folder / layout.tokenizer_config, optional=True)
    if layout is OPEN_CLIP:
        text = config.section("text_cfg")
        # open_clip's own tokenizer writes in lower case; that of another library is given its text as it is.
        default = "whitespace" if "hf_tokenizer_name" in text.values else "lower"
        clean = text.section("tokenizer_kwargs").choice(
            "clean", ("lower", "whitespace", "canonicalize"), default=default
        )
        cleaning: Clean = f"open_clip_{clean}"  # type: ignore[assignment]
        causal = not text.values.get("no_causal_mask") and not text.values.get("embed_cls")
        causal = causal and text.values.get("pool_type", "argmax") in ("argmax", "eos")
        context_length = text.whole("context_length", default=77)
    else:
        causal = _family(config) == "clip"
        # SigLIP was trained on texts in lower case, which the tokenizer's file of the second one does not say.
        cleaning = "none" if causal else "lower"
        context_length = config.section("text_config").whole("max_position_embeddings", default=77 if causal else 64)
    return TextModel(
        weights=folder / layout.text_weights,
        tokenizer=folder / layout.tokenizer,
        context_length=context_length,
        pad_token=_token(tokenizer_config.values.get("pad_token")) or ("<|endoftext|>" if causal else "<pad>"),
        pad_left=tokenizer_config.values.get("padding_side") == "left",
        clean=cleaning,
        causal=causal,
    )


def read_image_model(folder: Path) -> ImageModel:
    """Return what *folder* says of its tower for images. Raises ModelError, naming the file and what is wrong."""
    layout = _layout(_Settings.read(folder / "config.json"))
    _require(folder, layout.image_config, layout.image_weights)
    settings = _Settings.read(folder / layout.image_config)
    read = _open_clip_preprocessing if layout is OPEN_CLIP else _transformers_preprocessing
    return ImageModel(weights=folder / layout.image_weights, preprocessing=read(settings))


def fingerprint(folder: Path) -> str:
    """Return 12 hexadecimal digits that stand for the weights of both towers. Raises ModelError.

    Of each file the size and 64 places are hashed, which takes milliseconds where all of it would take many seconds:
    two trainings of a model differ everywhere.
    """
    layout = _layout(_Settings.read(folder / "config.json"))
    return _digest(folder, layout.text_weights, layout.image_weights)


def text_fingerprint(folder: Path) -> str:
    """Return the same for the weights of the tower for texts alone."""
    return _digest(folder, _layout(_Settings.read(folder / "config.json")).text_weights)


def _digest(folder: Path, *names: str) -> str:
    _require(folder, *names)
    digest = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as file:
            size = file.seek(0, 2)
            digest.update(size.to_bytes(8, "big"))
            for place in range(64):
                file.seek(size * place // 64)
                digest.update(file.read(4096))
    return digest.hexdigest()[:12]


def _open_clip_preprocessing(settings: "_Settings") -> Preprocessing:
    size = settings.size("size")
    mode = settings.choice("resize_mode", ("shortest", "squash"), default="shortest")
    if mode == "shortest" and size[0] != size[1]:
        raise settings.unusable("size", "for the resize_mode 'shortest', both sides must be equal")
    return Preprocessing(
        size=size,
        shortest_edge=size[0] if mode == "shortest" else None,
        # torchvision's CenterCrop rounds half a pixel to the even neighbour.
        crop_rounds=True,
        resampling=settings.resampling("interpolation"),
        mean=settings.triple("mean"),
        std=settings.triple("std"),
    )


def _transformers_preprocessing(settings: "_Settings") -> Preprocessing:
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if settings.values.get(step) is False:
            raise settings.unusable(step, "only models whose images are resized, rescaled and normalised are known")
    shortest_edge, size = None, settings.size("size")
    if settings.values.get("do_center_crop"):
        if settings.is_edge("size"):
            shortest_edge = size[0]
        size = settings.size("crop_size")
        if shortest_edge is None or shortest_edge < max(size):
            raise settings.unusable("crop_size", "it must not be larger than the shortest edge of the resized image")
    elif settings.is_edge("size") and not isinstance(settings.values["size"], int):
        raise settings.unusable("size", "an edge alone gives images of no fixed size")
    return Preprocessing(
        size=size,
        shortest_edge=shortest_edge,
        crop_rounds=False,
        resampling=settings.resampling("resample"),
        mean=settings.triple("image_mean"),
        std=settings.triple("image_std"),
        rescale=float(settings.values.get("rescale_factor", 1 / 255)),
    )


def _layout(config: "_Settings") -> Layout:
    if "text_cfg" in config.values:
        return OPEN_CLIP
    if "model_type" in config.values:
        return TRANSFORMERS
    raise ModelError(
        f"{config.path} is neither the configuration of an open_clip model (text_cfg) nor that of a transformers model"
        " (model_type): give a folder as immich-app or Xenova publish them",
        transient=False,
    )


def _family(config: "_Settings") -> str:
    return config.choice("model_type", ("clip", "siglip", "siglip2"))


def _require(folder: Path, *names: str) -> None:
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(
            f"the model in {folder} has no {' and no '.join(missing)}: add what is missing", transient=False
        )


def _token(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")


@dataclass(frozen=True)
class _Settings:
    """One of a model's JSON files, or a section of it; what cannot be used raises ModelError."""

    path: Path
    values: dict[str, Any]

    @classmethod
    def read(cls, path: Path, *, optional: bool = False) -> "_Settings":
        if optional and not path.exists():
            return cls(path, {})
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as exc:
            raise ModelError(
                f"there is no {path}: give the folder that holds the model's files", transient=False
            ) from exc
        except (OSError, ValueError) as exc:
            raise ModelError(f"{path} cannot be read as JSON ({exc}): fetch it again", transient=False) from exc
        if not isinstance(values, dict):
            raise ModelError(f"{path} holds no JSON object: fetch it again", transient=False)
        return cls(path, values)

    def unusable(self, name: str, remedy: str) -> ModelError:
        return ModelError(f"{self.path}: {name} is {self.values.get(name)!r}: {remedy}", transient=False)

    def section(self, name: str) -> "_Settings":
        values = self.values.get(name) or {}
        if not isinstance(values, dict):
            raise self.unusable(name, "it should be an object")
        return _Settings(self.path, values)

    def whole(self, name: str, *, default: int | None = None) -> int:
        value = self.values.get(name, default)
        if not isinstance(value, int) or value < 1:
            raise self.unusable(name, "it should be a whole number of at least 1")
        return value

    def choice(self, name: str, allowed: tuple[str, ...], *, default: str | None = None) -> str:
        value = self.values.get(name, default)
        if value not in allowed:
            raise self.unusable(name, f"only {', '.join(allowed)} are known")
        return str(value)

    def is_edge(self, name: str) -> bool:
        value = self.values.get(name)
        return isinstance(value, int) or (isinstance(value, dict) and "shortest_edge" in value)

    def size(self, name: str) -> tuple[int, int]:
        """Return the setting as (height, width); one number stands for both."""
        match self.values.get(name):
            case int(edge) | {"shortest_edge": int(edge)} | [int(edge)]:
                return edge, edge
            case {"height": int(height), "width": int(width)} | [int(height), int(width)]:
                return height, width
        raise self.unusable(name, "it should be a number of pixels, or a height and a width")

    def resampling(self, name: str) -> Resampling:
        match self.values.get(name, "bicubic"):
            case "bicubic" | 3:
                return "bicubic"
            case "bilinear" | 2:
                return "bilinear"
        raise self.unusable(name, "only bicubic and bilinear are known")

    def triple(self, name: str) -> tuple[float, float, float]:
        match self.values.get(name):
            case [int() | float() as red, int() | float() as green, int() | float() as blue]:
                return float(red), float(green), float(blue)
        raise self.unusable(name, "it should be three numbers, for red, green and blue")

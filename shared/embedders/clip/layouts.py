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
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from shared.embedders.clip.model_config import ModelConfig
from shared.embedders.clip.preprocess import Preprocessing
from shared.errors import ModelError

Clean = Literal["none", "lower", "open_clip_whitespace", "open_clip_lower", "open_clip_canonicalize"]


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
    config = ModelConfig.read(folder / "config.json")
    if _layout(config) is OPEN_CLIP:
        return config.positive_int("embed_dim")
    if _family(config) == "clip":
        return config.positive_int("projection_dim", default=512)
    # Configurations of transformers omit values that equal the defaults.
    text = config.section("text_config")
    return text.positive_int("projection_size", default=text.positive_int("hidden_size", default=768))


def read_text_model(folder: Path) -> TextModel:
    """Return the description of the text tower in *folder*. Raises ModelError that names the file and the problem."""
    config = ModelConfig.read(folder / "config.json")
    layout = _layout(config)
    _require(folder, layout.tokenizer, layout.text_weights)
    tokenizer_config = ModelConfig.read(folder / layout.tokenizer_config, optional=True)
    if layout is OPEN_CLIP:
        text = config.section("text_cfg")
        # open_clip's own tokenizer converts to lower case; one of another library receives the text unchanged.
        default = "whitespace" if "hf_tokenizer_name" in text.values else "lower"
        clean = text.section("tokenizer_kwargs").choice(
            "clean", ("lower", "whitespace", "canonicalize"), default=default
        )
        cleaning: Clean = f"open_clip_{clean}"  # type: ignore[assignment]
        causal = not text.values.get("no_causal_mask") and not text.values.get("embed_cls")
        causal = causal and text.values.get("pool_type", "argmax") in ("argmax", "eos")
        context_length = text.positive_int("context_length", default=77)
    else:
        causal = _family(config) == "clip"
        # SigLIP was trained on lower-case texts, but the tokenizer file of SigLIP2 does not state it.
        cleaning = "none" if causal else "lower"
        context_length = config.section("text_config").positive_int(
            "max_position_embeddings", default=77 if causal else 64
        )
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
    """Return the description of the image tower in *folder*. Raises ModelError that names the file and the problem."""
    layout = _layout(ModelConfig.read(folder / "config.json"))
    _require(folder, layout.image_config, layout.image_weights)
    settings = ModelConfig.read(folder / layout.image_config)
    read = _open_clip_preprocessing if layout is OPEN_CLIP else _transformers_preprocessing
    return ImageModel(weights=folder / layout.image_weights, preprocessing=read(settings))


def fingerprint(folder: Path) -> str:
    """Return 12 hexadecimal digits that identify the weights of both towers. Raises ModelError.

    Only the size and 64 samples of each file are hashed, which takes milliseconds instead of many seconds: weights of
    different trainings differ everywhere.
    """
    layout = _layout(ModelConfig.read(folder / "config.json"))
    return _digest(folder, layout.text_weights, layout.image_weights)


def text_fingerprint(folder: Path) -> str:
    """Return the fingerprint of the text tower alone."""
    return _digest(folder, _layout(ModelConfig.read(folder / "config.json")).text_weights)


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


def _open_clip_preprocessing(settings: ModelConfig) -> Preprocessing:
    size = settings.size("size")
    mode = settings.choice("resize_mode", ("shortest", "squash"), default="shortest")
    if mode == "shortest" and size[0] != size[1]:
        raise settings.error("size", "resize_mode 'shortest' needs equal sides")
    return Preprocessing(
        size=size,
        shortest_edge=size[0] if mode == "shortest" else None,
        # torchvision's CenterCrop rounds half a pixel to even.
        crop_rounds=True,
        resampling=settings.resampling("interpolation"),
        mean=settings.rgb("mean"),
        std=settings.rgb("std"),
    )


def _transformers_preprocessing(settings: ModelConfig) -> Preprocessing:
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if settings.values.get(step) is False:
            raise settings.error(step, "only models that resize, rescale and normalise their images are supported")
    shortest_edge, size = None, settings.size("size")
    if settings.values.get("do_center_crop"):
        if settings.is_edge("size"):
            shortest_edge = size[0]
        size = settings.size("crop_size")
        if shortest_edge is None or shortest_edge < max(size):
            raise settings.error("crop_size", "it exceeds the shortest edge of the resized image")
    elif settings.is_edge("size") and not isinstance(settings.values["size"], int):
        raise settings.error("size", "a shortest edge without a crop gives images of varying size")
    return Preprocessing(
        size=size,
        shortest_edge=shortest_edge,
        crop_rounds=False,
        resampling=settings.resampling("resample"),
        mean=settings.rgb("image_mean"),
        std=settings.rgb("image_std"),
        rescale=float(settings.values.get("rescale_factor", 1 / 255)),
    )


def _layout(config: ModelConfig) -> Layout:
    if "text_cfg" in config.values:
        return OPEN_CLIP
    if "model_type" in config.values:
        return TRANSFORMERS
    raise ModelError(
        f"{config.path} belongs neither to an open_clip model (text_cfg) nor to a transformers model (model_type):"
        " give a folder as published by immich-app or Xenova",
        transient=False,
    )


def _family(config: ModelConfig) -> str:
    return config.choice("model_type", ("clip", "siglip", "siglip2"))


def _require(folder: Path, *names: str) -> None:
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(f"the model in {folder} lacks {' and '.join(missing)}: add the missing files", transient=False)


def _token(value: Any) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")

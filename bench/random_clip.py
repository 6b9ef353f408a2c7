"""Generate a CLIP model of the shape of ViT-B/32 with random weights, without PyTorch, for benchmarks."""

import json
import shutil
from pathlib import Path

import numpy as np
from onnx import TensorProto

from shared.embedders.offline.graph import Graph

TOKENIZER = Path(__file__).parents[1] / "tests" / "golden" / "clip" / "transformers_clip" / "tokenizer.json"
DIMENSIONS, CONTEXT, VOCABULARY = 512, 77, 49408
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def ensure_generated(folder: Path) -> Path:
    """Return *folder* after generating the model (600 MB) in the layout of transformers.js unless it exists."""
    if not (folder / "config.json").exists():
        (folder / "onnx").mkdir(parents=True, exist_ok=True)
        save_vision_tower(folder / "onnx" / "vision_model.onnx")
        save_text_tower(folder / "onnx" / "text_model.onnx")
        shutil.copy(TOKENIZER, folder / "tokenizer.json")
        preprocessor = {
            "size": {"shortest_edge": 224},
            "do_center_crop": True,
            "crop_size": 224,
            "resample": 3,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        config = {"model_type": "clip", "projection_dim": DIMENSIONS}
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def save_vision_tower(path: Path) -> None:
    """Write a network from pixel_values to vectors: patches of 32 x 32 of 224 x 224 pixels, 12 layers of 768."""
    graph = _RandomGraph()
    pixels = graph.input("pixel_values", TensorProto.FLOAT, ["batch", 3, 224, 224])
    patches = graph.node("Conv", pixels, graph.weights(768, 3, 32, 32), strides=[32, 32], kernel_shape=[32, 32])
    patches = graph.node("Reshape", patches, graph.ints(0, 768, 49))
    patches = graph.node("Transpose", patches, perm=[0, 2, 1])
    count = graph.node("Slice", graph.node("Shape", pixels), graph.ints(0), graph.ints(1))
    shape = graph.node("Concat", count, graph.ints(1, 768), axis=0)
    x = graph.node("Concat", graph.node("Expand", graph.weights(1, 1, 768), shape), patches, axis=1)
    x = graph.norm(graph.node("Add", x, graph.weights(50, 768)), 768)
    for _ in range(12):
        x = graph.layer(x, width=768, heads=12)
    first = graph.node("Squeeze", graph.node("Gather", x, graph.ints(0), axis=1), graph.ints(1))
    pooled = graph.norm(first, 768)
    vectors = graph.node("MatMul", pooled, graph.weights(768, DIMENSIONS))
    graph.save(path, output=vectors, shape=["batch", DIMENSIONS])


def save_text_tower(path: Path) -> None:
    """Write a network from input_ids of any length to vectors: 12 layers of 512 with a causal mask."""
    graph = _RandomGraph()
    ids = graph.input("input_ids", TensorProto.INT64, ["batch", "length"])
    length = graph.node("Slice", graph.node("Shape", ids), graph.ints(1), graph.ints(2))
    x = graph.node("Gather", graph.weights(VOCABULARY, 512), ids)
    x = graph.node("Add", x, graph.node("Slice", graph.weights(CONTEXT, 512), graph.ints(0), length, graph.ints(0)))
    causal = graph.constant(np.triu(np.full((CONTEXT, CONTEXT), -1e9, np.float32), 1))
    both = graph.node("Concat", length, length, axis=0)
    mask = graph.node("Slice", causal, graph.ints(0, 0), both, graph.ints(0, 1))
    for _ in range(12):
        x = graph.layer(x, width=512, heads=8, mask=mask)
    x = graph.norm(x, 512)
    end = graph.node("ArgMax", ids, axis=1, keepdims=1)
    index = graph.node("Expand", graph.node("Unsqueeze", end, graph.ints(2)), graph.ints(1, 1, 512))
    pooled = graph.node("Squeeze", graph.node("GatherElements", x, index, axis=1), graph.ints(1))
    vectors = graph.node("MatMul", pooled, graph.weights(512, DIMENSIONS))
    graph.save(path, output=vectors, shape=["batch", DIMENSIONS])


class _RandomGraph(Graph):
    """A graph whose layers have random weights."""

    def __init__(self) -> None:
        super().__init__()
        self._random = np.random.default_rng(0)

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def weights(self, *shape: int) -> str:
        return self.constant(self._random.standard_normal(shape, dtype=np.float32) * np.float32(0.02))

    def norm(self, x: str, width: int) -> str:
        one, zero = self.constant(np.ones(width, np.float32)), self.constant(np.zeros(width, np.float32))
        return self.node("LayerNormalization", x, one, zero, axis=-1, epsilon=1e-5)

    def linear(self, x: str, width: int, out: int) -> str:
        return self.node("Add", self.node("MatMul", x, self.weights(width, out)), self.weights(out))

    def layer(self, x: str, *, width: int, heads: int, mask: str | None = None) -> str:
        """Add a pre-norm transformer layer with QuickGELU, as in CLIP."""
        normed = self.norm(x, width)
        query, key, value = (
            self.node(
                "Transpose",
                self.node("Reshape", self.linear(normed, width, width), self.ints(0, -1, heads, width // heads)),
                perm=perm,
            )
            for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scale = self.constant(np.array((width // heads) ** -0.5, np.float32))
        scores = self.node("MatMul", self.node("Mul", query, scale), key)
        if mask:
            scores = self.node("Add", scores, mask)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        mixed = self.node("Reshape", self.node("Transpose", mixed, perm=[0, 2, 1, 3]), self.ints(0, -1, width))
        x = self.node("Add", x, self.linear(mixed, width, width))
        hidden = self.linear(self.norm(x, width), width, 4 * width)
        gate = self.node("Sigmoid", self.node("Mul", hidden, self.constant(np.array(1.702, np.float32))))
        return self.node("Add", x, self.linear(self.node("Mul", hidden, gate), 4 * width, width))

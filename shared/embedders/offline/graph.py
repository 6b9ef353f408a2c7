"""Builder of ONNX graphs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import helper, numpy_helper


class Graph:
    """An ONNX graph under construction; methods return the names that later nodes refer to."""

    def __init__(self, model: onnx.ModelProto | None = None) -> None:
        """Start from *model* or from an empty graph."""
        self._model = model or helper.make_model(
            helper.make_graph([], "image_browser", [], []), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        )

    def input(self, name: str, element_type: int, shape: list[int | str]) -> str:
        """Add an input of the graph; named dimensions are variable."""
        self._model.graph.input.append(helper.make_tensor_value_info(name, element_type, shape))
        return name

    def constant(self, values: ArrayLike) -> str:
        name = f"our_constant_{len(self._model.graph.initializer)}"
        self._model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"our_{operator}_{len(self._model.graph.node)}"
        self._model.graph.node.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def save(self, path: Path, *, output: str, shape: list[int | str]) -> None:
        """Check the graph and write it to *path* with *output* (float32) as its only output."""
        del self._model.graph.output[:]
        self._model.graph.output.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape))
        onnx.checker.check_model(self._model)
        onnx.save(self._model, path)

"""Builder of ONNX graphs whose weights lie in a file beside them.

ONNX Runtime maps that file into memory instead of copying it, and several processes share the pages.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper

_MIN_BYTES = 1024  # smaller arrays stay in the graph
_ALIGNMENT = 64  # bytes, for vector instructions


class Graph:
    """An ONNX graph under construction; methods return the names that later nodes refer to."""

    def __init__(self, path: Path, model: onnx.ModelProto | None = None) -> None:
        """Start from *model* or from an empty graph, to be written to *path*."""
        self._path = path
        self._weights = path.with_suffix(".weights").open("wb")
        self._model = model or helper.make_model(
            helper.make_graph([], "image_browser", [], []), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        )
        for tensor in self._model.graph.initializer:
            self._write(tensor, numpy_helper.to_array(tensor))

    def input(self, name: str, element_type: int, shape: list[int | str]) -> str:
        """Add an input of the graph; named dimensions are variable."""
        self._model.graph.input.append(helper.make_tensor_value_info(name, element_type, shape))
        return name

    def constant(self, values: ArrayLike) -> str:
        name = f"our_constant_{len(self._model.graph.initializer)}"
        array = np.ascontiguousarray(values)
        data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        self._write(self._model.graph.initializer.add(name=name, dims=array.shape, data_type=data_type), array)
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"our_{operator}_{len(self._model.graph.node)}"
        self._model.graph.node.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def save(self, *, output: str, shape: list[int | str]) -> None:
        """Write the graph with *output* (float32) as its only output, and check it."""
        del self._model.graph.output[:]
        self._model.graph.output.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape))
        self._weights.close()
        onnx.save(self._model, self._path)
        onnx.checker.check_model(self._path)

    def _write(self, tensor: onnx.TensorProto, array: NDArray[Any]) -> None:
        """Write the values of *tensor*, large ones to the file of weights: a copy in memory would take up to 65 MB."""
        if array.nbytes < _MIN_BYTES:
            tensor.raw_data = array.tobytes()
            return
        self._weights.write(bytes(-self._weights.tell() % _ALIGNMENT))
        place = {"location": Path(self._weights.name).name, "offset": self._weights.tell(), "length": array.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        self._weights.write(array.data)

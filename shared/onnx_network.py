"""Networks that run on the CPU in ONNX Runtime. Calls block and are thread-safe."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from shared.errors import ModelError


def open_network(path: Path) -> onnxruntime.InferenceSession:
    """Return the network in an ONNX file."""
    options = onnxruntime.SessionOptions()
    # Each call computes in its caller's thread: one image per core is faster than two cores per image.
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_network(session: onnxruntime.InferenceSession, **inputs: NDArray[Any]) -> NDArray[np.float32]:
    """Return the only output. Raises ModelError if ONNX Runtime fails."""
    try:
        (output,) = session.run(None, inputs)
    except (Fail, RuntimeException) as exc:
        raise ModelError(f"a local model failed: {exc}", transient=False) from exc
    return np.asarray(output)

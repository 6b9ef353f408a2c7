"""The two networks in ONNX Runtime. Calls block and are thread-safe."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from shared.embedders.clip.layouts import ImageModel, TextModel
from shared.embedders.clip.tokenize import TextTokenizer
from shared.errors import ModelError

# Execution providers for GPUs, best first. TensorRT compiles a model for minutes at every start.
_ACCELERATORS = (
    "CUDAExecutionProvider",
    "MIGraphXExecutionProvider",
    "ROCMExecutionProvider",
    "CoreMLExecutionProvider",
    "DmlExecutionProvider",
)
_CPU = "CPUExecutionProvider"

# Names of the output vector in exports; the first output if none matches.
_OUTPUT_NAMES = ("embedding", "text_embeds", "image_embeds", "pooler_output")

_DTYPES = {
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}

logger = logging.getLogger(__name__)


def ordered_providers() -> list[str]:
    """Return the execution providers of the installed build of ONNX Runtime: those for GPUs, best first, then CPU."""
    available = onnxruntime.get_available_providers()
    return [*(name for name in _ACCELERATORS if name in available), _CPU]


class TextTower:
    """The text tower, always on the CPU, where a query takes a few milliseconds."""

    def __init__(self, model: TextModel, *, dimensions: int) -> None:
        """Load the network. Raises ModelError for unusable files."""
        self._network = _Network(model.weights, [_CPU], threads=0, dimensions=dimensions)
        ids = self._network.inputs.get("input_ids") or self._network.inputs.get("text") or self._network.first_input
        if len(ids.shape) != 2 or (isinstance(ids.shape[1], int) and ids.shape[1] != model.context_length):
            raise self._network.mismatch(f"takes texts of shape {ids.shape}, not [1, {model.context_length}]")
        if unknown := set(self._network.inputs) - {ids.name, "attention_mask"}:
            raise self._network.mismatch(f"needs {', '.join(sorted(unknown))} in addition to tokens")
        self._ids = ids.name
        self._masks_padding = model.causal
        # Padding is omitted where it has no influence: a query has about 7 tokens, a context 77.
        self._tokenize = TextTokenizer(model, pad=isinstance(ids.shape[1], int) or not model.causal)

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return the unnormalised vector [dimensions] of one text, which is cut if it is too long."""
        ids, mask = self._tokenize(text)
        values = {self._ids: ids[np.newaxis]}
        if "attention_mask" in self._network.inputs:
            # SigLIP was trained without a mask and attends to padding, too.
            values["attention_mask"] = (mask if self._masks_padding else np.ones_like(mask))[np.newaxis]
        vector: NDArray[np.float32] = self._network.run(values)[0]
        return vector


class ImageTower:
    """The image tower, on a GPU if the installed build of ONNX Runtime can use one."""

    def __init__(self, model: ImageModel, *, dimensions: int) -> None:
        """Load the network. Raises ModelError for unusable files."""
        # Each call computes in its caller's thread: one image per core is faster than two cores per image.
        self._network = _Network(model.weights, ordered_providers(), threads=1, dimensions=dimensions)
        self._preprocessing = model.preprocessing
        pixels = (
            self._network.inputs.get("pixel_values") or self._network.inputs.get("image") or self._network.first_input
        )
        expected = (3, *model.preprocessing.size)
        fixed = [length for length in pixels.shape[1:] if isinstance(length, int)]
        if len(pixels.shape) != 4 or len(self._network.inputs) != 1:
            raise self._network.mismatch(f"takes {', '.join(self._network.inputs)} instead of pixels alone")
        sides = zip(pixels.shape[1:], expected, strict=True)
        if any(isinstance(side, int) and side != length for side, length in sides):
            raise self._network.mismatch(f"takes images of shape {fixed}, but its settings produce {list(expected)}")
        self._pixels = pixels.name
        self.takes_batches = not isinstance(pixels.shape[0], int)
        if not self.takes_batches and pixels.shape[0] != 1:
            raise self._network.mismatch(
                f"takes exactly {pixels.shape[0]} images per call instead of one or any number"
            )

    @property
    def accelerated(self) -> bool:
        """Return whether a GPU computes."""
        return self._network.provider != _CPU

    @property
    def device(self) -> str:
        """The execution provider in use, and why it is not the best one that is installed."""
        return f"{self._network.provider.removesuffix('ExecutionProvider')}{self._network.fallback}"

    def embed(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the unnormalised vectors [n, dimensions] of n images from ``Preprocessing.resize``."""
        values = self._preprocessing.normalise(np.stack(pixels))
        if self.takes_batches:
            return self._network.run({self._pixels: values})
        return np.concatenate([self._network.run({self._pixels: row[np.newaxis]}) for row in values])


class _Network:
    """A loaded ONNX file."""

    def __init__(self, path: Path, providers: list[str], *, threads: int, dimensions: int) -> None:
        self._path = path
        self._dimensions = dimensions
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin while they wait would take the CPU from the decoders.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self.fallback = ""
        self._session = self._load(options, providers)
        self.provider: str = self._session.get_providers()[0]
        if self.provider != providers[0]:
            self.fallback = self.fallback or f" ({providers[0]} failed to start)"
            logger.warning("%s runs on %s%s", path, self.provider, self.fallback)
        self.inputs: dict[str, Any] = {node.name: node for node in self._session.get_inputs()}
        self.first_input = next(iter(self.inputs.values()))
        if unknown := {node.type for node in self.inputs.values()} - set(_DTYPES):
            raise self.mismatch(f"takes values of type {', '.join(sorted(unknown))}")
        outputs = {node.name: node for node in self._session.get_outputs()}
        self._output = next((name for name in _OUTPUT_NAMES if name in outputs), next(iter(outputs)))
        shape = outputs[self._output].shape
        if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != dimensions):
            raise self.mismatch(
                f"returns {self._output} of shape {shape} instead of vectors of {dimensions} dimensions"
            )

    def _load(self, options: Any, providers: list[str]) -> Any:
        try:
            return onnxruntime.InferenceSession(self._path, options, providers=providers)
        except Exception as exc:  # the exceptions of ONNX Runtime have no common class
            if providers != [_CPU]:
                self.fallback = f" ({providers[0]} failed to start: {_first_line(exc)})"
                return self._load(options, [_CPU])
            raise ModelError(
                f"cannot load {self._path} ({_first_line(exc)}): if its download was interrupted, delete it and"
                " start again; otherwise choose another model",
                transient=False,
            ) from exc

    def mismatch(self, problem: str) -> ModelError:
        return ModelError(
            f"{self._path} {problem}: it does not match its settings or is no tower of a CLIP model; give a folder as"
            " published by immich-app or Xenova",
            transient=False,
        )

    def run(self, values: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the vectors [n, dimensions] of n inputs. Raises ModelError."""
        typed = {name: value.astype(_DTYPES[self.inputs[name].type], copy=False) for name, value in values.items()}
        try:
            (vectors,) = self._session.run([self._output], typed)
        except Exception as exc:  # the exceptions of ONNX Runtime have no common class
            raise ModelError(f"{self._path} failed: {_first_line(exc)}", transient=False) from exc
        if vectors.shape[1:] != (self._dimensions,):
            raise self.mismatch(f"returned vectors of shape {vectors.shape[1:]} instead of [{self._dimensions}]")
        return np.asarray(vectors, np.float32)


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0]

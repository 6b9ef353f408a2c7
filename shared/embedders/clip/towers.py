"""The two networks at work, in ONNX Runtime. Blocks while it computes; may be called from any thread."""

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

# What a graphics card needs, best first; whichever the installed build of ONNX Runtime has are tried.
_ACCELERATORS = ("CUDAExecutionProvider", "CoreMLExecutionProvider", "DmlExecutionProvider")
_CPU = "CPUExecutionProvider"

# As exports call the vector that both towers share; the first output where none is called so.
_VECTORS = ("embedding", "text_embeds", "image_embeds", "pooler_output")

_DTYPES = {
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}

logger = logging.getLogger(__name__)


class TextTower:
    """The tower for texts. Always on the processors: a query is a few milliseconds of work there."""

    def __init__(self, model: TextModel, *, dimensions: int) -> None:
        """Load the network; raises ModelError when its files cannot be used."""
        self._network = _Network(model.weights, [_CPU], threads=0, dimensions=dimensions)
        ids = self._network.inputs.get("input_ids") or self._network.inputs.get("text") or self._network.first_input
        if len(ids.shape) != 2 or (isinstance(ids.shape[1], int) and ids.shape[1] != model.context_length):
            raise self._network.unusable(f"takes texts of shape {ids.shape}, not [1, {model.context_length}]")
        if unknown := set(self._network.inputs) - {ids.name, "attention_mask"}:
            raise self._network.unusable(f"asks for {', '.join(sorted(unknown))} beside the tokens of a text")
        self._ids = ids.name
        self._masks_padding = model.causal
        # Where the padding has no influence and may be left out, it is: a query is 7 tokens, and a context 77.
        self._tokenize = TextTokenizer(model, pad=isinstance(ids.shape[1], int) or not model.causal)

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return the vector of one text, shape [dimensions], of any length; a text too long for the model is cut."""
        ids, mask = self._tokenize(text)
        values = {self._ids: ids[np.newaxis]}
        if "attention_mask" in self._network.inputs:
            # SigLIP was trained without a mask: it looks at the padding, too.
            values["attention_mask"] = (mask if self._masks_padding else np.ones_like(mask))[np.newaxis]
        vector: NDArray[np.float32] = self._network.run(values)[0]
        return vector


class ImageTower:
    """The tower for images, on a graphics card where the installed build of ONNX Runtime can use one."""

    def __init__(self, model: ImageModel, *, dimensions: int, threads: int) -> None:
        """Load the network, one call of which uses *threads* processors; raises ModelError when it cannot be used."""
        available = onnxruntime.get_available_providers()
        accelerators = [name for name in _ACCELERATORS if name in available]
        self._network = _Network(model.weights, [*accelerators, _CPU], threads=threads, dimensions=dimensions)
        self._preprocessing = model.preprocessing
        pixels = (
            self._network.inputs.get("pixel_values") or self._network.inputs.get("image") or self._network.first_input
        )
        wanted = (3, *model.preprocessing.size)
        fixed = [length for length in pixels.shape[1:] if isinstance(length, int)]
        if len(pixels.shape) != 4 or len(self._network.inputs) != 1:
            raise self._network.unusable(f"takes {', '.join(self._network.inputs)}, not the pixels of images alone")
        if any(isinstance(got, int) and got != want for got, want in zip(pixels.shape[1:], wanted, strict=True)):
            raise self._network.unusable(f"takes images of shape {fixed}, and its settings give {list(wanted)}")
        self._pixels = pixels.name
        self.takes_batches = not isinstance(pixels.shape[0], int)
        if not self.takes_batches and pixels.shape[0] != 1:
            raise self._network.unusable(f"takes exactly {pixels.shape[0]} images at once, not one or any number")

    @property
    def accelerated(self) -> bool:
        """Whether something else than the processors computes."""
        return self._network.provider != _CPU

    def embed(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the vectors [n, dimensions], of any length, of n images that ``Preprocessing.resize`` has made."""
        values = self._preprocessing.normalise(np.stack(pixels))
        if self.takes_batches:
            return self._network.run({self._pixels: values})
        return np.concatenate([self._network.run({self._pixels: row[np.newaxis]}) for row in values])


class _Network:
    """One ONNX file, loaded."""

    def __init__(self, path: Path, providers: list[str], *, threads: int, dimensions: int) -> None:
        self._path = path
        self._dimensions = dimensions
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait for work by spinning take the processors from the decoders.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = self._load(options, providers)
        self.provider: str = self._session.get_providers()[0]
        if self.provider != providers[0]:
            logger.warning("%s cannot be used for %s: %s computes instead", providers[0], path, self.provider)
        self.inputs: dict[str, Any] = {node.name: node for node in self._session.get_inputs()}
        self.first_input = next(iter(self.inputs.values()))
        if unknown := {node.type for node in self.inputs.values()} - set(_DTYPES):
            raise self.unusable(f"takes values of the type {', '.join(sorted(unknown))}")
        outputs = {node.name: node for node in self._session.get_outputs()}
        self._output = next((name for name in _VECTORS if name in outputs), next(iter(outputs)))
        shape = outputs[self._output].shape
        if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != dimensions):
            raise self.unusable(f"gives {self._output} of shape {shape}, not vectors of {dimensions} dimensions")

    def _load(self, options: Any, providers: list[str]) -> Any:
        try:
            return onnxruntime.InferenceSession(self._path, options, providers=providers)
        except Exception as exc:  # the exceptions of ONNX Runtime have no common class
            if providers != [_CPU]:
                logger.warning("%s cannot be used for %s (%s): trying without", providers[0], self._path, exc)
                return self._load(options, providers[1:])
            raise ModelError(
                f"{self._path} cannot be loaded ({_first_line(exc)}): if its download was cut short, delete it and"
                " start again, otherwise give another model",
                transient=False,
            ) from exc

    def unusable(self, problem: str) -> ModelError:
        return ModelError(
            f"{self._path} {problem}: it does not belong to the settings beside it, or is no tower of a CLIP model;"
            " give a folder as immich-app or Xenova publish them",
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
            raise self.unusable(f"gave vectors of shape {vectors.shape[1:]}, not [{self._dimensions}]")
        return np.asarray(vectors, np.float32)


def _first_line(exc: Exception) -> str:
    return str(exc).strip().partition("\n")[0]

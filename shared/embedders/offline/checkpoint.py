"""Read the weights of a PyTorch checkpoint without PyTorch."""

import pickle  # nosec B403
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_STORAGE_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage:
    """Numbers that tensors are views of; their values follow in the file after everything that refers to them."""

    def __init__(self, dtype: np.dtype[Any], size: int) -> None:
        self.dtype = dtype
        self.size = size
        self.values: NDArray[Any] = np.empty(0, dtype)


class _Tensor:
    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_unused: object
    ) -> None:
        self._storage = storage
        self._offset = offset
        self._shape = shape
        self._strides = strides

    def array(self) -> NDArray[Any]:
        values = self._storage.values
        strides = [stride * values.itemsize for stride in self._strides]
        return np.lib.stride_tricks.as_strided(values[self._offset :], self._shape, strides).copy()


class _Unpickler(pickle.Unpickler):
    """Unpickler for the few types of a state dict; refuses everything else that a pickle could execute."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _STORAGE_TYPES:
            return _STORAGE_TYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of weights")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, size, *_ = pid
        return self.storages.setdefault(key, _Storage(dtype, size))


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of the state dict in *path*, by name.

    Reads the format of torch.save before version 1.6: the pickles of a magic number, a protocol version,
    system information, the state dict and the storage keys; then each storage as an int64 count and its values.
    Raises pickle.UnpicklingError for anything else.
    """
    with path.open("rb") as file:
        for _ in range(3):
            _Unpickler(file).load()
        unpickler = _Unpickler(file)
        tensors: dict[str, _Tensor] = unpickler.load()
        for key in _Unpickler(file).load():
            storage = unpickler.storages[key]
            count = int.from_bytes(file.read(8), "little")
            storage.values = np.fromfile(file, storage.dtype, count)
            if not count == storage.size == storage.values.size:
                raise pickle.UnpicklingError(f"{path} is truncated: expected {storage.size} values")
    return {name: tensor.array() for name, tensor in tensors.items()}

"""Messages between the decoder pool and its workers: a JSON document followed by raw bytes.

A worker parses hostile files and may be taken over by one. Its replies therefore use a format that cannot execute
anything, unlike pickle, and name no types: the pool knows the result type of each task. JSON needs no package that
the workers would have to load.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

# The functions that workers may run, as "module:function".
TASKS = frozenset(
    {
        "shared.images.thumbnails:examine",
        "shared.images.thumbnails:glance",
        "shared.images.thumbnails:check_query_picture",
        "shared.images.palette:colour_codes_of_files",
        "shared.embedders.clip.preprocess:read_pixels",
        "shared.embedders.examination:examine_for_clip",
        "shared.embedders.examination:examine_for_offline",
        "shared.embedders.offline.pixels:read_pixels",
        "shared.embedders.replicate.image_input:data_url",
        "shared.ocr.reader:read_picture",
    }
)
LENGTH_BYTES = 8
MAX_FILES = 4  # passed with a request
_DTYPES = frozenset({"|u1", "<f4"})


def task_name(function: Callable[..., object]) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def frame(message: bytes) -> bytes:
    """Return *message* with its length in front, as it travels through a pipe."""
    return len(message).to_bytes(LENGTH_BYTES) + message


def pack(value: object) -> bytes:
    """Return the message for JSON values, bytes, paths, datetimes, arrays and dataclasses of these.

    Datetimes become ISO 8601 texts and dataclasses become objects. The files of paths travel as open descriptors, in
    the order of the paths. Raises TypeError for any other type.
    """
    blobs: list[bytes] = []
    file_numbers = count()

    def convert(item: Any) -> object:
        if isinstance(item, bytes):
            start = sum(map(len, blobs))
            blobs.append(item)
            return {"$bytes": [start, start + len(item)]}
        if isinstance(item, Path):
            return {"$file": next(file_numbers)}
        if isinstance(item, datetime):
            return item.isoformat()
        if is_dataclass(item):
            return {field.name: getattr(item, field.name) for field in fields(item)}
        if type(item).__module__ == "numpy":  # without importing it: most tasks need no NumPy
            return {"$array": [item.dtype.str, item.shape, item.tobytes()]}
        raise TypeError(f"a {type(item).__name__} cannot be sent between processes")

    document = json.dumps(value, default=convert, allow_nan=False).encode()
    return b"".join([frame(document), *blobs])


def unpack(message: bytes, files: Sequence[BinaryIO] = ()) -> Any:
    """Return the value in *message*, with *files* in place of the paths.

    Raises ValueError for anything that ``pack`` does not produce.
    """
    end = LENGTH_BYTES + int.from_bytes(message[:LENGTH_BYTES])
    blobs = memoryview(message)[end:]

    def restore(item: dict[str, Any]) -> object:
        match item:
            case {"$bytes": [int(start), int(stop)]}:
                return bytes(blobs[start:stop])
            case {"$file": int(number)}:
                return files[number]
            case {"$array": [str(dtype), [*shape], bytes(data)]} if dtype in _DTYPES:
                import numpy as np

                return np.frombuffer(data, dtype).reshape(shape)
        return item

    try:
        return json.loads(message[LENGTH_BYTES:end], object_hook=restore, parse_constant=_reject_constant)
    except (TypeError, RecursionError, OverflowError, IndexError) as exc:
        raise ValueError(f"malformed message: {exc}") from exc


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

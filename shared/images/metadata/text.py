"""Text and numbers from untrusted metadata, cleaned and bounded."""

import math
import unicodedata
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

MAX_LINE = 200  # characters of a name, a keyword, a field
MAX_TEXT = 2_000  # characters of a caption or comment
_MAX_NUMBER = 1e12


def attempt(default: T, read: Callable[[], T]) -> T:
    """Return what *read* returns, or *default* if it raises: parsers raise all kinds of errors for malformed data."""
    try:
        return read()
    except Exception:
        return default


def clean(value: object, limit: int = MAX_LINE) -> str:
    """Return the value of a tag as NFC text without NUL, control characters and lone surrogates; "" if it is no text.

    Bytes are read as UTF-8, else as Latin-1.
    """
    if isinstance(value, tuple | list):
        value = value[0] if value else ""
    if isinstance(value, str):
        # EXIF is specified as ASCII and read as Latin-1 by Pillow, but phones write UTF-8.
        text = attempt(value, lambda: value.encode("latin-1").decode())
    elif isinstance(value, bytes):
        text = attempt(value.decode("latin-1"), lambda: value.decode())
    else:
        return ""
    return clean_text(text.partition("\0")[0], limit)


def clean_text(text: str, limit: int = MAX_LINE) -> str:
    """Return decoded text as NFC without NUL, control characters and lone surrogates."""
    text = "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else " " for c in text[: 2 * limit])
    return unicodedata.normalize("NFC", text).strip()[:limit].strip()


def number(value: Any) -> float | int | None:
    """Return a number with six digits, the first one of several; None unless it is finite and below 10^12."""
    if isinstance(value, tuple | list):
        value = value[0] if value else None
    found = attempt(math.nan, lambda: float(value))
    if not abs(found) < _MAX_NUMBER:  # false for NaN, too
        return None
    return int(found) if found.is_integer() else float(f"{found:.6g}")

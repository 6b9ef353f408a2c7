"""Words of the query language, read from ``vocabulary.toml``."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

_LANGUAGES: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("vocabulary.toml").read_text("utf-8"))


@cache
def meanings(symbol: str) -> dict[str, str]:
    """Return the phrases of *symbol* in all languages, each with its value: its key or number, "" if it has none."""
    return {phrase: value for words in _LANGUAGES.values() for phrase, value in _pairs(words.get(symbol, []))}


@cache
def pattern(symbol: str) -> str:
    """Return a regular expression for the phrases of *symbol*, the longest first."""
    return "|".join(re.escape(phrase) for phrase in sorted(meanings(symbol), key=len, reverse=True))


def _pairs(words: Any) -> Iterator[tuple[str, str]]:
    """Yield the phrases of a list of phrases, of a list of such lists, or of a table of such lists."""
    groups = words.items() if isinstance(words, dict) else enumerate(words, start=1)
    for key, group in groups:
        if isinstance(group, str):
            yield group, ""
        else:
            yield from ((phrase, str(key)) for phrase in group)

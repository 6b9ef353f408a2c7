"""Sentences about the sample photos, and nonsense queries: query_sentences.toml, foreign_sentences.toml."""

import tomllib
from pathlib import Path

_FOLDER = Path(__file__).parent
Sentences = dict[str, list[str]]


def _read(name: str) -> dict[str, Sentences]:
    return tomllib.loads((_FOLDER / name).read_text(encoding="utf-8"))


_SETS = _read("query_sentences.toml")
CHOOSING = _SETS["choosing"]
REPORTING = _SETS["reporting"]
NONSENSE_CHOOSING = _SETS["nonsense_choosing"]
NONSENSE_REPORTING = _SETS["nonsense_reporting"]
ABSENT_CHOOSING = _SETS["absent_choosing"]
ABSENT_REPORTING = _SETS["absent_reporting"]

_FOREIGN = _read("foreign_sentences.toml")
FOREIGN_CHOOSING = _FOREIGN["choosing"]
FOREIGN_REPORTING = _FOREIGN["reporting"]
FOREIGN_NONSENSE_CHOOSING = _FOREIGN["nonsense_choosing"]
FOREIGN_NONSENSE_REPORTING = _FOREIGN["nonsense_reporting"]

"""Sentences about the sample photos, and nonsense queries, from query_sentences.toml."""

import tomllib
from pathlib import Path

_SETS: dict[str, dict[str, list[str]]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))

CHOOSING = _SETS["choosing"]
REPORTING = _SETS["reporting"]
NONSENSE_CHOOSING = _SETS["nonsense_choosing"]
NONSENSE_REPORTING = _SETS["nonsense_reporting"]

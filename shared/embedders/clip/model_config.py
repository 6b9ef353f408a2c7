"""Validated access to the JSON files of a CLIP model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.embedders.clip.preprocess import Resampling
from shared.errors import ModelError


@dataclass(frozen=True)
class ModelConfig:
    """A JSON file of a model or a section of it. Unusable values raise ModelError."""

    path: Path
    values: dict[str, Any]

    @classmethod
    def read(cls, path: Path, *, optional: bool = False) -> "ModelConfig":
        if optional and not path.exists():
            return cls(path, {})
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise ModelError(f"cannot read {path} as JSON ({exc}): download it again", transient=False) from exc
        if not isinstance(values, dict):
            raise ModelError(f"{path} does not contain a JSON object: download it again", transient=False)
        return cls(path, values)

    def error(self, name: str, remedy: str) -> ModelError:
        return ModelError(f"{self.path}: {name} is {self.values.get(name)!r}: {remedy}", transient=False)

    def section(self, name: str) -> "ModelConfig":
        values = self.values.get(name) or {}
        if not isinstance(values, dict):
            raise self.error(name, "expected an object")
        return ModelConfig(self.path, values)

    def positive_int(self, name: str, *, default: int | None = None) -> int:
        value = self.values.get(name, default)
        if not isinstance(value, int) or value < 1:
            raise self.error(name, "expected a positive integer")
        return value

    def choice(self, name: str, allowed: tuple[str, ...], *, default: str | None = None) -> str:
        value = self.values.get(name, default)
        if value not in allowed:
            raise self.error(name, f"expected one of {', '.join(allowed)}")
        return str(value)

    def is_edge(self, name: str) -> bool:
        value = self.values.get(name)
        return isinstance(value, int) or (isinstance(value, dict) and "shortest_edge" in value)

    def size(self, name: str) -> tuple[int, int]:
        """Return the value as (height, width); a single number means both."""
        match self.values.get(name):
            case int(edge) | {"shortest_edge": int(edge)} | [int(edge)]:
                return edge, edge
            case {"height": int(height), "width": int(width)} | [int(height), int(width)]:
                return height, width
        raise self.error(name, "expected a number of pixels, or a height and a width")

    def resampling(self, name: str) -> Resampling:
        match self.values.get(name, "bicubic"):
            case "bicubic" | 3:
                return "bicubic"
            case "bilinear" | 2:
                return "bilinear"
        raise self.error(name, "expected bicubic or bilinear")

    def rgb(self, name: str) -> tuple[float, float, float]:
        match self.values.get(name):
            case [int() | float() as red, int() | float() as green, int() | float() as blue]:
                return float(red), float(green), float(blue)
        raise self.error(name, "expected three numbers for red, green and blue")

"""Reads and checks what a request asks for. Whatever is wrong with it becomes a 400 that names it."""

import re
from collections.abc import Mapping

from server.problems import Problem

LIMIT, MAX_LIMIT = 30, 200
MAX_QUERY = 1000
MAX_ID = 2**63 - 1


def text(parameters: Mapping[str, str], name: str, *, longest: int) -> str | None:
    """Return a text parameter without surrounding space; None when it is missing or empty."""
    value = parameters.get(name, "").strip()
    if len(value) > longest:
        raise Problem(400, f"{name} has {len(value)} characters: give at most {longest:,}")
    if "\0" in value or any(0xD800 <= ord(c) < 0xE000 for c in value):
        raise Problem(400, f"{name} holds characters that are no text: NUL or half of a surrogate pair")
    return value or None


def limit(parameters: Mapping[str, str]) -> int:
    """Return how many images are asked for."""
    value = parameters.get("limit")
    if value is None or value == "":
        return LIMIT
    if not re.fullmatch(r"[0-9]{1,9}", value) or not 1 <= int(value) <= MAX_LIMIT:
        raise Problem(400, f"limit is {value[:40]!r}: give a whole number from 1 to {MAX_LIMIT}")
    return int(value)


def ids(parameters: Mapping[str, str]) -> list[int]:
    """Return the ids that are asked for, separated by commas; none when the parameter is missing."""
    value = parameters.get("ids", "")
    if not value:
        return []
    if not re.fullmatch(r"[0-9]{1,18}(,[0-9]{1,18})*", value) or value.count(",") >= MAX_LIMIT:
        raise Problem(400, f"ids is {value[:40]!r}: give 1 to {MAX_LIMIT} whole numbers, separated by commas")
    return [int(part) for part in value.split(",")]


def image_id(value: str) -> int:
    """Return an image's id from an address."""
    if not re.fullmatch(r"[0-9]{1,19}", value) or not 1 <= int(value) <= MAX_ID:
        raise Problem(404, f"there is no image {value[:40]!r}: an id is a whole number")
    return int(value)

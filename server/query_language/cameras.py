"""Cameras that the collection has, by the maker, the model or a part of the model's name."""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import takewhile

from server.query_language.part import Anchor, Found, Surroundings
from server.query_language.typed_text import COMMA, TypedText, fold
from server.query_language.vocabulary import meanings, pattern

_SHOT_WITH = re.compile(f"(?:{pattern('shot_with')}) (?:(?:{pattern('any_article')}) )?")
_MAX_WORDS = 8


def recognise_camera(text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
    """Return the cameras whose names contain the words from *index* on."""
    lead = text.match(_SHOT_WITH, index)
    start = lead[1] if lead else index
    following = text.tokens[start + 1 : start + _MAX_WORDS]
    clause = takewhile(lambda token: token.key != COMMA and not token.sign, following)
    words = (text.key(start), *(token.key for token in clause))
    names = {camera: name for camera in surroundings.facets.cameras if words[0] in (name := _words(camera))}
    for length in range(len(words), 0, -1):
        if cameras := _with_words(names, words[:length]):
            anchor = Anchor.LAST if length == 1 and not lead else Anchor.ANYWHERE
            if anchor is Anchor.LAST and text.key(index - 1) in meanings("any_article"):
                return None  # "a Canon" is in the picture
            return Found("camera", start + length, {"camera": cameras}, ", ".join(cameras), anchor)
    return None


@lru_cache(maxsize=10_000)
def _words(camera: str) -> tuple[str, ...]:
    return tuple(fold(camera).split())


def _with_words(names: Mapping[str, tuple[str, ...]], words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cameras whose name contains *words* in this order, if they can only mean a camera."""
    found = {camera: name for camera, name in names.items() if _contains(name, words)}
    return tuple(found) if any(_is_distinct(words, name) for name in found.values()) else ()


def _contains(name: tuple[str, ...], words: tuple[str, ...]) -> bool:
    return any(name[at : at + len(words)] == words for at in range(len(name) - len(words) + 1))


def _is_distinct(words: tuple[str, ...], name: tuple[str, ...]) -> bool:
    """Return whether *words* of a camera's *name* mean nothing else: a model such as d850, a maker, two words of it."""
    if len(words) == 1:
        (word,) = words
        return word in meanings("camera") or (len(word) > 2 and bool(re.search(r"[a-z]\d|\d[a-z]", word)))
    begins = name[: len(words)] == words
    return begins or any(word in meanings("camera") or re.search(r"\d", word) for word in words)

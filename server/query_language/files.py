"""Properties of the file: its type, its shape, its size in pixels and bytes."""

import re
from typing import Any

from server.query_language.part import Anchor, Found, Surroundings
from server.query_language.typed_text import TypedText
from server.query_language.vocabulary import meanings, pattern
from shared.images.formats import Format

_NOUN = f"(?:{pattern('files')}|{pattern('pictures')})"
_TYPE = re.compile(rf"(?P<type>{pattern('type')})(?: (?P<noun>{_NOUN}))? ")
_TYPE_WITH_NOUN = re.compile(rf"(?P<type>{pattern('type_with_noun')})[ -](?P<noun>{_NOUN}) ")
_NUMBER = r"(?P<number>\d+(?:[.,]\d+)?)"
_OVER = rf"(?:(?P<over>(?:{pattern('over')}) |[>≥]=? ?)|(?P<under>(?:{pattern('under')}) |[<≤]=? ?))"
_MEGAPIXELS = re.compile(rf"{_OVER}{_NUMBER} ?(?:{pattern('megapixels')}) ")
_BYTES = re.compile(rf"{_OVER}{_NUMBER} ?(?P<unit>{pattern('bytes')}) ")
_SIDE = re.compile(
    rf"{_OVER}{_NUMBER} ?(?:{pattern('pixels')}) (?:(?P<wide>{pattern('wide')})|(?P<high>{pattern('high')})) "
)
_WIDER = re.compile(
    rf"(?:(?P<wide>{pattern('wider')})|(?P<high>{pattern('higher')})) (?P<over>){_NUMBER} ?(?:{pattern('pixels')}) "
)
_EXACTLY = re.compile(rf"(?P<width>\d{{3,5}}) ?[x×] ?(?P<height>\d{{3,5}}) (?:(?:{pattern('pixels')}) )?")
_RESOLUTION = re.compile(
    rf"(?P<name>{pattern('resolution_name')}) (?:(?P<noun>{pattern('resolution')}|{pattern('pictures')}) )?"
)


def recognise_type(text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
    """Return the type of file that is named at *index*."""
    found = text.match(_TYPE, index) or text.match(_TYPE_WITH_NOUN, index)
    if not found:
        return None
    name = meanings("type").get(found[0]["type"]) or meanings("type_with_noun")[found[0]["type"]]
    anchor = Anchor.ANYWHERE if found[0]["noun"] else Anchor.LAST
    return Found("type", found[1], {"type": (Format(name).content_type,)}, anchor=anchor)


def recognise_orientation(text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
    """Return the orientation that is named at *index*."""
    for orientation, (plain, only) in _ORIENTATIONS.items():
        filters = {"orientation": (orientation,)}
        if found := text.match(only, index):
            return Found("orientation", found[1], filters)
        if found := text.match(plain, index):
            is_plain = found[1] == index + 1
            return Found("orientation", found[1], filters, anchor=Anchor.BESIDE if is_plain else Anchor.ANYWHERE)
    return None


_ORIENTATIONS = {
    name: (re.compile(f"(?:{pattern(name)}) "), re.compile(f"(?:{pattern(f'{name}_only')}) "))
    for name in ("portrait", "landscape", "square")
}


def recognise_size(text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
    """Return the size in pixels or bytes that is named at *index*."""
    if found := text.match(_EXACTLY, index):
        filters = {f"{end}_{side}": int(found[0][side]) for side in ("width", "height") for end in ("min", "max")}
        return Found("size", found[1], filters)
    if found := text.match(_RESOLUTION, index):
        anchor = Anchor.ANYWHERE if found[0]["noun"] else Anchor.LAST
        pixels = int(meanings("resolution_name")[found[0]["name"]])
        return Found("size", found[1], {"min_pixels": pixels}, anchor=anchor)
    if found := text.match(_MEGAPIXELS, index):
        return Found("size", found[1], _limit(found[0], "pixels", 1_000_000))
    if found := text.match(_BYTES, index):
        return Found("size", found[1], _limit(found[0], "size", int(meanings("bytes")[found[0]["unit"]])))
    if found := text.match(_SIDE, index) or text.match(_WIDER, index):
        return Found("size", found[1], _limit(found[0], "width" if found[0]["wide"] else "height", 1))
    return None


def _limit(found: re.Match[str], name: str, unit: int) -> dict[str, Any]:
    """Return the filter for "over" or "under" a number of units."""
    value = round(float(found["number"].replace(",", ".")) * unit)
    return {f"min_{name}" if found["over"] is not None else f"max_{name}": value}

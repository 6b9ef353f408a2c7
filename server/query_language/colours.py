"""Colours that cover much of the image: by name, as "mostly white", or in hexadecimal digits."""

import re

from server.query_language.part import Anchor, Found, Surroundings
from server.query_language.typed_text import TypedText
from server.query_language.vocabulary import meanings, pattern
from shared.colours import MOSTLY

_HEXADECIMAL = re.compile(r"(?P<digits>#[0-9a-f]{6}) ")
_NAMED = re.compile(
    rf"(?:(?P<mostly>{pattern('mostly')}) |(?P<noun>{pattern('colour_noun')}) )?(?P<colour>{pattern('colour')}) "
)


def recognise_colour(text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
    """Return the colour that is named at *index*."""
    if found := text.match(_HEXADECIMAL, index):
        return Found("colour", found[1], {"colour": (found[0]["digits"],)})
    if not (found := text.match(_NAMED, index)):
        return None
    colour = meanings("colour")[found[0]["colour"]]
    if found[0]["mostly"]:
        return Found("colour", found[1], {"colour": (MOSTLY + colour,)}, anchor=Anchor.LAST)
    if found[0]["noun"]:
        return Found("colour", found[1], {"colour": (colour,)}, anchor=Anchor.LAST)
    if found[0]["colour"] in meanings("colour_or_thing"):
        return None
    return Found("colour", found[1], {"colour": (colour,)}, anchor=Anchor.CLOSING)

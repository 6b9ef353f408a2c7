"""Places where photos of the collection were taken, by their names in several languages."""

import re

from server.query_language.part import Anchor, Found, Surroundings
from server.query_language.typed_text import TypedText, fold
from server.query_language.vocabulary import meanings, pattern

_IN = re.compile(f"(?:{pattern('in_place')}) ")
_FOLLOWING = (meanings("in").keys() | meanings("joint")) - meanings("to").keys()
_MAX_WORDS = 4
_MIN_LETTERS = 3


def recognise_place(text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
    """Return the place that is named at *index*, with the preposition before it."""
    lead = text.match(_IN, index)
    start = lead[1] if lead else index
    for length in range(min(_MAX_WORDS, len(text.tokens) - start), 0, -1):
        tokens = text.tokens[start : start + length]
        name = " ".join(token.key for token in tokens)
        english = surroundings.places.get(name)
        if (
            not english
            or len(name) < _MIN_LETTERS
            or name in meanings("place_or_thing")
            or any(token.sign for token in tokens[1:])
        ):
            continue
        end = start + length
        # "in Paris at night", but not "in Tokyo Tower".
        ends_phrase = lead and text.key(end) in _FOLLOWING
        meaning = "" if fold(english) == name else english
        return Found("place", end, {"place": (english,)}, meaning, Anchor.ANYWHERE if ends_phrase else Anchor.LAST)
    return None

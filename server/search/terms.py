"""Terms of a query and how URLs write them.

A query is a weighted sum of terms: texts, images of the collection and uploaded pictures. In a URL each is one ``term``
parameter, for the gallery and ``GET /api/search`` alike:

    [-][WEIGHT*]KIND:VALUE

    term=image:12                    more like image 12 of the collection
    term=text:at night               and more like these words
    term=-text:people                and less like these
    term=0.5*query_image:HANDLE      and half as much like a picture sent to POST /api/query-images

The value extends to the end, colons and asterisks included. A weight is a decimal number such as 2 or 0.25, 1 unless
given; a minus makes it negative. The parameters ``q`` (a text) and ``query_image`` (a handle) are terms of weight 1. No
form needs a plus sign, which URLs decode as a space.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

import numpy as np

MAX_TERMS = 16
MAX_WEIGHT = 100.0

_TERM = re.compile(r"(-?)(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)\*)?(text|image|query_image):(.+)", re.DOTALL)

Kind = Literal["text", "image", "query_image", "image_url"]


@dataclass(frozen=True)
class Term:
    """One summand of a query. By *kind*, *value* is a text, an image id, a handle or a URL."""

    kind: Kind
    value: str
    weight: float = 1.0

    @classmethod
    def parse(cls, written: str) -> "Term":
        """Return the term that a URL writes; raise ValueError that says what is allowed."""
        match = _TERM.fullmatch(written.strip())
        if match is None:
            raise ValueError("give [-][WEIGHT*]KIND:VALUE, such as text:at night, -text:people, 0.5*image:12")
        sign, weight, kind, value = match.groups()
        return cls(kind, value.strip(), float(sign + (weight or "1")))  # type: ignore[arg-type]

    def __str__(self) -> str:
        """The term as a URL writes it."""
        weight = "" if abs(self.weight) == 1 else f"{np.format_float_positional(abs(self.weight), trim='-')}*"
        return f"{'-' if self.weight < 0 else ''}{weight}{self.kind}:{self.value}"


def normalise(text: str) -> str:
    """Return *text* in the form that identifies it: NFC, lower case, single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).lower().split())

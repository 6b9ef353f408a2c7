"""Text chunks of PNG and comments of JPEG and GIF."""

from typing import Any

from shared.images.metadata.dates import parse_time
from shared.images.metadata.description import Description
from shared.images.metadata.text import MAX_TEXT, clean

# The keywords that PNG defines for its text chunks, in lower case.
_TEXTS = {
    "title": "title",
    "description": "caption",
    "comment": "comment",
    "author": "artist",
    "copyright": "copyright",
}


def describe(info: dict[Any, Any]) -> Description:
    """Return the description in Pillow's ``info`` of an image."""
    found = Description()
    for name, value in info.items():
        key = name.lower() if isinstance(name, str) else ""
        if key in _TEXTS:
            found.add_text(_TEXTS[key], clean(value, MAX_TEXT))
        elif key == "keywords":
            found.add_keywords(clean(value, MAX_TEXT).replace(";", ",").split(","))
        elif key == "creation time":
            found.add_time("original", parse_time(clean(value)))
    return found

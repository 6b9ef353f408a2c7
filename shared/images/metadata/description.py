"""The description of an image in one block of metadata, the same for EXIF, IPTC, XMP and text chunks."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from shared.images.metadata.dates import Taken
from shared.images.metadata.text import MAX_LINE, MAX_TEXT, clean_text

TimeKind = Literal["original", "digitized", "modified"]
Position = tuple[float, float]

_LONG_TEXTS = frozenset({"caption", "comment"})


@dataclass
class Description:
    """Values of one block. ``texts`` has them by name: title, caption, comment, artist, make, city and so on.

    ``position`` is latitude and longitude in degrees; ``rating`` is -1 (rejected) to 5.
    """

    texts: dict[str, str] = field(default_factory=dict)
    keywords: list[str] = field(default_factory=list)
    taken: dict[TimeKind, Taken] = field(default_factory=dict)
    position: Position | None = None
    rating: int | None = None

    def add_text(self, name: str, text: str) -> None:
        """Set a text unless the block had one of that name before."""
        cleaned = clean_text(text, MAX_TEXT if name in _LONG_TEXTS else MAX_LINE)
        if cleaned:
            self.texts.setdefault(name, cleaned)

    def add_keywords(self, keywords: Iterable[str]) -> None:
        self.keywords += filter(None, map(clean_text, keywords))

    def add_time(self, kind: TimeKind, taken: Taken | None) -> None:
        """Set a time unless the block had one of that kind before."""
        if taken:
            self.taken.setdefault(kind, taken)

    def set_rating(self, stars: float | int | None) -> None:
        if self.rating is None and stars is not None and -1 <= stars <= 5:
            self.rating = round(stars)


def valid_position(latitude: float, longitude: float) -> Position | None:
    """Return the position rounded to a centimetre; None if it is impossible."""
    valid = abs(latitude) <= 90 and abs(longitude) <= 180  # false for NaN, too
    # Receivers without a fix write zeros.
    return (round(latitude, 7), round(longitude, 7)) if valid and (latitude or longitude) else None


def percent_to_stars(percent: float | int | None) -> int | None:
    """Return the stars of a rating as Windows stores it: 0, 1, 25, 50, 75 or 99 percent."""
    if percent is None or not 0 <= percent <= 100:
        return None
    return 1 + round(percent / 25) if percent else 0

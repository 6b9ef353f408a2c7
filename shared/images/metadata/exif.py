"""EXIF: the description of an image, and the settings of its camera."""

import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from shared.images.metadata.dates import Taken, parse_fraction, parse_offset, parse_time
from shared.images.metadata.description import Description, Position, TimeKind, percent_to_stars, valid_position
from shared.images.metadata.text import MAX_TEXT, attempt, clean, number

Tags = dict[int, Any]
Fields = dict[str, str | int | float | bool]

_RATING, _RATING_PERCENT = 0x4746, 0x4749
_IPTC = 33723
_TEXTS = (
    ("caption", Base.ImageDescription),
    ("artist", Base.Artist),
    ("copyright", Base.Copyright),
    ("make", Base.Make),
    ("model", Base.Model),
    ("lens", Base.LensModel),
    ("title", Base.DocumentName),
)
_XP_TEXTS = (
    ("title", Base.XPTitle),
    ("comment", Base.XPComment),
    ("artist", Base.XPAuthor),
    ("caption", Base.XPSubject),
)
_TIMES: tuple[tuple[TimeKind, int, int], ...] = (
    ("original", Base.DateTimeOriginal, Base.SubsecTimeOriginal),
    ("digitized", Base.DateTimeDigitized, Base.SubsecTimeDigitized),
    ("modified", Base.DateTime, Base.SubsecTime),
)
_OFFSETS: dict[TimeKind, int] = {
    "original": Base.OffsetTimeOriginal,
    "digitized": Base.OffsetTimeDigitized,
    "modified": Base.OffsetTime,
}
_STRINGS = {
    "make": Base.Make,
    "model": Base.Model,
    "lens_make": Base.LensMake,
    "software": Base.Software,
    "date_time_original": Base.DateTimeOriginal,
    "offset_time_original": Base.OffsetTimeOriginal,
}
_NUMBERS = {
    "exposure_time": Base.ExposureTime,  # seconds
    "f_number": Base.FNumber,
    "iso": Base.ISOSpeedRatings,
    "focal_length": Base.FocalLength,  # millimetres
    "focal_length_35mm": Base.FocalLengthIn35mmFilm,
    "exposure_bias": Base.ExposureBiasValue,  # EV
    "digital_zoom": Base.DigitalZoomRatio,
    "subject_distance": Base.SubjectDistance,  # metres
}


class ExifTags:
    """The tags of an image's main, EXIF and GPS directories, and the IPTC block of a TIFF; empty if unreadable."""

    def __init__(self, exif: Image.Exif) -> None:
        no_tags: Tags = {}
        # Pillow reads this tag as one number, although it is a block of bytes.
        self.iptc = attempt(b"", lambda: bytes(exif._info._tagdata[_IPTC]))  # type: ignore[union-attr]
        self.main = attempt(no_tags, lambda: _readable(exif))
        self.main |= attempt(no_tags, lambda: _readable(exif.get_ifd(IFD.Exif)))
        self.gps = attempt(no_tags, lambda: _readable(exif.get_ifd(IFD.GPSInfo)))
        self.big_endian = exif.endian == ">"

    def description(self) -> Description:
        """Return the description of the image."""
        found = Description(position=attempt(None, lambda: _position(self.gps)))
        for name, tag in _TEXTS:
            found.add_text(name, clean(self.main.get(tag), MAX_TEXT))
        for name, tag in _XP_TEXTS:
            found.add_text(name, _xp_text(self.main.get(tag)))
        found.add_text("comment", _user_comment(self.main.get(Base.UserComment), big_endian=self.big_endian))
        found.add_keywords(_xp_text(self.main.get(Base.XPKeywords)).split(";"))
        found.set_rating(number(self.main.get(_RATING)))
        found.set_rating(percent_to_stars(number(self.main.get(_RATING_PERCENT))))
        for kind, time_tag, fraction_tag in _TIMES:
            found.add_time(kind, self._time(kind, time_tag, fraction_tag))
        return found

    def fields(self) -> Fields:
        """Return camera settings and further fields as JSON values."""
        fields: Fields = {}
        for name, line_tag in _STRINGS.items():
            if text := clean(self.main.get(line_tag)):
                fields[name] = text
        for name, number_tag in _NUMBERS.items():
            if (value := number(self.main.get(number_tag))) is not None:
                fields[name] = value
        if isinstance(flash := self.main.get(Base.Flash), int):
            fields["flash"] = bool(flash & 1)
        if (altitude := number(self.gps.get(GPS.GPSAltitude))) is not None:
            fields["altitude"] = -altitude if self.gps.get(GPS.GPSAltitudeRef) in (1, b"\x01") else altitude
        return fields

    def _time(self, kind: TimeKind, tag: int, fraction_tag: int) -> Taken | None:
        taken = parse_time(clean(self.main.get(tag)))
        if taken is None:
            return None
        local, offset = taken.local, taken.offset
        if not local.microsecond:
            local += parse_fraction(clean(self.main.get(fraction_tag)))
        # Some software writes one offset for all three times.
        for name in (kind, *_OFFSETS):
            if offset is None:
                offset = parse_offset(clean(self.main.get(_OFFSETS[name])))
        return Taken(local, offset)


def _readable(tags: Any) -> Tags:
    """Return the tags whose values can be read: Pillow decodes a value when it is accessed."""
    found: Tags = {}
    for tag in list(tags):
        with suppress(Exception):
            found[tag] = tags[tag]
    return found


def _xp_text(value: object) -> str:
    """Return the text of a tag that Windows writes: UTF-16 as bytes, or by other software as numbers or as text."""
    if isinstance(value, str):
        return clean(value, MAX_TEXT)
    if isinstance(value, tuple):
        value = _code_units(value)
    return value.decode("utf-16-le", errors="ignore").partition("\0")[0] if isinstance(value, bytes) else ""


def _code_units(units: tuple[Any, ...]) -> bytes:
    return attempt(b"", lambda: struct.pack(f"<{len(units)}H", *units))


def _user_comment(value: object, *, big_endian: bool) -> str:
    """Return the text of a tag that begins with the name of its encoding."""
    if not isinstance(value, bytes):
        return clean(value, MAX_TEXT)
    encoding, text = value[:8].rstrip(b"\0 "), value[8:]
    if encoding == b"UNICODE":
        # Much software ignores the byte order of the block; Latin text shows the real one.
        high_first, low_first = text[::2].count(0), text[1::2].count(0)
        big_endian = big_endian if high_first == low_first else high_first > low_first
        return text.decode("utf-16-be" if big_endian else "utf-16-le", errors="ignore").strip("\0\ufeff\ufffe")
    if encoding == b"JIS":
        return attempt("", lambda: text.decode("iso2022_jp"))
    return clean(text if encoding in (b"ASCII", b"") else value, MAX_TEXT)


def _position(gps: Tags) -> Position | None:
    latitude = _degrees(gps[GPS.GPSLatitude], negative=clean(gps.get(GPS.GPSLatitudeRef)).upper().startswith("S"))
    longitude = _degrees(gps[GPS.GPSLongitude], negative=clean(gps.get(GPS.GPSLongitudeRef)).upper().startswith("W"))
    return valid_position(latitude, longitude)


def _degrees(parts: Iterable[Any], *, negative: bool) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    return -value if negative else value

"""Metadata in EXIF, IPTC and XMP: untrusted and often broken text, cleaned and bounded.

Nothing here raises an error for the content of a file: unreadable fields are omitted.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar
from xml.etree import ElementTree

from PIL import Image, ImageFile, IptcImagePlugin
from PIL.ExifTags import GPS, IFD, Base

from shared.images.decode import Decoded

T = TypeVar("T")
Tags = dict[int, Any]
Iptc = dict[tuple[int, int], bytes | list[bytes]]

_LINE = 200  # characters of a name, a keyword, a field
_CAPTION = 2_000
_KEYWORDS = 100
_XMP_BYTES = 4 << 20


@dataclass(frozen=True)
class Metadata:
    """Metadata of a photo. ``exif`` contains further fields as JSON values.

    ``taken_at`` has the UTC offset that the camera wrote. Many write none; their local time is then stored as UTC,
    which preserves the order of the pictures and the date and hour that people remember.
    """

    taken_at: datetime | None = None
    camera: str | None = None
    lens: str | None = None
    keywords: tuple[str, ...] = ()
    caption: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    exif: dict[str, str | int | float | bool] = field(default_factory=dict)


def read_metadata(decoded: Decoded) -> Metadata:
    """Return the metadata of the image, whose file must be open."""
    no_tags: Tags = {}
    exif = _or(no_tags, lambda: dict(decoded.exif)) | _or(no_tags, lambda: decoded.exif.get_ifd(IFD.Exif))
    gps = _or(no_tags, lambda: decoded.exif.get_ifd(IFD.GPSInfo))
    iptc: Iptc = _or({}, lambda: _iptc(decoded.image))
    xmp = _or(None, lambda: _xmp(decoded.image, exif))
    if not (exif or gps or iptc or xmp is not None):  # as in most pictures made for the web
        return Metadata()
    latitude, longitude = _or(_NO_POSITION, lambda: _position(gps))
    return Metadata(
        taken_at=_taken_at(exif),
        camera=_camera(_text(exif.get(Base.Make)), _text(exif.get(Base.Model))),
        lens=_text(exif.get(Base.LensModel)) or None,
        keywords=_keywords(exif, iptc, xmp),
        caption=_caption(exif, iptc, xmp),
        latitude=latitude,
        longitude=longitude,
        exif=_fields(exif, gps),
    )


def _or(default: T, read: Callable[[], T]) -> T:
    try:
        return read()
    except Exception:  # the parsers raise all kinds of errors for malformed structures
        return default


# Text


def _text(value: object, limit: int = _LINE) -> str:
    """Return the value of a tag as NFC text without NUL, control characters and lone surrogates."""
    if isinstance(value, tuple | list):
        value = value[0] if value else ""
    if isinstance(value, str):
        # EXIF is specified as ASCII and read as Latin-1 by Pillow, but phones write UTF-8.
        text = _or(value, lambda: value.encode("latin-1").decode())
    elif isinstance(value, bytes):
        text = _or(value.decode("latin-1"), lambda: value.decode())
    else:
        return ""
    text = text.partition("\0")[0] if text.strip("\0") else ""
    text = "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else " " for c in text[: 2 * limit])
    return unicodedata.normalize("NFC", text).strip()[:limit].strip()


def _xp_text(value: object) -> str:
    """Return the text of a tag that Windows writes, which is UTF-16."""
    raw = bytes(value) if isinstance(value, bytes | tuple) else b""
    return raw.decode("utf-16-le", errors="ignore").rstrip("\0")


# Time


def _taken_at(exif: Tags) -> datetime | None:
    for time_tag, offset_tag in (
        (Base.DateTimeOriginal, Base.OffsetTimeOriginal),
        (Base.DateTimeDigitized, Base.OffsetTimeDigitized),
        (Base.DateTime, Base.OffsetTime),
    ):
        try:
            taken = datetime.strptime(_text(exif.get(time_tag))[:19].replace("-", ":"), "%Y:%m:%d %H:%M:%S")
        except ValueError:
            continue
        if taken.year >= 1826:  # the oldest photograph; cameras whose clock was never set write the year 0 or 1
            return taken.replace(tzinfo=_offset(_text(exif.get(offset_tag))))
    return None


def _offset(text: str) -> timezone:
    found = re.fullmatch(r"([+-])(\d\d):(\d\d)", text)
    if not found:
        return UTC
    minutes = int(found[2]) * 60 + int(found[3])
    # No clock on Earth is further from UTC than 14 hours.
    return timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes)) if minutes <= 14 * 60 else UTC


# Camera

_COMPANY_WORDS = re.compile(
    r"[\s,]+(corporation|corp|company|co|ltd|inc|gmbh|ag|computer|imaging|optical|electric|camera|cameras)\b.*",
    re.IGNORECASE,
)


def _camera(make: str, model: str) -> str | None:
    """Return maker and model in common form: "Canon EOS 5D", "Nikon D90", "Sony ILCE-7M3"."""
    brand = _COMPANY_WORDS.sub("", make)
    first = model.split(" ")[0]
    # "Eastman Kodak" makes the "KODAK EASYSHARE": the shared word is the brand.
    if first and first.lower() in brand.lower().split():
        brand = first
    if (brand.isupper() and len(brand) > 3) or brand.islower():
        brand = brand.title()
    rest = model[len(brand) :] if model.lower().startswith(brand.lower()) else f" {model}"
    return f"{brand}{rest}".strip()[:_LINE] or None


# Position

_NO_POSITION: tuple[float | None, float | None] = (None, None)


def _position(gps: Tags) -> tuple[float | None, float | None]:
    latitude = _degrees(gps[GPS.GPSLatitude], negative=_text(gps.get(GPS.GPSLatitudeRef)).upper() == "S")
    longitude = _degrees(gps[GPS.GPSLongitude], negative=_text(gps.get(GPS.GPSLongitudeRef)).upper() == "W")
    valid = abs(latitude) <= 90 and abs(longitude) <= 180  # false for NaN, too
    # Receivers without a fix write zeros.
    return (latitude, longitude) if valid and (latitude or longitude) else _NO_POSITION


def _degrees(parts: Iterable[Any], *, negative: bool) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    value = round(degrees + minutes / 60 + seconds / 3600, 7)  # a centimetre
    return -value if negative else value


# Keywords and caption

_DC = "{http://purl.org/dc/elements/1.1/}"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_IPTC_KEYWORDS = (2, 25)
_IPTC_CAPTION = (2, 120)
_TIFF_XMP = 700
# Cameras write these into every picture.
_BOILERPLATE = re.compile(
    r"(olympus|sony|minolta|konica|pentax|kodak|samsung|fuji|canon|nikon)?\s*(digital (still )?camera|dsc|dcim.*)"
    r"|default|untitled|charset=.*|image description|screenshot|\W*",
    re.IGNORECASE,
)


def _iptc(image: Image.Image) -> Iptc:
    return isinstance(image, ImageFile.ImageFile) and IptcImagePlugin.getiptcinfo(image) or {}


def _xmp(image: Image.Image, exif: Tags) -> ElementTree.Element | None:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or exif.get(_TIFF_XMP)
    if isinstance(packet, str):
        packet = packet.encode(errors="ignore")
    if not isinstance(packet, bytes) or len(packet) > _XMP_BYTES:
        return None
    if b"<!" in packet.replace(b"<!--", b""):  # XMP declares no entities; expanding them can take exponential time
        return None
    return ElementTree.fromstring(packet.strip(b"\0 \n\r\t"))


def _xmp_items(xmp: ElementTree.Element | None, name: str) -> Iterator[str]:
    if xmp is not None:
        for element in xmp.iter(_DC + name):
            for item in element.iter(_RDF + "li"):
                yield item.text or ""


def _keywords(exif: Tags, iptc: Iptc, xmp: ElementTree.Element | None) -> tuple[str, ...]:
    tagged = iptc.get(_IPTC_KEYWORDS, [])
    found = [
        *(tagged if isinstance(tagged, list) else [tagged]),
        *_xmp_items(xmp, "subject"),
        *_xp_text(exif.get(Base.XPKeywords)).split(";"),
    ]
    cleaned = (_text(keyword) for keyword in found)
    return tuple(dict.fromkeys(keyword for keyword in cleaned if keyword))[:_KEYWORDS]


def _caption(exif: Tags, iptc: Iptc, xmp: ElementTree.Element | None) -> str | None:
    for value in (*_xmp_items(xmp, "description"), iptc.get(_IPTC_CAPTION), exif.get(Base.ImageDescription)):
        caption = _text(value, _CAPTION)
        if not _BOILERPLATE.fullmatch(caption):
            return caption
    return None


# Further fields

_STRINGS = {
    "make": Base.Make,
    "model": Base.Model,
    "lens_make": Base.LensMake,
    "software": Base.Software,
    "artist": Base.Artist,
    "copyright": Base.Copyright,
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


def _fields(exif: Tags, gps: Tags) -> dict[str, str | int | float | bool]:
    fields: dict[str, str | int | float | bool] = {}
    for name, tag in _STRINGS.items():
        if text := _text(exif.get(tag)):
            fields[name] = text
    for name, tag in _NUMBERS.items():
        if (number := _number(exif.get(tag))) is not None:
            fields[name] = number
    if isinstance(flash := exif.get(Base.Flash), int):
        fields["flash"] = bool(flash & 1)
    if (altitude := _number(gps.get(GPS.GPSAltitude))) is not None:
        fields["altitude"] = -altitude if gps.get(GPS.GPSAltitudeRef) in (1, b"\x01") else altitude
    return fields


def _number(value: Any) -> float | int | None:
    if isinstance(value, tuple):
        value = value[0] if value else None
    number = _or(math.nan, lambda: float(value))
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else float(f"{number:.6g}")

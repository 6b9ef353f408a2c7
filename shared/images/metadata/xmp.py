"""XMP: the description of an image in a packet inside the file or in a sidecar."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree  # nosec B405

from shared.images.metadata.dates import parse_time
from shared.images.metadata.description import Description, TimeKind, percent_to_stars, valid_position
from shared.images.metadata.text import MAX_TEXT, attempt, clean_text, number

MAX_BYTES = 4 << 20
_TIFF_XMP = 700
_MD5_DIGITS = 32
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENSION_NAME = re.compile(rb"HasExtendedXMP\s*(?:=\s*[\"']|>)\s*([0-9A-F]{32})")

NAMESPACES = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/exif/1.0/aux/": "aux",
    "http://cipa.jp/exif/1.0/": "exifEX",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/lightroom/1.0/": "lr",
    "http://www.digikam.org/ns/1.0/": "digiKam",
    "http://ns.microsoft.com/photo/1.0": "MicrosoftPhoto",
    "http://ns.microsoft.com/photo/1.0/": "MicrosoftPhoto",
    "http://ns.microsoft.com/photo/1.2/t/Region#": "MPReg",
    "http://www.metadataworkinggroup.com/schemas/keywords/": "mwg-kw",
    "http://www.metadataworkinggroup.com/schemas/regions/": "mwg-rs",
    "http://ns.acdsee.com/iptc/1.0/": "acdsee",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
}
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_NAME = re.compile(r"\{(.*)\}(.*)")

TEXTS = {
    "title": ("dc:title", "photoshop:Headline", "acdsee:caption"),
    "caption": ("dc:description", "tiff:ImageDescription"),
    "comment": ("exif:UserComment", "acdsee:notes"),
    "artist": ("dc:creator", "tiff:Artist", "acdsee:author"),
    "copyright": ("dc:rights", "tiff:Copyright"),
    "location": ("Iptc4xmpCore:Location", "Iptc4xmpExt:Sublocation"),
    "city": ("photoshop:City", "Iptc4xmpExt:City"),
    "state": ("photoshop:State", "Iptc4xmpExt:ProvinceState"),
    "country": ("photoshop:Country", "Iptc4xmpExt:CountryName"),
    "make": ("tiff:Make",),
    "model": ("tiff:Model",),
    "lens": ("exifEX:LensModel", "aux:Lens"),
}
KEYWORDS = (
    "dc:subject",
    "MicrosoftPhoto:LastKeywordIPTC",
    "acdsee:keywords",
    "mwg-kw:Keyword",
    # People
    "Iptc4xmpExt:PersonInImage",
    "mwg-rs:Name",
    "MPReg:PersonDisplayName",
)
# Paths such as "Animals|Birds|Heron". Every level is a keyword.
KEYWORD_PATHS = {"lr:hierarchicalSubject": "|", "digiKam:TagsList": "/", "MicrosoftPhoto:LastKeywordXMP": "/"}
TIMES: dict[TimeKind, tuple[str, ...]] = {
    "original": ("exif:DateTimeOriginal", "photoshop:DateCreated"),
    "digitized": ("exif:DateTimeDigitized", "xmp:CreateDate"),
}
_COORDINATE = re.compile(
    r"\s*([\d.]+)(?:[,;: ]\s*([\d.]+))?(?:[,;: ]\s*([\d.]+))?\s*([NSEW])?", re.ASCII | re.IGNORECASE
)

Properties = dict[str, list[str]]


def find_packet(info: dict[Any, Any], tags: dict[int, Any]) -> bytes:
    """Return the XMP packet of an image from Pillow's ``info`` or its TIFF *tags*; b"" without one."""
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or tags.get(_TIFF_XMP)
    if isinstance(packet, str):
        packet = packet.encode(errors="ignore")
    return packet if isinstance(packet, bytes) else b""


def find_extension(segments: Iterable[tuple[str, bytes]], packet: bytes) -> bytes:
    """Return the part of an XMP *packet* that is in further APP1 segments of a JPEG file.

    Return b"" if there is none, or if it lacks a part or has another MD5 digest than the packet names. See the XMP
    specification, part 3, section 1.1.3.1.
    """
    named = _EXTENSION_NAME.search(packet)
    if not named:
        return b""
    parts = {}
    for _, segment in segments:
        if segment.startswith(_EXTENSION + named[1]):
            start = len(_EXTENSION) + _MD5_DIGITS
            parts[int.from_bytes(segment[start + 4 : start + 8])] = segment[start + 8 :]
    extension = b"".join(parts[offset] for offset in sorted(parts))
    digest = hashlib.md5(extension, usedforsecurity=False).hexdigest().upper().encode()
    return extension if digest == named[1] else b""


def describe(packet: bytes) -> Description:
    """Return the description in an XMP packet, as far as it can be read."""
    properties = _properties(attempt(None, lambda: _parse(packet)))

    def first(*names: str) -> str:
        return next((value for name in names for value in properties.get(name, ())), "")

    found = Description()
    for name, sources in TEXTS.items():
        if name == "artist":
            found.add_text(name, ", ".join(properties.get("dc:creator", ())))
        found.add_text(name, first(*sources))
    for name in KEYWORDS:
        found.add_keywords(properties.get(name, ()))
    for name, separator in KEYWORD_PATHS.items():
        for path in properties.get(name, ()):
            found.add_keywords(path.split(separator))
    for kind, sources in TIMES.items():
        for name in sources:
            found.add_time(kind, parse_time(first(name)))
    found.set_rating(number(first("xmp:Rating")))
    found.set_rating(percent_to_stars(number(first("MicrosoftPhoto:Rating"))))
    latitude, longitude = _degrees(first("exif:GPSLatitude")), _degrees(first("exif:GPSLongitude"))
    if latitude is not None and longitude is not None:
        found.position = valid_position(latitude, longitude)
    return found


def _parse(packet: bytes) -> ElementTree.Element | None:
    """Return the root of the packet, up to where its XML is broken; None if nothing can be read."""
    if len(packet) > MAX_BYTES:
        return None
    encoding = "utf-16" if packet.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    text = packet.decode(encoding, errors="replace")
    start = text.find("<")
    # XMP declares no entities; expanding them can take exponential time.
    if start < 0 or "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    builder = ElementTree.TreeBuilder()
    parser = ElementTree.XMLParser(target=builder)  # nosec B314
    # A declaration would name another encoding than that of str.
    text = re.sub(r"^<\?xml [^>]*\?>", "", text[start:])
    with suppress(ElementTree.ParseError):
        parser.feed("".join(c if c in "\n\t" or c >= " " else " " for c in text))
    return builder.close()


def _properties(root: ElementTree.Element | None) -> Properties:
    """Return the values of all properties of the known namespaces by ``prefix:name``, at any depth.

    A property is an element or, in short form, an attribute. The items of a list are several values, the default
    language first.
    """
    found: Properties = defaultdict(list)
    for element in root.iter() if root is not None else ():
        if name := _qualified(element.tag):
            found[name] += _values(element)
        for attribute, value in element.attrib.items():
            if name := _qualified(attribute):
                found[name].append(value)
    return {name: [text for value in values if (text := clean_text(value, MAX_TEXT))] for name, values in found.items()}


def _qualified(tag: str) -> str:
    """Return ``prefix:name`` of a tag of a known namespace, else ""."""
    found = _NAME.fullmatch(tag)
    prefix = NAMESPACES.get(found[1]) if found else None
    return f"{prefix}:{found[2]}" if found and prefix else ""


def _values(element: ElementTree.Element) -> Iterator[str]:
    items = element.findall(f"{_RDF}*/{_RDF}li")
    for item in sorted(items, key=lambda item: item.get(_LANGUAGE) != "x-default"):
        yield "".join(item.itertext())
    if not items:
        yield element.text or "".join(value.text or "" for value in element.iter(f"{_RDF}value"))


def _degrees(text: str) -> float | None:
    """Return the degrees of ``47,22.583N``, ``47,22,35N`` or ``-47.376``; None for anything else."""
    found = _COORDINATE.fullmatch(text.lstrip("-+ "))
    if not found:
        return None
    parts = [number(part) or 0 for part in found.groups()[:3]]
    value = parts[0] + parts[1] / 60 + parts[2] / 3600
    return -value if text.lstrip().startswith("-") or (found[4] or "").upper() in ("S", "W") else value

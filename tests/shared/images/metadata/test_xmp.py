from datetime import datetime
from typing import Any

import pytest

from shared.images.metadata.xmp import describe

NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "mwg-kw": "http://www.metadataworkinggroup.com/schemas/keywords/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
}


def packet(body: str, attributes: str = "") -> bytes:
    names = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
    return f"<rdf:RDF {names}><rdf:Description {attributes}>{body}</rdf:Description></rdf:RDF>".encode()


def bag(name: str, *items: str) -> str:
    return f"<{name}><rdf:Bag>{''.join(f'<rdf:li>{item}</rdf:li>' for item in items)}</rdf:Bag></{name}>"


@pytest.mark.parametrize(
    ("body", "keywords"),
    [
        (bag("dc:subject", "Zürich", " heron "), ["Zürich", "heron"]),
        (bag("lr:hierarchicalSubject", "Place|Switzerland|Zürich"), ["Place", "Switzerland", "Zürich"]),
        (bag("digiKam:TagsList", "Animals/Birds/Heron"), ["Animals", "Birds", "Heron"]),
        (bag("MicrosoftPhoto:LastKeywordXMP", "Birds/Heron"), ["Birds", "Heron"]),
        (bag("Iptc4xmpExt:PersonInImage", "Zoë"), ["Zoë"]),
        ("<dc:subject>heron</dc:subject>", ["heron"]),
        (
            '<mwg-kw:Keywords rdf:parseType="Resource"><mwg-kw:Hierarchy><rdf:Bag><rdf:li rdf:parseType="Resource">'
            "<mwg-kw:Keyword>Birds</mwg-kw:Keyword><mwg-kw:Children><rdf:Bag><rdf:li mwg-kw:Keyword='Heron'/></rdf:Bag>"
            "</mwg-kw:Children></rdf:li></rdf:Bag></mwg-kw:Hierarchy></mwg-kw:Keywords>",
            ["Birds", "Heron"],
        ),
        (
            "<mwg-rs:Regions><rdf:Description><mwg-rs:RegionList><rdf:Bag><rdf:li>"
            "<rdf:Description mwg-rs:Name='Zoë' mwg-rs:Type='Face'/>"
            "</rdf:li></rdf:Bag></mwg-rs:RegionList></rdf:Description></mwg-rs:Regions>",
            ["Zoë"],
        ),
    ],
)
def test_keywords_are_read_from_every_namespace(body: str, keywords: list[str]) -> None:
    assert describe(packet(body)).keywords == keywords


@pytest.mark.parametrize(
    ("body", "attributes"),
    [
        ("<exif:DateTimeOriginal>2024-05-31T10:20:30.5+02:00</exif:DateTimeOriginal>", ""),
        ("", 'exif:DateTimeOriginal="2024-05-31T10:20:30.5+02:00"'),
        ("", 'photoshop:DateCreated="2024-05-31T10:20:30.50+02:00" xmp:CreateDate="2025-01-01"'),
    ],
)
def test_times_are_elements_or_attributes(body: str, attributes: str) -> None:
    taken = describe(packet(body, attributes)).taken["original"]
    assert (taken.local, taken.offset) == (datetime(2024, 5, 31, 10, 20, 30, 500_000), 120)


def test_texts_prefer_the_default_language() -> None:
    alternatives = "<rdf:li xml:lang='de'>Reiher</rdf:li><rdf:li xml:lang='x-default'>Heron</rdf:li>"
    found = describe(
        packet(
            f"<dc:title><rdf:Alt>{alternatives}</rdf:Alt></dc:title>" + bag("dc:creator", "Zoë", "Max"),
            'photoshop:City="Zürich" photoshop:Country="Switzerland" photoshop:Headline="Other"',
        )
    )
    assert found.texts == {"title": "Heron", "artist": "Zoë, Max", "city": "Zürich", "country": "Switzerland"}


@pytest.mark.parametrize(
    ("attributes", "rating"),
    [
        ('xmp:Rating="4"', 4),
        ('xmp:Rating="-1"', -1),
        ('xmp:Rating="3.0"', 3),
        ('xmp:Rating="99999"', None),
        ('MicrosoftPhoto:Rating="75"', 4),
        ('MicrosoftPhoto:Rating="1"', 1),
        ('xmp:Rating="nan"', None),
    ],
)
def test_ratings_are_stars(attributes: str, rating: int | None) -> None:
    assert describe(packet("", attributes)).rating == rating


@pytest.mark.parametrize(
    ("latitude", "longitude", "position"),
    [
        ("47,22.5N", "8,32.25E", (47.375, 8.5375)),
        ("33,51,24S", "151,12,54W", (-33.8566667, -151.215)),
        ("-33.5", "151.25", (-33.5, 151.25)),
        ("0,0N", "0,0E", None),
        ("99N", "8E", None),
        ("1.2.3", "8E", (0.0, 8.0)),
        ("north", "east", None),
    ],
)
def test_positions_are_degrees(latitude: str, longitude: str, position: Any) -> None:
    found = describe(packet("", f'exif:GPSLatitude="{latitude}" exif:GPSLongitude="{longitude}"'))
    assert found.position == position


def test_broken_xml_is_read_up_to_the_error() -> None:
    whole = packet(bag("dc:subject", "heron", "lake"))
    assert describe(whole[: whole.index(b"</rdf:Bag>")]).keywords == ["heron", "lake"]
    assert describe(b"\xef\xbb\xbf<?xpacket begin=''?>" + whole + b"\0\0rubbish").keywords == ["heron", "lake"]
    assert describe(whole.replace(b"lake", b"l\xff\x01ke")).keywords[0] == "heron"
    assert describe(whole.decode().encode("utf-16")).keywords == ["heron", "lake"]
    assert describe(b'<?xml version="1.0" encoding="latin-1"?>' + whole).keywords == ["heron", "lake"]
    for broken in (b"", b"<", b"\xff\xfe", b"no XML", b"<a>" * 100_000, b"<" * 1000):
        assert describe(broken).keywords == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_not_expanded(encoding: str) -> None:
    declared = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>' + packet(bag("dc:subject", "&a;")).decode()
    assert describe(declared.encode(encoding)).keywords == []

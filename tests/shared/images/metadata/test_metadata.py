import hashlib
import json
import struct
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from shared.images import Metadata, examine
from tests.helpers import corpus
from tests.helpers.pictures import encode


def metadata_of(**tags: Any) -> Metadata:
    """Return the metadata of a JPEG with these EXIF tags."""
    return examine(corpus.jpeg(64, 48, exif=corpus.exif_bytes(**tags)), derivatives=False).metadata


FULL = {
    "tags": {271: "NIKON CORPORATION", 272: "NIKON D90", 305: "Ver.1.00", 315: "Zoe", 270: "A cat on a wall"},
    "exif": {
        36867: "2021:07:03 18:04:05",
        36881: "+02:00",
        42036: "AF-S 35mm f/1.8G",
        33434: 0.004,
        33437: 2.8,
        34855: 200,
        37386: 35.0,
        41989: 52,
        37385: 0x19,
    },
    "gps": {1: "S", 2: (33.0, 51.0, 24.5), 3: "E", 4: (151.0, 12.0, 54.0), 5: b"\x00", 6: 58.5},
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF"])
def test_exif_is_read_from_every_format_that_has_it(kind: str) -> None:
    data = encode(corpus.marked(), kind, exif=corpus.exif_bytes(**FULL))
    found = examine(data, derivatives=False).metadata
    assert (found.taken_local, found.taken_offset) == (datetime(2021, 7, 3, 18, 4, 5), 120)
    assert (found.camera, found.lens, found.caption) == ("Nikon D90", "AF-S 35mm f/1.8G", "A cat on a wall")
    assert found.latitude == pytest.approx(-33.8568056)
    assert found.longitude == pytest.approx(151.215)
    expected = {"exposure_time": 0.004, "f_number": 2.8, "iso": 200, "focal_length": 35, "flash": True, "artist": "Zoe"}
    assert expected.items() <= found.exif.items()
    assert json.loads(json.dumps(found.exif, allow_nan=False)) == found.exif


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({36867: "2024:05:31 23:30:00"}, (datetime(2024, 5, 31, 23, 30), None)),
        ({36867: "2024:05:31 23:30:00", 36881: "-07:00"}, (datetime(2024, 5, 31, 23, 30), -420)),
        ({36867: "2024:05:31 23:30:00", 36881: "+99:99"}, (datetime(2024, 5, 31, 23, 30), None)),
        ({36867: "2024:05:31 10:20:30", 36880: "+02:00"}, (datetime(2024, 5, 31, 10, 20, 30), 120)),
        ({36867: "2024:05:31 10:20:30", 36882: "+02:00"}, (datetime(2024, 5, 31, 10, 20, 30), 120)),
        ({36867: "2024:05:31 10:20:30", 37521: "75"}, (datetime(2024, 5, 31, 10, 20, 30, 750_000), None)),
        ({36868: "2024:05:31 10:20:30", 37522: "007 "}, (datetime(2024, 5, 31, 10, 20, 30, 7_000), None)),
        ({36867: "    :  :     :  :  "}, (datetime(2024, 6, 1), None)),
    ],
)
def test_a_time_is_local_with_its_offset(tags: dict[int, str], expected: tuple[datetime, int | None]) -> None:
    found = metadata_of(tags={306: "2024:06:01 00:00:00"}, exif=tags)
    assert (found.taken_local, found.taken_offset) == expected


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D90", "Nikon D90"),
        ("SONY", "ILCE-7M3", "Sony ILCE-7M3"),
        ("FUJIFILM", "X-T3", "Fujifilm X-T3"),
        ("OLYMPUS IMAGING CORP.", "E-M10", "Olympus E-M10"),
        ("ASAHI OPTICAL CO.,LTD.", "PENTAX K10D", "Asahi PENTAX K10D"),
        ("EASTMAN KODAK COMPANY", "KODAK EASYSHARE V610", "Kodak EASYSHARE V610"),
        ("Leica Camera AG", "M10", "Leica M10"),
        ("samsung", "SM-G991B", "Samsung SM-G991B"),
        ("Apple", "iPhone 12\0\0\0", "Apple iPhone 12"),
        ("", "Pixel 7", "Pixel 7"),
        ("LGE", "", "LGE"),
        ("", "", None),
    ],
)
def test_cameras_have_their_common_names(make: str, model: str, camera: str | None) -> None:
    assert metadata_of(tags={271: make, 272: model}).camera == camera


@pytest.mark.parametrize(
    "gps",
    [
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {1: "N", 2: (95.0, 0.0, 0.0), 3: "E", 4: (10.0, 0.0, 0.0)},
        {1: "N", 2: (50.0, 0.0), 3: "E", 4: (10.0, 0.0, 0.0)},
        {1: "N", 2: (50.0, 0.0, 0.0)},
    ],
)
def test_an_impossible_position_is_omitted(gps: dict[int, Any]) -> None:
    found = metadata_of(tags={271: "Canon"}, gps=gps)
    assert (found.latitude, found.longitude, found.camera) == (None, None, "Canon")


def xmp(body: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">{body}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


SUBJECTS = "<dc:subject><rdf:Bag><rdf:li>cat</rdf:li><rdf:li>日本</rdf:li></rdf:Bag></dc:subject>"
DESCRIPTION = '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">At home</rdf:li></rdf:Alt></dc:description>'


def test_keywords_and_captions_come_from_iptc_and_xmp() -> None:
    segment = corpus.iptc_block("Straße".encode(), [b"cat", "Bäume".encode(), b"dog\0"])
    data = corpus.with_segment(corpus.jpeg(64, 48, xmp=xmp(SUBJECTS)), segment)
    found = examine(data, derivatives=False).metadata
    assert found.keywords == ("cat", "日本", "Bäume", "dog")
    assert found.caption == "Straße"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "HEIF"])
def test_xmp_is_read_from_every_format_that_has_it(kind: str) -> None:
    data = encode(corpus.marked(), kind, xmp=xmp(SUBJECTS + DESCRIPTION))
    found = examine(data, derivatives=False).metadata
    assert (found.keywords, found.caption) == (("cat", "日本"), "At home")


@pytest.mark.parametrize(
    ("type_", "value", "keywords"),
    [
        (1, "sea;Küste\0".encode("utf-16-le"), ("sea", "Küste")),
        (7, "sea;Küste".encode("utf-16-le"), ("sea", "Küste")),
        (3, "птица".encode("utf-16-le"), ("птица",)),
        (3, "vogel;Zürich\0".encode("utf-16-le"), ("vogel", "Zürich")),
        (4, b"\xff" * 32, ()),
        (2, b"sea;lake\0", ("sea", "lake")),
        (12, bytes(16), ()),
    ],
)
def test_keywords_of_windows_are_read_from_any_type(type_: int, value: bytes, keywords: tuple[str, ...]) -> None:
    sizes = {3: 2, 4: 4, 12: 8}
    exif = corpus.raw_exif((40094, type_, len(value) // sizes.get(type_, 1), value))
    assert examine(corpus.jpeg(64, 48, exif=exif), derivatives=False).metadata.keywords == keywords


def with_extension(data: bytes, extension: bytes, name: bytes, *, of: bytes = b"xmpNote:HasExtendedXMP='%s'") -> bytes:
    """Return the JPEG file *data* with a main packet and two segments of extended XMP, the last part first."""
    named = b'<rdf:Description xmlns:xmpNote="http://ns.adobe.com/xmp/note/" %s/>' % (of % name)
    main = xmp(DESCRIPTION).replace(b"</rdf:RDF>", named + b"</rdf:RDF>")
    half = len(extension) // 2
    segments = [b"http://ns.adobe.com/xap/1.0/\0" + main]
    for offset, part in ((half, extension[half:]), (0, extension[:half])):
        header = struct.pack(">32sII", name, len(extension), offset)
        segments.append(b"http://ns.adobe.com/xmp/extension/\0" + header + part)
    app1 = b"".join(b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment for segment in segments)
    return data[:2] + app1 + data[2:]


def test_the_extended_xmp_of_a_jpeg_is_joined_and_checked() -> None:
    extension = xmp(SUBJECTS + "<!--" + "x" * 70_000 + "-->")
    name = hashlib.md5(extension).hexdigest().upper().encode()
    plain = corpus.jpeg(64, 48)
    found = examine(with_extension(plain, extension, name), derivatives=False).metadata
    assert (found.caption, found.keywords) == ("At home", ("cat", "日本"))
    as_element = b"><xmpNote:HasExtendedXMP>%s</xmpNote:HasExtendedXMP></rdf:Description><rdf:Description "
    assert examine(with_extension(plain, extension, name, of=as_element)).metadata.keywords == ("cat", "日本")
    for altered, claimed in ((extension[:-1] + b"!", name), (extension, b"0" * 32), (b"", name)):
        found = examine(with_extension(plain, altered, claimed), derivatives=False).metadata
        assert (found.caption, found.keywords) == ("At home", ())


def test_xmp_that_declares_entities_is_not_expanded() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>' + xmp(f"{SUBJECTS}&a;")
    assert examine(corpus.jpeg(64, 48, xmp=bomb), derivatives=False).metadata.keywords == ()


@pytest.mark.parametrize(
    "caption", ["OLYMPUS DIGITAL CAMERA         ", "SONY DSC", "DCIM\\100MEDIA\\DJI_01.JPG", " . "]
)
def test_boilerplate_of_cameras_is_no_caption(caption: str) -> None:
    assert metadata_of(tags={270: caption}).caption is None


def test_text_is_cleaned_and_bounded() -> None:
    found = metadata_of(tags={270: b"a\x01b\x7f" + "é".encode() * 5_000, 271: "Ca\x00non", 315: "x" * 5_000})
    assert found.caption is not None
    assert found.caption.startswith("a b é")
    assert len(found.caption) <= 2_000
    assert found.camera == "Ca"
    assert metadata_of(tags={315: "Zoë 日本".encode()}).exif["artist"] == "Zoë 日本"
    assert metadata_of(tags={315: "Zoë".encode("latin-1")}).exif["artist"] == "Zoë"
    assert found.exif["artist"] == "x" * 200
    many = corpus.iptc_block(b"c" * 9_000, [str(n).encode() for n in range(500)])
    crowded = examine(corpus.with_segment(corpus.jpeg(64, 48), many), derivatives=False).metadata
    assert len(crowded.keywords) == 100


def test_numbers_that_json_cannot_represent_are_omitted() -> None:
    found = metadata_of(tags={271: "Canon"}, exif={33434: IFDRational(1, 0), 33437: IFDRational(0, 0)})
    assert found.exif == {"make": "Canon"}


def test_broken_metadata_does_not_prevent_decoding() -> None:
    random = np.random.default_rng(3)
    whole = bytearray(corpus.exif_bytes(**FULL))
    for _ in range(200):
        broken = whole.copy()
        for at in random.integers(6, len(whole), 8):
            broken[at] = random.integers(256)
        found = examine(corpus.jpeg(32, 24, exif=bytes(broken)), derivatives=False)
        assert {found.width, found.height} == {32, 24}
        stored = json.dumps(found.metadata.exif, allow_nan=False) + str(found.metadata.caption)
        assert "\\u0000" not in stored
        assert "\0" not in stored


def test_the_precise_time_of_exif_precedes_the_date_of_xmp_which_adds_its_offset() -> None:
    packet = (
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description'
        b' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        b' photoshop:DateCreated="2024-05-31" xmp:CreateDate="2024-05-31T10:20:30+02:00"/></rdf:RDF>'
    )
    exif = corpus.exif_bytes({}, exif={36867: "2024:05:31 10:20:30", 37521: "5"})
    found = examine(corpus.jpeg(64, 48, exif=exif, xmp=packet), derivatives=False).metadata
    assert (found.taken_local, found.taken_offset) == (datetime(2024, 5, 31, 10, 20, 30, 500_000), 120)


def test_texts_of_png_and_comments_of_jpeg_are_read() -> None:
    texts = PngInfo()
    for name, text in {
        "Title": "Heron",
        "Description": "At the lake",
        "Author": "Zoë",
        "Comment": "Cold",
        "Creation Time": "Fri, 31 May 2024 10:20:30 +0200",
    }.items():
        texts.add_itxt(name, text)
    found = examine(encode(corpus.marked(), "PNG", pnginfo=texts), derivatives=False).metadata
    assert (found.title, found.caption, found.exif) == ("Heron", "At the lake", {"comment": "Cold", "artist": "Zoë"})
    assert (found.taken_local, found.taken_offset) == (datetime(2024, 5, 31, 10, 20, 30), 120)
    commented = examine(corpus.jpeg(64, 48, comment=b"Very cold"), derivatives=False).metadata
    assert commented.exif == {"comment": "Very cold"}
    assert examine(corpus.jpeg(64, 48, comment=b"CREATOR: gd-jpeg v1.0"), derivatives=False).metadata.exif == {}


@pytest.mark.parametrize(
    ("value", "comment"),
    [
        (b"ASCII\0\0\0Hello", "Hello"),
        (b"UNICODE\0" + "Zürich".encode("utf-16-le"), "Zürich"),
        (b"UNICODE\0" + "Zürich".encode("utf-16-be"), "Zürich"),
        (b"JIS\0\0\0\0\0" + "東京".encode("iso2022_jp"), "東京"),
        (bytes(8) + "Zürich".encode(), "Zürich"),
        (b"ASCII\0\0\0" + b"   ", None),
    ],
)
def test_comments_of_cameras_are_read_in_their_encodings(value: bytes, comment: str | None) -> None:
    assert metadata_of(tags={}, exif={37510: value}).exif.get("comment") == comment

import base64
import hashlib
import io
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import IFDRational

from shared.errors import ImageRefused, Reason
from shared.images import EXTENSIONS, Examined, Format, Metadata, examine, open_rgb, sniff
from tests.helpers import corpus
from tests.helpers.corpus import BLUE, GREEN, RED, YELLOW, Case
from tests.helpers.pictures import encode

CAMERA = {"Make": 271, "Model": 272, "DateTime": 306, "ImageDescription": 270, "XPKeywords": 40094}


def by_name(case: Case) -> str:
    return case.name


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours of the four quarters: above, then below, each from the left."""
    width, height = image.size
    points = [(x * width // 4, y * height // 4) for y in (1, 3) for x in (1, 3)]
    return [image.getpixel(point) for point in points]  # type: ignore[misc]


def assert_upright(image: Image.Image, *, tolerance: int = 30) -> None:
    for found, expected in zip(corners(image), (RED, GREEN, BLUE, YELLOW), strict=True):
        assert np.abs(np.subtract(found, expected)).max() <= tolerance, (found, expected)


def metadata_of(**tags: Any) -> Metadata:
    """What is read back from a JPEG with these EXIF tags."""
    return examine(corpus.jpeg(64, 48, exif=corpus.exif_bytes(**tags)), derivatives=False).metadata


# What is taken, and what is refused


@pytest.mark.parametrize("case", corpus.shown(), ids=by_name)
def test_an_odd_image_is_shown(case: Case, tmp_path: Path) -> None:
    image = examine(case.write(tmp_path))
    assert (image.format, (image.width, image.height), image.truncated) == (case.format, case.size, case.truncated)
    assert (image.size, image.sha256) == (len(case.data), hashlib.sha256(case.data).digest())
    assert image.thumbnail is not None
    assert image.preview is not None
    for derivative, longest in ((image.thumbnail, 1024), (image.preview, 1600)):
        small = decoded(derivative)
        assert (small.format, small.mode) == ("WEBP", "RGB")
        assert max(small.size) == min(longest, max(small.size))
        assert not {"exif", "icc_profile", "xmp"} & small.info.keys()


@pytest.mark.parametrize("case", corpus.refused(), ids=by_name)
def test_a_bad_file_is_refused_with_its_reason(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path)
    for read in (examine, open_rgb):
        with pytest.raises(ImageRefused) as refused:
            read(path)
        assert (refused.value.reason, refused.value.final) == (case.reason, True)
        assert "\n" not in refused.value.detail


@pytest.mark.parametrize("case", corpus.cases(), ids=by_name)
def test_bytes_and_a_path_give_the_same(case: Case, tmp_path: Path) -> None:
    def outcome(source: bytes | Path) -> Examined | Reason:
        try:
            return examine(source, derivatives=False)
        except ImageRefused as refused:
            return refused.reason

    assert outcome(case.data) == outcome(case.write(tmp_path))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty.jpg", "the file is empty"),
        ("text.jpg", "this is a text file"),
        ("document.jpg", "this is a PDF document"),
        ("layers.tif", "this is a Photoshop document, which is not taken"),
        ("bomb.png", "it declares 50,000 x 50,000 pixels, at most 200 million are taken"),
    ],
)
def test_a_refusal_says_what_was_found(name: str, said: str) -> None:
    (case,) = (case for case in corpus.refused() if case.name == name)
    with pytest.raises(ImageRefused) as refused:
        examine(case.data)
    assert str(refused.value) == said


def test_what_the_system_cannot_read_may_be_tried_again(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.jpg", tmp_path):
        with pytest.raises(ImageRefused) as refused:
            examine(path)
        assert (refused.value.reason, refused.value.final) == (Reason.UNREADABLE, False)


def test_the_largest_number_of_pixels_is_taken_and_one_row_more_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.images.decode.MAX_PIXELS", 64 * 48)
    assert examine(corpus.jpeg(64, 48)).width == 64
    with pytest.raises(ImageRefused, match="64 x 49"):
        examine(corpus.jpeg(64, 49))


def test_a_large_picture_of_which_nearly_nothing_came_is_refused() -> None:
    whole = corpus.jpeg(3000, 2000)
    with pytest.raises(ImageRefused) as refused:
        examine(whole[: len(corpus.jpeg_header(whole)) + 500])
    assert refused.value.reason is Reason.CORRUPT


def test_a_cut_picture_keeps_what_came() -> None:
    whole = encode(corpus.marked(), "PNG", compress_level=0)
    image = open_rgb(whole[: len(whole) * 6 // 10])
    assert corners(image)[:2] == [RED, GREEN]


def test_every_case_has_an_extension_that_a_scan_takes() -> None:
    assert {Path(case.name).suffix for case in corpus.cases()} <= EXTENSIONS


def test_the_format_is_told_from_the_first_bytes() -> None:
    for case in corpus.shown():
        assert sniff(case.data[: 64 << 10]) is case.format


def test_the_content_type_is_that_of_the_content() -> None:
    assert examine(encode(corpus.marked(), "HEIF")).content_type == "image/heic"
    assert {kind.content_type for kind in Format} >= {"image/jpeg", "image/png", "image/webp", "image/tiff"}


# Pixels


@pytest.mark.parametrize("data", [corpus.jpeg(), corpus.oriented(6), encode(corpus.photo(), "PNG")])
def test_plain_pixels_are_exactly_those_of_pillow(data: bytes) -> None:
    expected = ImageOps.exif_transpose(decoded(data)).convert("RGB")
    assert np.array_equal(open_rgb(data), expected)


@pytest.mark.parametrize("case", [c for c in corpus.shown() if c.name.startswith("orientation-")], ids=by_name)
def test_every_orientation_is_shown_upright(case: Case) -> None:
    assert_upright(open_rgb(case.data))
    image = examine(case.data)
    assert image.thumbnail is not None
    assert_upright(decoded(image.thumbnail))


UPRIGHT = "rgb palette animated still windows scan pages packed cmyk lab adobe display broken phone png-named"


@pytest.mark.parametrize(
    "case",
    [c for c in corpus.shown() if c.name.startswith(tuple(UPRIGHT.split())) and c.size == (320, 240)],
    ids=by_name,
)
def test_colours_survive_every_format(case: Case) -> None:
    # Inks without their profile are only roughly what they will look like; a transparent colour becomes white.
    if case.name != "palette-clear.png":
        assert_upright(open_rgb(case.data), tolerance=80)


def test_a_raw_file_is_shown_by_its_preview() -> None:
    assert_upright(open_rgb(corpus.dng()))
    turned = open_rgb(corpus.dng(orientation=6))
    assert turned.size == (240, 320)
    assert_upright(turned.transpose(Image.Transpose.ROTATE_90))
    assert examine(corpus.dng()).metadata.camera == "Maker Model 1"


def test_wide_colours_become_those_of_srgb() -> None:
    # Adobe RGB's (200, 60, 60) is a stronger red than sRGB has there, and its greys are the same.
    image = Image.new("RGB", (8, 8), (200, 60, 60))
    for profile in (corpus.adobe_rgb(), corpus.display_p3()):
        red, green, _ = open_rgb(encode(image, "PNG", icc_profile=profile)).getpixel((4, 4))  # type: ignore[misc]
        assert red > 205
        assert green < 60
        grey = encode(Image.new("RGB", (8, 8), (128, 128, 128)), "PNG", icc_profile=profile)
        assert np.abs(np.asarray(open_rgb(grey), dtype=int) - 128).max() <= 2


def test_inks_are_shown_by_their_profile() -> None:
    cyan = encode(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF", icc_profile=corpus.cmyk_profile())
    red, green, blue = open_rgb(cyan).getpixel((4, 4))  # type: ignore[misc]
    assert (red, green, blue) != (0, 255, 255)
    assert red < 40 < 120 < green < blue


def test_what_is_transparent_lies_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    for kind in ("PNG", "WEBP", "TIFF"):
        assert open_rgb(encode(clear, kind)).getpixel((4, 4)) == (255, 255, 255)
        assert open_rgb(encode(half, kind)).getpixel((4, 4)) == (127, 127, 127)


@pytest.mark.parametrize("name", ["grey16.png", "grey16.tif", "float.tif"])
def test_sixteen_bits_keep_their_shades(name: str) -> None:
    (case,) = (case for case in corpus.shown() if case.name == name)
    column = np.asarray(open_rgb(case.data))[:, 0, 0].astype(int)
    assert column[0] == 0
    assert column[-1] >= 253
    assert set(np.diff(column)) <= {0, 1, 2}


def test_of_an_animation_the_first_frame_is_shown() -> None:
    for case in corpus.shown():
        if case.name.startswith(("animated", "pages")):
            assert_upright(open_rgb(case.data))


def test_a_photo_may_come_smaller_but_never_below_what_is_asked() -> None:
    data = corpus.oriented(6)
    assert open_rgb(data).size == (320, 240)
    for at_least in ((320, 240), (161, 1), (160, 120), (80, 60), (1, 1), (1000, 1000)):
        image = open_rgb(data, at_least=at_least)
        assert image.size >= (min(at_least[0], 320), min(at_least[1], 240))
        assert_upright(image)
    assert open_rgb(data, at_least=(80, 60)).size == (80, 60)


# What is made


def test_thumbnail_and_preview_keep_the_shape_and_are_never_enlarged() -> None:
    sizes = {
        (2400, 1600): ((512, 341), (1600, 1067)),
        (1000, 4000): ((256, 1024), (400, 1600)),
        (300, 200): ((300, 200), (300, 200)),
        (20_000, 3): ((512, 1), (1600, 1)),
    }
    for size, (thumbnail, preview) in sizes.items():
        image = examine(encode(Image.new("RGB", size, RED), "JPEG"))
        assert image.thumbnail is not None
        assert image.preview is not None
        assert (decoded(image.thumbnail).size, decoded(image.preview).size) == (thumbnail, preview)


def test_without_derivatives_the_facts_are_the_same() -> None:
    data = corpus.jpeg(1200, 900, exif=corpus.exif_bytes({CAMERA["Make"]: "Canon"}))
    full, facts = examine(data), examine(data, derivatives=False)
    assert (facts.thumbnail, facts.preview) == (None, None)
    assert {**full.columns(), "derivatives": False, "placeholder": ""} == {**facts.columns(), "placeholder": ""}


def test_the_placeholder_is_the_picture_in_a_few_bytes() -> None:
    image = examine(encode(corpus.marked(), "PNG"))
    head, _, payload = image.placeholder.partition(",")
    assert head == "data:image/webp;base64"
    assert len(image.placeholder) < 400
    assert_upright(decoded(base64.b64decode(payload)), tolerance=60)


@pytest.mark.parametrize(
    ("size", "orientation"),
    [((640, 480), "landscape"), ((480, 640), "portrait"), ((500, 500), "square"), ((500, 490), "square")],
)
def test_the_longer_side_names_the_orientation(size: tuple[int, int], orientation: str) -> None:
    assert examine(corpus.jpeg(*size), derivatives=False).orientation == orientation


# What an image says of itself

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
    assert found.taken_at == datetime(2021, 7, 3, 18, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert (found.camera, found.lens, found.caption) == ("Nikon D90", "AF-S 35mm f/1.8G", "A cat on a wall")
    assert found.latitude == pytest.approx(-33.8568056)
    assert found.longitude == pytest.approx(151.215)
    expected = {"exposure_time": 0.004, "f_number": 2.8, "iso": 200, "focal_length": 35, "flash": True, "artist": "Zoe"}
    assert expected.items() <= found.exif.items()
    assert json.loads(json.dumps(found.exif, allow_nan=False)) == found.exif


def test_a_clock_without_its_offset_is_read_as_utc() -> None:
    assert metadata_of(tags={}, exif={36867: "2020:02:29 12:00:00"}).taken_at == datetime(2020, 2, 29, 12, tzinfo=UTC)
    nonsense = {36867: "2020:02:29 12:00:00", 36881: "+99:99"}
    assert metadata_of(tags={}, exif=nonsense).taken_at == datetime(2020, 2, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "    :  :     :  :  ", "2020:13:01 00:00:00", "yesterday", ""])
def test_a_clock_that_was_never_set_is_no_time(text: str) -> None:
    assert metadata_of(tags={306: text}, exif={36867: text}).taken_at is None


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
def test_a_camera_is_named_as_people_say_it(make: str, model: str, camera: str | None) -> None:
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
def test_a_place_that_cannot_be_is_left_out(gps: dict[int, Any]) -> None:
    found = metadata_of(tags={271: "Canon"}, gps=gps)
    assert (found.latitude, found.longitude, found.camera) == (None, None, "Canon")


def xmp(body: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">{body}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


SUBJECTS = "<dc:subject><rdf:Bag><rdf:li>cat</rdf:li><rdf:li>日本</rdf:li></rdf:Bag></dc:subject>"
DESCRIPTION = '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">At home</rdf:li></rdf:Alt></dc:description>'


def test_keywords_and_caption_come_from_iptc_and_xmp_alike() -> None:
    segment = corpus.iptc_block("Straße".encode(), [b"cat", "Bäume".encode(), b"dog\0"])
    data = corpus.with_segment(corpus.jpeg(64, 48, xmp=xmp(SUBJECTS)), segment)
    found = examine(data, derivatives=False).metadata
    assert found.keywords == ("cat", "Bäume", "dog", "日本")
    assert found.caption == "Straße"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "HEIF"])
def test_xmp_is_read_from_every_format_that_has_it(kind: str) -> None:
    data = encode(corpus.marked(), kind, xmp=xmp(SUBJECTS + DESCRIPTION))
    found = examine(data, derivatives=False).metadata
    assert (found.keywords, found.caption) == (("cat", "日本"), "At home")


def test_keywords_that_windows_wrote_are_read() -> None:
    keywords = "sea;Küste".encode("utf-16-le") + b"\0\0"
    assert metadata_of(tags={CAMERA["XPKeywords"]: keywords}).keywords == ("sea", "Küste")


def test_xmp_that_declares_entities_is_not_expanded() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>' + xmp(f"{SUBJECTS}&a;")
    assert examine(corpus.jpeg(64, 48, xmp=bomb), derivatives=False).metadata.keywords == ()


@pytest.mark.parametrize(
    "caption", ["OLYMPUS DIGITAL CAMERA         ", "SONY DSC", "DCIM\\100MEDIA\\DJI_01.JPG", " . "]
)
def test_what_a_camera_writes_into_every_picture_is_no_caption(caption: str) -> None:
    assert metadata_of(tags={CAMERA["ImageDescription"]: caption}).caption is None


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


def test_numbers_that_json_cannot_hold_are_left_out() -> None:
    found = metadata_of(tags={271: "Canon"}, exif={33434: IFDRational(1, 0), 33437: IFDRational(0, 0)})
    assert found.exif == {"make": "Canon"}


def test_broken_metadata_never_costs_the_image() -> None:
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

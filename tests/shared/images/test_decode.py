import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from shared.errors import ImageRefused, Reason
from shared.images import EXTENSIONS, Examined, Format, examine, glance, open_rgb
from tests.helpers import corpus
from tests.helpers.corpus import GREEN, RED, Case, assert_upright, corners, read, shown
from tests.helpers.pictures import encode


def by_name(case: Case) -> str:
    return case.name


def find(name: str) -> Case:
    return next(case for case in corpus.cases() if case.name == name)


@pytest.mark.parametrize("case", corpus.accepted(), ids=by_name)
def test_every_supported_file_becomes_an_image(case: Case, tmp_path: Path) -> None:
    image = examine(case.write(tmp_path))
    assert (image.format, (image.width, image.height), image.truncated) == (case.format, case.size, case.truncated)
    assert (image.size, image.sha256) == (len(case.data), hashlib.sha256(case.data).digest())
    assert image.thumbnail is not None
    assert image.preview is not None
    is_panorama = case.size[0] > 2.5 * case.size[1]  # a tile shows its middle
    for derivative, longest in ((image.thumbnail, 1600 if is_panorama else 1024), (image.preview, 1600)):
        small = read(derivative)
        assert (small.format, small.mode) == ("WEBP", "RGB")
        assert max(small.size) == min(longest, max(small.size))
        assert not {"exif", "icc_profile", "xmp"} & small.info.keys()


@pytest.mark.parametrize("case", corpus.refused(), ids=by_name)
def test_a_bad_file_is_refused_with_its_reason(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path)
    for function in (examine, open_rgb):
        with pytest.raises(ImageRefused) as refused:
            function(path)
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
    ("name", "message"),
    [
        ("empty.jpg", "the file is empty"),
        ("text.jpg", "this is a text file"),
        ("document.jpg", "this is a PDF document"),
        ("large.psd", "this is a large Photoshop document (PSB), which is not supported"),
        ("bomb.png", "it declares 50,000 x 50,000 pixels; the limit is 200 million"),
    ],
)
def test_a_refusal_names_the_kind_of_file(name: str, message: str) -> None:
    with pytest.raises(ImageRefused) as refused:
        examine(find(name).data)
    assert str(refused.value) == message


def test_a_file_that_the_system_cannot_read_may_be_retried(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.jpg", tmp_path):
        with pytest.raises(ImageRefused) as refused:
            examine(path)
        assert (refused.value.reason, refused.value.final) == (Reason.UNREADABLE, False)


def test_an_image_of_the_largest_size_is_accepted_and_one_more_row_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.images.decode.MAX_PIXELS", 64 * 48)
    assert examine(corpus.jpeg(64, 48)).width == 64
    with pytest.raises(ImageRefused, match="64 x 49"):
        examine(corpus.jpeg(64, 49))


def test_a_picture_that_is_truncated_at_its_start_is_refused() -> None:
    whole = corpus.jpeg(3000, 2000)
    with pytest.raises(ImageRefused) as refused:
        examine(whole[: len(corpus.jpeg_header(whole)) + 500])
    assert refused.value.reason is Reason.CORRUPT


def test_a_truncated_picture_shows_its_beginning() -> None:
    whole = encode(corpus.marked(), "PNG", compress_level=0)
    image = open_rgb(whole[: len(whole) * 6 // 10])
    assert corners(image)[:2] == [RED, GREEN]


CUT = {
    "lossy.webp": ("WEBP", {}),
    "lossless.webp": ("WEBP", {"lossless": True}),
    "metadata.webp": ("WEBP", {"exif": corpus.exif_bytes({271: "Canon"})}),
    "photo.heic": ("HEIF", {}),
    "photo.avif": ("AVIF", {}),
    "photo.jp2": ("JPEG2000", {}),
    "photo.j2k": ("JPEG2000", {"no_jp2": True}),
}


@pytest.mark.parametrize("name", CUT)
def test_what_is_left_of_a_file_is_shown_though_its_decoder_needs_all_of_it(name: str) -> None:
    kind, options = CUT[name]
    picture = corpus.photo(seed=4)
    whole = encode(picture, kind, **options)
    cut = whole[: len(whole) * 6 // 10]
    assert examine(cut).truncated
    assert (glance(cut).width, glance(cut).height) == picture.size
    difference = np.asarray(open_rgb(cut)).astype(int) - np.asarray(picture)
    assert np.abs(difference[: picture.height // 3]).mean() < 12
    with pytest.raises(ImageRefused) as refused:
        examine(whole[: len(whole) // 200])
    assert refused.value.reason is Reason.CORRUPT


def test_a_heic_file_that_ends_early_is_marked_though_its_decoder_accepts_it() -> None:
    whole = encode(corpus.photo(seed=4), "HEIF") + (1000).to_bytes(4) + b"free" + bytes(992)
    assert not examine(whole, derivatives=False).truncated
    assert examine(whole[:-500], derivatives=False).truncated
    assert not examine(whole + corpus.garbage(), derivatives=False).truncated


@pytest.mark.parametrize("missing", [4, 40, 400])
def test_an_avif_file_that_lacks_few_bytes_is_shown(missing: int) -> None:
    whole = encode(corpus.photo(seed=4), "AVIF")
    cut = whole[:-missing]
    assert examine(cut).truncated
    assert np.abs(np.asarray(open_rgb(cut)).astype(int) - np.asarray(open_rgb(whole))).mean() < 8


def test_a_webp_file_that_lacks_its_last_chunk_is_shown() -> None:
    data = encode(corpus.photo(seed=4), "WEBP", exif=corpus.exif_bytes({271: "Canon"}))
    assert np.array_equal(np.asarray(open_rgb(data[: data.index(b"EXIF")])), np.asarray(open_rgb(data)))


def test_a_scan_considers_the_extension_of_every_case() -> None:
    assert {Path(case.name).suffix for case in corpus.cases()} <= EXTENSIONS


def test_the_content_type_is_that_of_the_content() -> None:
    assert examine(encode(corpus.marked(), "HEIF")).content_type == "image/heic"
    assert {kind.content_type for kind in Format} >= {"image/jpeg", "image/png", "image/webp", "image/tiff"}


@pytest.mark.parametrize(
    "data",
    [
        corpus.jpeg(),
        corpus.oriented(6),
        encode(corpus.photo(), "PNG"),
        encode(corpus.photo(), "PNG", icc_profile=corpus.display_p3()),
    ],
)
def test_pixels_for_models_equal_those_of_pillow(data: bytes) -> None:
    expected = ImageOps.exif_transpose(read(data)).convert("RGB")
    assert np.array_equal(open_rgb(data), expected)


@pytest.mark.parametrize("case", [case for case in corpus.accepted() if "orientation-" in case.name], ids=by_name)
def test_every_orientation_is_shown_upright(case: Case) -> None:
    assert_upright(shown(case.data))
    image = examine(case.data)
    assert image.thumbnail is not None
    assert_upright(read(image.thumbnail))


UPRIGHT = (
    "rgb palette animated still windows scan pages packed cmyk lab adobe display broken phone png-named"
    " new repacked cinema layers inks planes16 layers16 pair"
)


@pytest.mark.parametrize(
    "case",
    [c for c in corpus.accepted() if c.name.startswith(tuple(UPRIGHT.split())) and c.size == (320, 240)],
    ids=by_name,
)
def test_every_format_shows_its_colours_and_an_animation_its_first_frame(case: Case) -> None:
    # Without a profile the colours of inks are approximate; a transparent colour becomes white.
    if case.name != "palette-clear.png":
        assert_upright(shown(case.data), tolerance=80)


def test_a_raw_file_shows_its_preview() -> None:
    assert_upright(shown(corpus.dng()))
    rotated = shown(corpus.dng(orientation=6))
    assert rotated.size == (240, 320)
    assert_upright(rotated.transpose(Image.Transpose.ROTATE_90))
    assert examine(corpus.dng()).metadata.camera == "Maker Model 1"


def test_wide_colours_are_converted_to_srgb() -> None:
    # Adobe RGB's (200, 60, 60) is a stronger red than sRGB has there, and its greys are the same.
    image = Image.new("RGB", (8, 8), (200, 60, 60))
    for profile in (corpus.adobe_rgb(), corpus.display_p3()):
        red, green, _ = shown(encode(image, "PNG", icc_profile=profile)).getpixel((4, 4))  # type: ignore[misc]
        assert red > 205
        assert green < 60
        grey = encode(Image.new("RGB", (8, 8), (128, 128, 128)), "PNG", icc_profile=profile)
        assert np.abs(np.asarray(shown(grey), dtype=int) - 128).max() <= 2


def test_inks_are_converted_by_their_profile() -> None:
    cyan = encode(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF", icc_profile=corpus.cmyk_profile())
    red, green, blue = shown(cyan).getpixel((4, 4))  # type: ignore[misc]
    assert (red, green, blue) != (0, 255, 255)
    assert red < 40 < 120 < green < blue


def test_transparent_areas_become_white() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    for kind in ("PNG", "WEBP", "TIFF"):
        assert shown(encode(clear, kind)).getpixel((4, 4)) == (255, 255, 255)
        assert shown(encode(half, kind)).getpixel((4, 4)) == (127, 127, 127)


@pytest.mark.parametrize("name", ["grey16.png", "grey16.tif", "float.tif"])
def test_sixteen_bits_keep_their_shades(name: str) -> None:
    column = np.asarray(shown(find(name).data))[:, 0, 0].astype(int)
    assert column[0] == 0
    assert column[-1] >= 253
    assert set(np.diff(column)) <= {0, 1, 2}


def test_a_reduced_photo_is_never_smaller_than_requested() -> None:
    data = corpus.oriented(6)
    assert open_rgb(data).size == (320, 240)
    for at_least in ((320, 240), (161, 1), (160, 120), (80, 60), (1, 1), (1000, 1000)):
        image = open_rgb(data, at_least=at_least)
        assert image.size >= (min(at_least[0], 320), min(at_least[1], 240))
        assert_upright(image)
    assert open_rgb(data, at_least=(80, 60)).size == (80, 60)

"""Generated images in every supported format, and files that only look like images.

``cases`` returns them all with the expected result; other functions make single ones.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageDraw

from shared.errors import Reason
from shared.images import Format
from shared.images.decode import decode, opened
from tests.helpers.pictures import encode

# The quarters of a marked picture: their places show its orientation.
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 180, 40), (40, 60, 220), (230, 220, 40)
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Case:
    """A file with its expected format and size, or the reason of its refusal."""

    name: str
    data: bytes
    format: Format | None = None
    size: tuple[int, int] | None = None
    reason: Reason | None = None
    truncated: bool = False

    def write(self, folder: Path) -> Path:
        """Write the file into *folder* and return its path."""
        path = folder / self.name
        path.write_bytes(self.data)
        return path


def marked(width: int = 320, height: int = 240) -> Image.Image:
    """Return a picture whose quarters are red, green (above), blue and yellow (below)."""
    image = Image.new("RGB", (width, height), RED)
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 2, 0, width, height // 2 - 1), fill=GREEN)
    draw.rectangle((0, height // 2, width // 2 - 1, height), fill=BLUE)
    draw.rectangle((width // 2, height // 2, width, height), fill=YELLOW)
    return image


def photo(width: int = 640, height: int = 480, *, seed: int = 0, patches: tuple[int, int] = (8, 6)) -> Image.Image:
    """Return a picture of smooth shades between *patches* of random colours, with some noise."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (*reversed(patches), 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noise = random.integers(-6, 7, (height, width, 1), dtype=np.int16)
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def jpeg(
    width: int = 640,
    height: int = 480,
    *,
    seed: int = 0,
    patches: tuple[int, int] = (8, 6),
    quality: int = 90,
    **options: Any,
) -> bytes:
    """Return a photo as a JPEG file; *options* are Pillow's."""
    return encode(photo(width, height, seed=seed, patches=patches), "JPEG", quality=quality, **options)


def read(data: bytes) -> Image.Image:
    """Return the image in the file *data* as Pillow reads it."""
    return Image.open(io.BytesIO(data))


def shown(data: bytes) -> Image.Image:
    """Return the image in the file *data* as thumbnails and previews show it: upright and in sRGB."""
    with opened(data) as file:
        return decode(file).upright()


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Return the colours of the four quarters: upper left, upper right, lower left, lower right."""
    width, height = image.size
    points = [(x * width // 4, y * height // 4) for y in (1, 3) for x in (1, 3)]
    return [image.getpixel(point) for point in points]  # type: ignore[misc]


def assert_upright(image: Image.Image, *, tolerance: int = 30) -> None:
    """Check that *image* shows ``marked()`` in upright orientation."""
    for found, expected in zip(corners(image), (RED, GREEN, BLUE, YELLOW), strict=True):
        assert np.abs(np.subtract(found, expected)).max() <= tolerance, (found, expected)


# Broken files


def jpeg_header(data: bytes) -> bytes:
    """Return a JPEG file up to where its pixels begin."""
    start = data.index(b"\xff\xda")
    return data[: start + 2 + int.from_bytes(data[start + 2 : start + 4])]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    samples: np.ndarray[Any, Any], depth: int = 8, *before: bytes, colour_type: int | None = None, after: bytes = b""
) -> bytes:
    """Return a PNG file of *samples* [height, width(, channels)] with chunks *before* and *after* the pixels.

    Without *colour_type* one channel is grey, two are grey and alpha, three RGB, four RGB and alpha.
    """
    height, width = samples.shape[:2]
    channels = samples.reshape(height, width, -1)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels.shape[-1]] if colour_type is None else colour_type
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in channels]
    else:
        bits = (channels.reshape(height, -1, 1) >> np.arange(depth - 1, -1, -1)) & 1
        rows = [np.packbits(row.astype(np.uint8)).tobytes() for row in bits.reshape(height, -1)]
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [png_chunk(b"IHDR", header), *before, png_chunk(b"IDAT", pixels), after, png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """Return a small PNG file that declares, and would unpack to, *width* x *height* pixels of one bit."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(row * min(500, height - y)) for y in range(0, height, 500)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def garbage(length: int = 20_000) -> bytes:
    """Return fixed random bytes."""
    return np.random.default_rng(7).bytes(length)


# Colour profiles


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    table, data, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name + struct.pack(">II", offset + len(data), len(value))
        data += value
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    header = struct.pack(">I4sI4s4s4s", offset + len(data), b"none", 0x02400000, kind, space, connection)
    header += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _described(name: bytes) -> dict[bytes, bytes]:
    text = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name + b"\0"
    return {b"desc": text + bytes(78), b"cprt": b"text" + bytes(4) + b"none\0"}


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _rgb_profile(
    name: bytes, red: Sequence[float], green: Sequence[float], blue: Sequence[float], exponent: float = 2.2
) -> bytes:
    gamma = b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256))
    colours = {b"rXYZ": _xyz(red), b"gXYZ": _xyz(green), b"bXYZ": _xyz(blue), b"wtpt": _xyz((0.9642, 1, 0.8249))}
    return _profile(b"RGB ", b"XYZ ", _described(name) | colours | {b"rTRC": gamma, b"gTRC": gamma, b"bTRC": gamma})


def adobe_rgb() -> bytes:
    """Return an ICC profile with the primaries of Adobe RGB (1998)."""
    return _rgb_profile(b"Wide", (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def display_p3() -> bytes:
    """Return an ICC profile with the primaries of Display P3, which phones use."""
    return _rgb_profile(b"P3", (0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))


def gamma_profile(name: str, exponent: float) -> bytes:
    """Return an ICC profile with the primaries of sRGB and another gamma."""
    primaries = (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141)
    return _rgb_profile(name.encode(), *primaries, exponent)


def cmyk_profile() -> bytes:
    """Return an ICC profile of inks: a table from the sixteen full overprints to their colours (Lab)."""
    white = np.array([100.0, 0, 0])
    inks = np.array([[55, -37, -50], [48, 74, -3], [89, -5, 93], [16, 0, 0]])
    table = b""
    for overprint in np.ndindex(2, 2, 2, 2):
        lab = white
        for ink, used in zip(inks, overprint, strict=True):
            lab = lab + used * (ink - white) * lab[0] / 100
        lightness, a, b = np.clip(lab, [0, -128, -128], [100, 127, 127])
        table += bytes([round(lightness * 2.55), round(a + 128), round(b + 128)])
    ramp = bytes(range(256))
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + table + ramp * 3
    return _profile(b"CMYK", b"Lab ", _described(b"Inks") | {b"A2B0": lut, b"wtpt": _xyz((0.9642, 1, 0.8249))})


# Metadata


def exif_bytes(tags: dict[int, Any], *, exif: dict[int, Any] | None = None, gps: dict[int, Any] | None = None) -> bytes:
    """Return an EXIF block with these tags in its main, its EXIF and its GPS directory."""
    block = Image.Exif()
    for tag, value in tags.items():
        block[tag] = value
    if exif:
        block.get_ifd(0x8769).update(exif)
    if gps:
        block.get_ifd(0x8825).update(gps)
    return block.tobytes()


def raw_exif(*entries: tuple[int, int, int, bytes], sub_directories: dict[int, int] | None = None) -> bytes:
    """Return a little-endian EXIF block with these entries as they are: tag, type, count and the value's bytes.

    *sub_directories* are further entries: tags with an offset in the block, 8 being that of the directory itself.
    """
    pointers = [(tag, 4, 1, struct.pack("<I", offset)) for tag, offset in (sub_directories or {}).items()]
    every = sorted([*entries, *pointers])
    rows, values = b"", b""
    for tag, kind, count, value in every:
        if len(value) > 4:
            value, rest = struct.pack("<I", 8 + 2 + 12 * len(every) + 4 + len(values)), value
            values += rest
        rows += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(every)) + rows + bytes(4) + values


def oriented(orientation: int, kind: str = "JPEG") -> bytes:
    """Return a file that shows ``marked()`` and stores it with EXIF *orientation* 1 to 8."""
    method = Image.Transpose
    stored = {
        2: method.FLIP_LEFT_RIGHT,
        3: method.ROTATE_180,
        4: method.FLIP_TOP_BOTTOM,
        5: method.TRANSPOSE,
        6: method.ROTATE_90,
        7: method.TRANSVERSE,
        8: method.ROTATE_270,
    }
    image = marked()
    if orientation in stored:
        image = image.transpose(stored[orientation])
    return encode(image, kind, exif=exif_bytes({ORIENTATION: orientation}))


def iptc_block(caption: bytes, keywords: Sequence[bytes]) -> bytes:
    """Return a JPEG segment (APP13) with a caption and keywords, as photo agencies write them."""
    records = [(120, caption), *((25, keyword) for keyword in keywords)]
    return photoshop_segment(
        b"".join(struct.pack(">BBBH", 0x1C, 2, number, len(text)) + text for number, text in records)
    )


def photoshop_segment(data: bytes) -> bytes:
    """Return a JPEG segment (APP13) with an IPTC block."""
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(data)) + data + b"\0" * (len(data) % 2)
    segment = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment


def with_segment(data: bytes, segment: bytes) -> bytes:
    """Return a JPEG file with one more segment, right after its start."""
    return data[:2] + segment + data[2:]


# Formats that Pillow does not write


def jpeg_xl(image: Image.Image | np.ndarray[Any, Any] | bytes, **options: Any) -> bytes:
    """Return *image* as a JPEG XL file without loss: pixels, or a JPEG file packed as such."""
    if isinstance(image, bytes):
        return bytes(imagecodecs.jpegxl_encode_jpeg(image, usecontainer=True))
    return bytes(imagecodecs.jpegxl_encode(np.asarray(image), lossless=True, **options))


# Declares 2**30 x 2**30 pixels: no small size, twice the longest form, no ratio.
JPEG_XL_BOMB = (
    b"\xff\x0a" + (0b110 | (2**30 - 1) << 3 | 0b11 << 36 | (2**30 - 1) << 38).to_bytes(9, "little") + bytes(50)
)


def ultra_hdr(image: Image.Image) -> bytes:
    """Return *image* as a JPEG with a gain map."""
    light = np.asarray(image).astype(np.float16) / 255
    return bytes(
        imagecodecs.ultrahdr_encode(np.dstack([light, np.ones(light.shape[:2], np.float16)]).astype(np.float16))
    )


def tiff(samples: np.ndarray[Any, Any], **options: Any) -> bytes:
    """Return a TIFF of *samples* [height, width] or [height, width, channels] of any type; *options* are tifffile's."""
    file = io.BytesIO()
    if options.get("planarconfig") == "separate":
        samples = np.moveaxis(samples, -1, 0)
    options.setdefault("photometric", "rgb" if samples.ndim == 3 else "minisblack")
    tifffile.imwrite(file, samples, metadata=None, **options)
    return file.getvalue()


def psd(image: Image.Image, *, depth: int = 8, packed: bool = False, profile: bytes = b"") -> bytes:
    """Return a Photoshop document with the flattened *image* (RGB or CMYK) and no layers."""
    planes = np.moveaxis(np.asarray(image), -1, 0)
    if image.mode == "CMYK":
        planes = 255 - planes
    if depth == 16:
        planes = (planes * np.uint16(257)).astype(">u2")
    mode = {"RGB": 3, "CMYK": 4}[image.mode]
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, len(planes), image.height, image.width, depth, mode)
    resources = struct.pack(">4sHHI", b"8BIM", 1039, 0, len(profile)) + profile + bytes(len(profile) % 2)
    header += struct.pack(">II", 0, len(resources)) + resources + bytes(4)
    if not packed:
        return header + bytes(2) + planes.tobytes()
    rows = [imagecodecs.packbits_encode(row.tobytes()) for plane in planes for row in plane]
    return header + struct.pack(f">H{len(rows)}H", 1, *map(len, rows)) + b"".join(rows)


# Raw


def dng(*, orientation: int = 1, preview: bool = True) -> bytes:
    """Return a raw file (DNG) with ``marked()`` as JPEG preview and a grey mosaic."""
    mosaic = np.full((64, 64), 1000, dtype="<u2").tobytes()
    picture = encode(marked(), "JPEG", quality=90)
    short, long, rational, byte, text = "H", "I", "R", "B", "s"
    camera = [
        (271, text, b"Maker\0"),
        (272, text, b"Model 1\0"),
        (274, short, [orientation]),
        (50706, byte, [1, 4, 0, 0]),
        (50707, byte, [1, 1, 0, 0]),
        (50708, text, b"Maker Model 1\0"),
        (50721, rational, [1, 0, 0, 0, 1, 0, 0, 0, 1]),
        (50728, rational, [1, 1, 1]),
    ]
    sensor = [
        (254, long, [0]),
        (256, long, [64]),
        (257, long, [64]),
        (258, short, [16]),
        (259, short, [1]),
        (262, short, [32803]),
        (273, long, [mosaic]),
        (277, short, [1]),
        (278, long, [64]),
        (279, long, [len(mosaic)]),
        (33421, short, [2, 2]),
        (33422, byte, [0, 1, 1, 2]),
        (50717, long, [4095]),
    ]
    small = [
        (254, long, [1]),
        (256, long, [320]),
        (257, long, [240]),
        (258, short, [8, 8, 8]),
        (259, short, [7]),
        (262, short, [6]),
        (273, long, [picture]),
        (277, short, [3]),
        (278, long, [240]),
        (279, long, [len(picture)]),
    ]
    if not preview:
        return _tiff([*camera, *sensor])
    return _tiff([*small, *camera, (330, long, [sensor])])


def _tiff(entries: list[tuple[int, str, Any]]) -> bytes:
    """Return a little-endian TIFF; values that are bytes or directories are stored, and their offsets inserted."""
    out = bytearray(b"II*\0\0\0\0\0")

    def store(data: bytes) -> int:
        offset = len(out)
        out.extend(data + bytes(len(data) % 2))
        return offset

    def directory(tags: list[tuple[int, str, Any]]) -> int:
        codes = {"B": 1, "s": 2, "H": 3, "I": 4, "R": 5}
        rows = b""
        for tag, kind, value in sorted(tags, key=lambda entry: entry[0]):
            if kind == "s":
                packed, count = value, len(value)
            else:
                count = len(value)
                values = [
                    store(v) if isinstance(v, bytes) else directory(v) if isinstance(v, list) else v for v in value
                ]
                if kind == "R":
                    packed = b"".join(struct.pack("<II", number, 1) for number in values)
                else:
                    packed = struct.pack(f"<{count}{kind}", *values)
            inline = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", store(packed))
            rows += struct.pack("<HHI", tag, codes[kind], count) + inline
        return store(struct.pack("<H", len(rows) // 12) + rows + bytes(4))

    first = directory(entries)
    struct.pack_into("<I", out, 4, first)
    return bytes(out)


# All cases


@cache
def cases() -> tuple[Case, ...]:
    """Return all unusual images and all files to be refused."""
    return (*accepted(), *refused())


@cache
def accepted() -> tuple[Case, ...]:
    """Return files that become images."""
    size = (320, 240)
    small = marked()
    frames = [marked(), Image.new("RGB", size, BLUE), Image.new("RGB", size, YELLOW)]
    cmyk = small.convert("CMYK")
    grey16 = Image.fromarray(np.linspace(0, 65535, 320 * 240, dtype=np.uint16).reshape(240, 320))
    clear = small.copy()
    clear.putalpha(Image.linear_gradient("L").resize(size))
    cut = jpeg(seed=1)
    cut_progressive = jpeg(seed=2, progressive=True)
    big_png = encode(photo(seed=3), "PNG")
    animated = {"save_all": True, "append_images": frames[1:], "duration": 100}
    cmyk_options = {"quality": 95, "icc_profile": cmyk_profile()}
    return (
        Case("plain.jpg", jpeg(), Format.JPEG, (640, 480)),
        Case("progressive.jpg", jpeg(progressive=True), Format.JPEG, (640, 480)),
        Case("grey.jpg", encode(photo().convert("L"), "JPEG"), Format.JPEG, (640, 480)),
        Case("cmyk.jpg", encode(cmyk, "JPEG", quality=95), Format.JPEG, size),
        Case("cmyk-profile.jpg", encode(cmyk, "JPEG", **cmyk_options), Format.JPEG, size),
        Case("adobe-rgb.jpg", encode(small, "JPEG", icc_profile=adobe_rgb()), Format.JPEG, size),
        Case("display-p3.jpg", encode(small, "JPEG", icc_profile=display_p3()), Format.JPEG, size),
        Case("broken-profile.jpg", encode(small, "JPEG", icc_profile=garbage(400)), Format.JPEG, size),
        Case("foreign-profile.jpg", encode(small, "JPEG", icc_profile=cmyk_profile()), Format.JPEG, size),
        Case("broken-exif.jpg", encode(small, "JPEG", exif=b"Exif\0\0" + garbage(500)), Format.JPEG, size),
        *(Case(f"orientation-{n}.jpg", oriented(n), Format.JPEG, size) for n in range(1, 9)),
        *(Case(f"orientation-{n}.png", oriented(n, "PNG"), Format.PNG, size) for n in (3, 6)),
        *(Case(f"orientation-{n}.tif", oriented(n, "TIFF"), Format.TIFF, size) for n in (3, 6)),
        *(Case(f"orientation-{n}.webp", oriented(n, "WEBP"), Format.WEBP, size) for n in (3, 6)),
        *(Case(f"orientation-{n}.avif", oriented(n, "AVIF"), Format.AVIF, size) for n in (3, 6)),
        *(Case(f"orientation-{n}.heic", oriented(n, "HEIF"), Format.HEIC, size) for n in (3, 6)),
        Case("rgb.png", encode(small, "PNG"), Format.PNG, size),
        Case("alpha.png", encode(clear, "PNG"), Format.PNG, size),
        Case("grey-alpha.png", encode(clear.convert("LA"), "PNG"), Format.PNG, size),
        Case("palette.png", encode(small.quantize(16), "PNG"), Format.PNG, size),
        Case("palette-clear.png", encode(small.quantize(16), "PNG", transparency=0), Format.PNG, size),
        Case("bits.png", encode(small.convert("1"), "PNG"), Format.PNG, size),
        Case("grey16.png", encode(grey16, "PNG"), Format.PNG, size),
        Case("animated.png", encode(small, "PNG", **animated), Format.PNG, size),
        Case("still.gif", encode(small, "GIF"), Format.GIF, size),
        Case("animated.gif", encode(small, "GIF", **animated), Format.GIF, size),
        Case("still.webp", encode(small, "WEBP"), Format.WEBP, size),
        Case("alpha.webp", encode(clear, "WEBP"), Format.WEBP, size),
        Case("animated.webp", encode(small, "WEBP", **animated), Format.WEBP, size),
        Case("phone.heic", encode(small, "HEIF"), Format.HEIC, size),
        Case("still.avif", encode(small, "AVIF"), Format.AVIF, size),
        Case("windows.bmp", encode(small, "BMP"), Format.BMP, size),
        Case("scan.tif", encode(small, "TIFF"), Format.TIFF, size),
        Case("pages.tiff", encode(small, "TIFF", save_all=True, append_images=frames[1:]), Format.TIFF, size),
        Case("packed.tif", encode(small, "TIFF", compression="tiff_lzw"), Format.TIFF, size),
        Case("grey16.tif", encode(grey16, "TIFF"), Format.TIFF, size),
        Case("float.tif", encode(Image.fromarray(np.asarray(grey16, dtype=np.float32)), "TIFF"), Format.TIFF, size),
        Case("cmyk.tif", encode(cmyk, "TIFF"), Format.TIFF, size),
        Case("lab.tif", encode(_lab(small), "TIFF"), Format.TIFF, size),
        Case("new.jxl", jpeg_xl(small), Format.JXL, size),
        Case("alpha.jxl", jpeg_xl(clear), Format.JXL, size),
        Case("repacked.jxl", jpeg_xl(oriented(6)), Format.JXL, size),
        Case("cinema.jp2", encode(small, "JPEG2000"), Format.JP2, size),
        Case("cinema.j2k", encode(small, "JPEG2000", no_jp2=True), Format.JP2, size),
        Case("layers.psd", psd(small), Format.PSD, size),
        Case("inks.psd", psd(cmyk), Format.PSD, size),
        Case("layers16.psd", psd(small, depth=16), Format.PSD, size),
        Case("layers16-packed.psd", psd(small, depth=16, packed=True), Format.PSD, size),
        Case("pair.mpo", encode(small, "MPO", save_all=True, append_images=[photo(64, 48)]), Format.JPEG, size),
        Case(
            "motion.jpg", jpeg() + struct.pack(">I4s4sI", 16, b"ftyp", b"mp42", 0) + garbage(), Format.JPEG, (640, 480)
        ),
        Case("ultra-hdr.jpg", ultra_hdr(small), Format.JPEG, size),
        Case("planes16.tif", tiff(np.asarray(small) * np.uint16(257), planarconfig="separate"), Format.TIFF, size),
        Case("camera.dng", dng(), Format.RAW, size),
        Case("camera-rotated.dng", dng(orientation=6), Format.RAW, (240, 320)),
        Case("png-named.jpg", encode(small, "PNG"), Format.PNG, size),
        Case("jpeg-named.png", jpeg(), Format.JPEG, (640, 480)),
        Case("jpeg-named.heic", jpeg(), Format.JPEG, (640, 480)),
        Case("one-pixel.png", encode(Image.new("RGB", (1, 1), RED), "PNG"), Format.PNG, (1, 1)),
        Case("one-pixel.gif", encode(Image.new("RGB", (1, 1), RED), "GIF"), Format.GIF, (1, 1)),
        Case("wide.png", encode(photo(20_000, 3), "PNG"), Format.PNG, (20_000, 3)),
        Case("tall.jpg", jpeg(2, 30_000), Format.JPEG, (2, 30_000)),
        Case("trailing.jpg", jpeg() + garbage(), Format.JPEG, (640, 480)),
        Case("cut.jpg", cut[: len(cut) // 2], Format.JPEG, (640, 480), truncated=True),
        Case(
            "cut-progressive.jpg", cut_progressive[: len(cut_progressive) // 3], Format.JPEG, (640, 480), truncated=True
        ),
        Case("cut.png", big_png[: len(big_png) // 2], Format.PNG, (640, 480), truncated=True),
    )


def _lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")


@cache
def refused() -> tuple[Case, ...]:
    """Return files that cannot become images."""
    plain = jpeg()
    plain_png = encode(marked(), "PNG")
    webp = encode(marked(), "WEBP")
    heic = encode(marked(), "HEIF")
    video = struct.pack(">I", 24) + b"ftypisom" + bytes(4) + b"isommp42" + garbage(500)
    return (
        Case("empty.jpg", b"", reason=Reason.EMPTY),
        Case("text.jpg", b"Dear diary,\nno photo today.\n", reason=Reason.NOT_AN_IMAGE),
        Case("umlaut.jpg", "Kein Bild, nur Wörter. ".encode() * 5_000, reason=Reason.NOT_AN_IMAGE),
        Case("page.png", b"<!DOCTYPE html><html><body>404</body></html>", reason=Reason.NOT_AN_IMAGE),
        Case("document.jpg", b"%PDF-1.7\n" + garbage(100), reason=Reason.NOT_AN_IMAGE),
        Case("archive.jpg", b"PK\x03\x04" + garbage(100), reason=Reason.NOT_AN_IMAGE),
        Case("movie.heic", video, reason=Reason.NOT_AN_IMAGE),
        Case("zeros.jpg", bytes(5_000), reason=Reason.NOT_AN_IMAGE),
        Case("noise.jpg", garbage(), reason=Reason.NOT_AN_IMAGE),
        Case(
            "drawing.png", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', reason=Reason.UNSUPPORTED
        ),
        Case("deep.psd", psd(marked(), depth=32), reason=Reason.UNSUPPORTED),
        Case("large.psd", b"8BPS\0\x02" + garbage(100), reason=Reason.UNSUPPORTED),
        Case("garbage.psd", psd(marked())[:26] + garbage(100), reason=Reason.CORRUPT),
        Case("garbage.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + garbage(100), reason=Reason.CORRUPT),
        Case("garbage.jp2", encode(marked(), "JPEG2000")[:90] + garbage(), reason=Reason.CORRUPT),
        Case("cut.jxl", jpeg_xl(photo())[:20_000], reason=Reason.CORRUPT),
        Case("bomb.jxl", JPEG_XL_BOMB, reason=Reason.TOO_LARGE),
        Case("no-preview.dng", dng(preview=False), reason=Reason.UNSUPPORTED),
        Case("header.jpg", jpeg_header(plain), reason=Reason.CORRUPT),
        Case("half-header.jpg", plain[:100], reason=Reason.CORRUPT),
        Case("signature.jpg", plain[:3], reason=Reason.CORRUPT),
        Case("header.png", plain_png[:50], reason=Reason.CORRUPT),
        Case("signature.png", plain_png[:8], reason=Reason.CORRUPT),
        Case("garbage.png", plain_png[:33] + garbage(), reason=Reason.CORRUPT),
        Case("garbage.gif", encode(marked(), "GIF")[:13] + garbage(200), reason=Reason.CORRUPT),
        Case("garbage.tif", b"II*\0\x08\0\0\0" + garbage(), reason=Reason.CORRUPT),
        Case("garbage.bmp", encode(marked(), "BMP")[:18] + garbage(200), reason=Reason.CORRUPT),
        Case("garbage.webp", webp[:30] + garbage(), reason=Reason.CORRUPT),
        Case("garbage.heic", heic[:32] + garbage(), reason=Reason.CORRUPT),
        Case("garbage.cr2", b"II*\0\x10\0\0\0CR\x02\0" + garbage(), reason=Reason.CORRUPT),
        Case("bomb.png", png_bomb(), reason=Reason.TOO_LARGE),
        Case("bomb.bmp", _declaring(encode(marked(), "BMP"), 18, "<ii", 60_000, 60_000), reason=Reason.TOO_LARGE),
        Case("bomb.jpg", _large_jpeg(), reason=Reason.TOO_LARGE),
    )


def _declaring(data: bytes, offset: int, layout: str, *numbers: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(layout, changed, offset, *numbers)
    return bytes(changed)


def _large_jpeg() -> bytes:
    data = jpeg(64, 64)
    return _declaring(data, data.index(b"\xff\xc0") + 5, ">HH", 65_000, 65_000)

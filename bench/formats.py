"""Compare thumbnails with Chromium's rendering, for hundreds of generated files.

    python -m bench.formats [--all]

Chromium draws every file; files in formats that it does not show are compared with the picture that
they were made from. Both are reduced to a grid, and a file differs where a cell does by more than TOLERANCE, or where
one side shows it and the other does not. ``docs/formats.md`` explains the differences.
"""

import argparse
import base64
import io
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import sync_playwright

from shared.errors import ImageRefused
from shared.images import examine
from tests.helpers.corpus import (
    adobe_rgb,
    cmyk_profile,
    display_p3,
    exif_bytes,
    gamma_profile,
    garbage,
    jpeg_xl,
    marked,
    oriented,
    png,
    png_chunk,
    psd,
    shown,
    tiff,
)
from tests.helpers.pictures import encode, noise

TOLERANCE = 8  # of 255
_GRID = (12, 8)
_SIZE = (96, 64)
_CHROMIUM_SHOWS = ("png", "jpeg", "gif", "webp", "avif", "bmp", "jxl")
_DRAW = """async ([data, type]) => {
  const image = new Image();
  const loaded = new Promise((resolve) => {
    image.onload = () => resolve(true);
    image.onerror = () => resolve(false);
  });
  image.src = `data:image/${type};base64,${data}`;
  if (!await loaded) return null;
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  return canvas.toDataURL('image/png').split(',')[1];
}"""

Grid = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """A file, and the picture it was made from where Chromium cannot show it."""

    name: str
    kind: str
    data: bytes
    reference: Image.Image | None = None


def samples() -> Iterator[Sample]:
    """Yield all files."""
    for kind, made in (
        ("png", (*_png_depths(), *_png_colours(), *_png_damage())),
        ("jpeg", _jpegs()),
        ("gif", _simple("GIF")),
        ("webp", _simple("WEBP")),
        ("bmp", _bmps()),
        ("avif", _avifs()),
        ("jxl", _jxls()),
    ):
        for name, data in made:
            yield Sample(name, kind, data)
    yield from _references()


Named = Iterator[tuple[str, bytes]]


def _picture() -> Image.Image:
    return noise(3, _SIZE)


def _profiles() -> dict[str, bytes]:
    return {
        "P3": display_p3(),
        "Adobe RGB": adobe_rgb(),
        "linear": gamma_profile("sRGB linear", 1.0),
        "gamma 1.8": gamma_profile("sRGB 1.8", 1.8),
        "inks": cmyk_profile(),
        "broken": garbage(400),
    }


def _png_depths() -> Named:
    rgb = np.asarray(_picture()).astype(np.uint16)
    grey = np.asarray(_picture().convert("L")).astype(np.uint16)
    alpha = np.linspace(0, 255, _SIZE[0], dtype=np.uint16)[None].repeat(_SIZE[1], axis=0)
    for depth in (1, 2, 4, 8, 16):
        values = grey * 257 >> (16 - depth)
        yield f"grey {depth}", png(values, depth)
        for key in sorted({0, 1, 2**depth // 3, 2**depth - 1, int(values[0, 0])}):
            yield f"grey {depth} transparent {key}", png(values, depth, png_chunk(b"tRNS", struct.pack(">H", key)))
        if depth <= 8:
            palette = np.random.default_rng(depth).integers(0, 256, 3 * 2**depth, dtype=np.uint8).tobytes()
            chunks = png_chunk(b"PLTE", palette), png_chunk(b"tRNS", bytes(range(0, 2**depth, 2)))
            yield f"palette {depth}", png(values, depth, chunks[0], colour_type=3)
            yield f"palette {depth} transparent", png(values, depth, *chunks, colour_type=3)
            yield (
                f"palette {depth} short",
                png(values, depth, png_chunk(b"PLTE", palette[: 3 << depth // 2]), colour_type=3),
            )
    for depth, scale in ((8, 1), (16, 257)):
        wide = rgb * scale + (scale > 1) * np.arange(_SIZE[0], dtype=np.uint16)[None, :, None] % 7
        yield f"RGB {depth}", png(wide, depth)
        for x in (0, 40, 90):
            key = png_chunk(b"tRNS", struct.pack(">HHH", *map(int, wide[30, x])))
            yield f"RGB {depth} transparent {x}", png(wide, depth, key)
        yield f"RGBA {depth}", png(np.dstack([wide, alpha * scale]), depth)
        yield f"grey alpha {depth}", png(np.dstack([grey * scale, alpha * scale]), depth)


def _png_colours() -> Named:
    pixels = np.asarray(_picture())
    gammas = {g: png_chunk(b"gAMA", struct.pack(">I", g)) for g in (0, 1, 30_000, 45_455, 55_556, 100_000, 200_000)}
    points = {
        "P3": (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
        "D50": (34567, 35850, 64000, 33000, 30000, 60000, 15000, 6000),
        "zero": (0,) * 8,
    }
    chrm = {name: png_chunk(b"cHRM", struct.pack(">8I", *values)) for name, values in points.items()}
    srgb = png_chunk(b"sRGB", b"\0")
    icc = {name: png_chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(data)) for name, data in _profiles().items()}
    for value, chunk in gammas.items():
        yield f"gAMA {value}", png(pixels, 8, chunk)
        yield f"gAMA {value} sRGB", png(pixels, 8, chunk, srgb)
        yield f"gAMA {value} grey", png(pixels[..., 0], 8, chunk)
        for name, more in chrm.items():
            yield f"gAMA {value} cHRM {name}", png(pixels, 8, chunk, more)
    for name, chunk in icc.items():
        yield f"iCCP {name}", png(pixels, 8, chunk)
        yield f"iCCP {name} grey", png(pixels[..., 0], 8, chunk)
        yield f"iCCP {name} gAMA", png(pixels, 8, chunk, gammas[100_000])
        yield f"iCCP {name} cICP", png(pixels, 8, png_chunk(b"cICP", bytes([12, 13, 0, 1])), chunk)
    for primaries, transfer in product((1, 2, 5, 6, 9, 11, 12), (1, 2, 4, 8, 13, 16, 18)):
        yield f"cICP {primaries} {transfer}", png(pixels, 8, png_chunk(b"cICP", bytes([primaries, transfer, 0, 1])))


def _png_damage() -> Named:
    pixels = np.asarray(_picture())
    chunks = {
        "gAMA": struct.pack(">I", 100_000), "cHRM": bytes(32), "sRGB": b"\0", "pHYs": bytes(9), "tEXt": b"a\0b",
        "zTXt": b"a\0\0" + zlib.compress(bytes(2 << 20)), "iTXt": b"a\0\1\0\0\0" + zlib.compress(bytes(2 << 20)),
        "eXIf": garbage(50), "tIME": bytes(7), "bKGD": bytes(6), "sBIT": b"\x08\x08\x08", "hIST": bytes(4),
        "iCCP": b"a\0\0" + zlib.compress(gamma_profile("a", 1.0)), "tRNS": bytes(6), "acTL": bytes(8), "abCd": b"x",
        "cICP": bytes([12, 13, 0, 1]), "sPLT": b"a\0\x08" + bytes(6),
    }  # fmt: skip
    for name, value in chunks.items():
        chunk = png_chunk(name.encode(), value)
        yield f"{name}", png(pixels, 8, chunk)
        yield f"{name} checksum", png(pixels, 8, chunk[:-4] + bytes(4))
        yield f"{name} short", png(pixels, 8, png_chunk(name.encode(), value[:1]))
        yield f"{name} empty", png(pixels, 8, png_chunk(name.encode(), b""))
        yield f"{name} twice", png(pixels, 8, chunk, chunk)
        yield f"{name} after", png(pixels, after=chunk)
        yield f"{name} after checksum", png(pixels, after=chunk[:-4] + bytes(4))
    yield from _damaged(png(pixels))
    whole = png(pixels)
    yield "IHDR checksum", whole[:29] + bytes(4) + whole[33:]
    yield "IDAT checksum", whole[:-16] + bytes(4) + whole[-12:]
    yield "Adler checksum", png(pixels)[:-20] + bytes(4) + whole[-16:]


def _damaged(data: bytes) -> Named:
    """Yield *data* cut, with garbage at its end, and with flipped bytes."""
    for part in (30, 50, 70, 90, 99):
        yield f"cut to {part} %", data[: len(data) * part // 100]
    yield "without its last byte", data[:-1]
    yield "garbage after the end", data + garbage(1000)
    yield "another picture after the end", data + data
    for part in (55, 75, 95):
        place = len(data) * part // 100
        yield f"flipped byte at {part} %", data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


def _jpegs() -> Named:
    image = _picture()
    for mode, quality in product(("RGB", "L", "CMYK"), (40, 95)):
        yield f"{mode} quality {quality}", encode(image.convert(mode), quality=quality)
    for subsampling, progressive in product((0, 1, 2), (False, True)):
        yield f"{subsampling=} {progressive=}", encode(image, subsampling=subsampling, progressive=progressive)
    for name, profile in _profiles().items():
        yield f"profile {name}", encode(image, quality=95, icc_profile=profile)
        yield f"grey profile {name}", encode(image.convert("L"), quality=95, icc_profile=profile)
    yield "CMYK profile inks", encode(image.convert("CMYK"), quality=95, icc_profile=cmyk_profile())
    for orientation in range(1, 9):
        yield f"orientation {orientation}", oriented(orientation)
    for space, index in ((1, "R98"), (2, "R03"), (0xFFFF, "R03"), (0xFFFF, "R98")):
        exif = exif_bytes({}, exif={0xA001: space, 0xA005: {1: index}})
        yield f"EXIF ColorSpace {space} {index}", encode(image, quality=95, exif=exif)
    yield "EXIF garbage", encode(image, quality=95, exif=b"Exif\0\0" + garbage(500))
    yield "multi-picture", encode(image, "MPO", save_all=True, append_images=[marked(*_SIZE)])
    yield "motion photo", encode(image, quality=95) + struct.pack(">I4s4sI", 16, b"ftyp", b"mp42", 0) + garbage(5000)
    yield from _damaged(encode(image, quality=90))
    for name, data in _damaged(encode(image, quality=90, progressive=True)):
        yield f"progressive {name}", data


def _simple(kind: str) -> Named:
    image = _picture()
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(_SIZE))
    yield "plain", encode(image, kind)
    yield "transparent", encode(clear, kind)
    yield "grey", encode(image.convert("L"), kind)
    yield "animated", encode(image, kind, save_all=True, append_images=[marked(*_SIZE)], duration=10_000)
    if kind == "WEBP":
        yield "lossless", encode(image, kind, lossless=True)
        for name, profile in _profiles().items():
            yield f"profile {name}", encode(image, kind, icc_profile=profile)
        for name, data in _damaged(encode(image, kind, lossless=True)):
            yield f"lossless {name}", data
    yield from _damaged(encode(image, kind))


def _bmps() -> Named:
    image = _picture()
    for mode in ("1", "L", "RGB"):
        yield mode, encode(image.convert(mode), "BMP")
    yield "palette", encode(image.quantize(200), "BMP")
    yield "RGBA", encode(image.convert("RGBA"), "BMP")
    yield from _damaged(encode(image, "BMP"))


def _avifs() -> Named:
    image = _picture()
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(_SIZE))
    plain = encode(image, "AVIF", quality=90)
    yield "plain", plain
    yield "transparent", encode(clear, "AVIF", quality=90)
    yield "4:4:4", encode(image, "AVIF", quality=90, subsampling="4:4:4")
    for name, profile in _profiles().items():
        yield f"profile {name}", encode(image, "AVIF", quality=90, icc_profile=profile)
    place = plain.index(b"colrnclx") + 8
    for points in product((1, 9, 12), (1, 8, 13, 16, 18)):
        yield f"nclx {points[0]} {points[1]}", plain[:place] + struct.pack(">HH", *points) + plain[place + 4 :]
    yield from _damaged(plain)


def _jxls() -> Named:
    image = _picture()
    clear = image.copy()
    clear.putalpha(Image.linear_gradient("L").resize(_SIZE))
    yield "RGB", jpeg_xl(image)
    yield "grey", jpeg_xl(image.convert("L"))
    yield "transparent", jpeg_xl(clear)
    yield "repacked JPEG", jpeg_xl(encode(image, quality=90))
    yield "repacked JPEG with P3", jpeg_xl(encode(image, quality=90, icc_profile=display_p3()))
    yield "repacked rotated JPEG", jpeg_xl(oriented(6))
    yield from _damaged(jpeg_xl(image))


def _references() -> Iterator[Sample]:
    """Yield files in formats that Chromium does not show."""
    image = _picture()
    rgb, grey = np.asarray(image), image.convert("L")
    types = {
        "8": (rgb, np.asarray(grey)), "16": (rgb * np.uint16(257), np.asarray(grey) * np.uint16(257)),
        "float": (rgb / np.float32(255), np.asarray(grey) / np.float32(255)),
        "double": (rgb / np.float64(255), np.asarray(grey) / np.float64(255)),
        "half": ((rgb / np.float32(255)).astype(np.float16), (np.asarray(grey) / np.float32(255)).astype(np.float16)),
    }  # fmt: skip
    for (name, (colour, shade)), compression in product(types.items(), (None, "lzw", "zlib", "zstd")):
        for planes in ("contig", "separate"):
            data = tiff(colour, planarconfig=planes, compression=compression)
            yield Sample(f"RGB {name} {planes} {compression}", "tiff", data, image)
        yield Sample(f"grey {name} {compression}", "tiff", tiff(shade, compression=compression), grey)
        if name in ("8", "16"):
            inverted = np.iinfo(shade.dtype).max - shade
            data = tiff(inverted, photometric="miniswhite", compression=compression)
            yield Sample(f"white is zero {name} {compression}", "tiff", data, grey)
    inks = np.asarray(image.convert("CMYK"))
    for name, values in (("8", inks), ("16", inks * np.uint16(257))):
        yield Sample(f"CMYK {name}", "tiff", tiff(values, photometric="separated"), image)
    yield Sample("palette", "tiff", encode(image.quantize(256), "TIFF"), image.quantize(256))
    for compression in ("jpeg", "tiff_lzw", "packbits", "tiff_adobe_deflate"):
        yield Sample(f"Pillow {compression}", "tiff", encode(image, "TIFF", compression=compression), image)
    yield Sample("bilevel", "tiff", encode(image.convert("1"), "TIFF", compression="group4"), image.convert("1"))
    yield Sample(
        "small first page", "tiff", encode(image.resize((12, 8)), "TIFF", save_all=True, append_images=[image]), image
    )
    for kind, name in (("JPEG2000", "jp2"), ("HEIF", "heic")):
        yield Sample("plain", name, encode(image, kind), image)
        yield Sample("grey", name, encode(grey, kind), grey)
        yield from (Sample(n, name, data, image) for n, data in _damaged(encode(image, kind)) if "flipped" not in n)
    yield Sample("RGB", "psd", psd(image), image)
    yield Sample("RGB 16", "psd", psd(image, depth=16, packed=True), image)
    yield Sample("CMYK", "psd", psd(image.convert("CMYK")), image)
    yield from (Sample(n, "psd", data, image) for n, data in _damaged(psd(image)) if "flipped" not in n)


def _grid(image: Image.Image) -> Grid:
    return np.asarray(image.resize(_GRID, Image.Resampling.BOX)).astype(float)


def _on_white(image: Image.Image) -> Image.Image:
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    return flat


def drawn(files: list[Sample]) -> list[Image.Image | None]:
    """Return what Chromium draws for each file, None where it shows nothing."""
    pictures: list[Image.Image | None] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--force-color-profile=srgb"]
        )
        page = browser.new_page()
        for file in files:
            answer = page.evaluate(_DRAW, [base64.b64encode(file.data).decode(), file.kind])
            pictures.append(Image.open(io.BytesIO(base64.b64decode(answer))) if answer else None)
        browser.close()
    return pictures


def difference(data: bytes, theirs: Image.Image | None) -> str | None:
    """Return in words how our rendering of a file differs from *theirs*, or None."""
    try:
        ours, truncated = shown(data), examine(data, derivatives=False).truncated
    except ImageRefused:
        return None if theirs is None else "refused"
    if theirs is None:
        return "refused by Chromium"
    if truncated and theirs.mode != "RGBA":
        return None  # a part is shown, and Chromium cannot say which
    if ours.size != theirs.size:
        return f"{ours.size} is {theirs.size} in Chromium"
    cells = np.abs(_grid(ours) - _grid(_on_white(theirs))).max(axis=-1)
    if truncated and theirs.mode == "RGBA":  # compare the part that Chromium drew
        cells[_grid(theirs)[..., 3] < 255] = 0
    return f"colours differ by {cells.max():.0f}" if cells.max() > TOLERANCE else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="list the files that agree, too")
    show_all = parser.parse_args().all
    files = list(samples())
    browser = [file for file in files if file.kind in _CHROMIUM_SHOWS]
    theirs = dict(zip([id(file) for file in browser], drawn(browser), strict=True))
    totals: Counter[str] = Counter()
    differing: Counter[str] = Counter()
    for file in files:
        found = difference(file.data, theirs.get(id(file), file.reference))
        totals[file.kind] += 1
        differing[file.kind] += found is not None
        if found or show_all:
            print(f"{file.kind:5} {file.name:40} {found or 'equal'}")
    for kind, count in totals.items():
        print(f"{kind:5} {count:4} files, {differing[kind]} differ")
    print(f"all   {totals.total():4} files, {differing.total()} differ")


if __name__ == "__main__":
    main()

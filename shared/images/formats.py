"""Supported image formats, detected by the first bytes of a file and never by its name."""

import codecs
import struct
from enum import StrEnum

from shared.errors import ImageRefused, Reason


class Format(StrEnum):
    """A supported format."""

    JPEG = "jpeg"
    PNG = "png"
    GIF = "gif"
    WEBP = "webp"
    HEIC = "heic"
    AVIF = "avif"
    TIFF = "tiff"
    BMP = "bmp"
    JXL = "jxl"
    JP2 = "jp2"
    PSD = "psd"
    RAW = "raw"

    @property
    def content_type(self) -> str:
        """The media type for HTTP responses."""
        return f"image/{_MEDIA_SUBTYPES.get(self, self.value)}"


_MEDIA_SUBTYPES = {Format.RAW: "x-raw", Format.PSD: "vnd.adobe.photoshop"}

# Syncs consider only files with these extensions (in lower case), and then the content.
EXTENSIONS = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".gif",
        ".webp",
        ".heic",
        ".heif",
        ".hif",
        ".avif",
        ".tif",
        ".tiff",
    }
    | {".bmp", ".dib", ".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc", ".psd"}
    # Raw files of cameras.
    | {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw"}
    | {".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)

# `sniff` uses at most this many bytes.
SNIFF_BYTES = 64 << 10

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

_SIGNATURES = (
    (b"\xff\xd8\xff", Format.JPEG),
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"GIF87a", Format.GIF),
    (b"GIF89a", Format.GIF),
    (b"8BPS\0\x01", Format.PSD),
    (b"\0\0\0\x0cjP  \r\n", Format.JP2),
    (b"\xff\x4f\xff\x51", Format.JP2),
    (b"\0\0\0\x0cJXL \r\n", Format.JXL),
    (b"\xff\x0a", Format.JXL),
    (b"FUJIFILMCCD-RAW", Format.RAW),
    (b"IIU\0", Format.RAW),  # Panasonic RW2
    (b"IIRO", Format.RAW),  # Olympus ORF
    (b"IIRS", Format.RAW),
    (b"MMOR", Format.RAW),
    (b"FOVb", Format.RAW),  # Sigma X3F
    (b"\0MRM", Format.RAW),  # Minolta
    (b"II\x1a\0\0\0HEAPCCDR", Format.RAW),  # Canon CRW
)
_BMP_HEADER_SIZES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

# Only named in the refusal.
_UNSUPPORTED = (
    (b"8BPS", "a large Photoshop document (PSB)"),
    (b"\0\0\x01\0", "a Windows icon"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"qoif", "a QOI image"),
    (b"DDS ", "a DirectDraw texture"),
    (b"gimp xcf", "a GIMP document"),
)
_NOT_IMAGES = (
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"ID3", "a sound file"),
    (b"OggS", "a sound or video file"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"\0\x05\x16\x07", "a macOS companion file (AppleDouble)"),
)


def sniff(head: bytes) -> Format:
    """Return the format of a file from *head*, its first SNIFF_BYTES bytes.

    Raises ImageRefused: EMPTY, UNSUPPORTED for images in other formats, or NOT_AN_IMAGE; the detail names the kind of
    file if it is known.
    """
    if not head:
        raise ImageRefused(Reason.EMPTY, "the file is empty")
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Format.WEBP
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return Format.RAW if _is_raw_tiff(head) else Format.TIFF
    if head[4:8] == b"ftyp":
        return _sniff_ftyp(head)
    # Two letters are a weak signature, so check the size of the header as well.
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return Format.BMP
    raise _refusal(head)


def _sniff_ftyp(head: bytes) -> Format:
    """Distinguish ISO base media files: HEIC, AVIF, Canon CR3 or a video."""
    size = min(int.from_bytes(head[:4], "big"), len(head), 256)
    major = head[8:12]
    brands = {major, *(head[i : i + 4] for i in range(16, size - 3, 4))}
    if major == b"crx ":
        return Format.RAW
    # The major brand of an AVIF may be mif1, with avif among the compatible brands.
    if brands & _AVIF_BRANDS and major not in _HEIF_BRANDS - {b"mif1", b"msf1"}:
        return Format.AVIF
    if brands & _HEIF_BRANDS:
        return Format.HEIC
    raise ImageRefused(Reason.NOT_AN_IMAGE, "this is a video")


# TIFF tags that distinguish raw files from pictures.
_SUBFILE_TYPE = 254
_COMPRESSION = 259
_PHOTOMETRIC = 262
_SUB_IFDS = 330
_DNG_VERSION = 50706

_RAW_COMPRESSIONS = frozenset({32767, 32769, 32770, 34713, 65000, 65535})  # Sony, Epson, Samsung, Nikon, Kodak, Pentax
_RAW_PHOTOMETRICS = frozenset({32803, 34892})  # colour filter array, linear raw


def _is_raw_tiff(head: bytes) -> bool:
    """Return whether a TIFF is a raw file. Most raw formats are TIFFs, and many begin with a small picture."""
    if head[8:10] == b"CR":  # Canon CR2
        return True
    tags = _first_directory(head)
    return (
        _DNG_VERSION in tags
        or tags.get(_COMPRESSION) in _RAW_COMPRESSIONS
        or tags.get(_PHOTOMETRIC) in _RAW_PHOTOMETRICS
        or (_SUB_IFDS in tags and bool(tags.get(_SUBFILE_TYPE, 0) & 1))
    )


def _first_directory(head: bytes) -> dict[int, int]:
    """Return tag -> first inline value of the first directory of a classic TIFF, as far as *head* reaches."""
    order = "<" if head.startswith(b"II") else ">"
    try:
        (offset,) = struct.unpack_from(order + "I", head, 4)
        (count,) = struct.unpack_from(order + "H", head, offset)
        tags = {}
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", head, entry)
            (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), head, entry + 8)
    except struct.error:  # the directory lies further back, as in most TIFFs that are written in one pass
        return {}
    return tags


def _refusal(head: bytes) -> ImageRefused:
    for signature, kind in _UNSUPPORTED:
        if head.startswith(signature):
            return ImageRefused(Reason.UNSUPPORTED, f"this is {kind}, which is not supported")
    for signature, kind in _NOT_IMAGES:
        if head.startswith(signature):
            return ImageRefused(Reason.NOT_AN_IMAGE, f"this is {kind}")
    if not head.strip(b"\0"):
        return ImageRefused(Reason.NOT_AN_IMAGE, "the file contains only zeros")
    if (text := _as_text(head)) is not None:
        if "<svg" in text[:4096].lower():
            return ImageRefused(Reason.UNSUPPORTED, "this is an SVG drawing, which is not supported")
        if text.lstrip()[:15].lower().startswith(("<!doctype html", "<html")):
            return ImageRefused(Reason.NOT_AN_IMAGE, "this is a web page")
        return ImageRefused(Reason.NOT_AN_IMAGE, "this is a text file")
    return ImageRefused(Reason.NOT_AN_IMAGE, f"no image begins with the bytes {head[:8].hex(' ')}")


def _as_text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", errors="ignore")
    if b"\0" in head:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return None

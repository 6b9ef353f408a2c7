import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.embedders.examination import examine_for_offline
from shared.errors import ImageRefused, Reason
from shared.images import Format, examine, glance
from shared.images.decode import read_header
from shared.images.decode_memory import default_limit, estimate, machine_memory, worker_count
from shared.images.worker_pool import DecoderPool
from tests.helpers import corpus
from tests.helpers import worker_tasks as tasks
from tests.helpers.pictures import encode
from tests.helpers.worker_tasks import TEST_TASKS

GB = 1 << 30
SIZE = (2800, 2100)
ROTATED = Image.Exif()
ROTATED[0x0112] = 6


def grey() -> Image.Image:
    return Image.linear_gradient("L").resize(SIZE)


def rgb() -> Image.Image:
    return Image.merge("RGB", (grey(), grey().transpose(Image.Transpose.ROTATE_180), grey()))


def rgba() -> Image.Image:
    image = rgb()
    image.putalpha(grey())
    return image


def samples(image: Image.Image, dtype: type[np.number[Any]]) -> Any:
    """Return the values of *image* in another type, with floats beyond 1."""
    return (np.asarray(image) * dtype(257)).astype(dtype)


CASES: dict[str, tuple[Format, Callable[[], bytes]]] = {
    "JPEG": (Format.JPEG, lambda: encode(rgb())),
    "rotated JPEG": (Format.JPEG, lambda: encode(rgb(), exif=ROTATED)),
    "progressive JPEG": (Format.JPEG, lambda: encode(rgb(), progressive=True, exif=ROTATED)),
    "JPEG in CMYK": (Format.JPEG, lambda: encode(rgb().convert("CMYK"), exif=ROTATED)),
    "rotated PNG": (Format.PNG, lambda: encode(rgb(), "PNG", compress_level=1, exif=ROTATED)),
    "grey PNG": (Format.PNG, lambda: encode(grey(), "PNG", exif=ROTATED)),
    "grey PNG of 16 bits": (Format.PNG, lambda: encode(grey().convert("I;16"), "PNG")),
    "transparent PNG": (Format.PNG, lambda: encode(rgba(), "PNG", compress_level=1, exif=ROTATED)),
    "PNG with a transparent colour": (
        Format.PNG,
        lambda: encode(rgb(), "PNG", compress_level=1, transparency=(1, 2, 3)),
    ),
    "PNG with a transparent entry": (Format.PNG, lambda: encode(grey().convert("P"), "PNG", transparency=0)),
    "bitmap": (Format.PNG, lambda: encode(grey().convert("1"), "PNG", exif=ROTATED)),
    "BMP": (Format.BMP, lambda: encode(rgb(), "BMP")),
    "TIFF": (Format.TIFF, lambda: encode(rgb(), "TIFF", compression="tiff_lzw")),
    "TIFF in CMYK": (Format.TIFF, lambda: encode(rgb().convert("CMYK"), "TIFF")),
    "TIFF of 16 bits": (Format.TIFF, lambda: corpus.tiff(samples(rgb(), np.uint16))),
    "transparent TIFF of 16 bits": (Format.TIFF, lambda: corpus.tiff(samples(rgba(), np.uint16), extrasamples=[1])),
    "TIFF of floats": (Format.TIFF, lambda: corpus.tiff(samples(grey(), np.float32))),
    "TIFF of coloured floats": (Format.TIFF, lambda: corpus.tiff(samples(rgb(), np.float32))),
    "WebP": (Format.WEBP, lambda: encode(rgb(), "WEBP", method=0, exif=ROTATED)),
    "transparent WebP": (Format.WEBP, lambda: encode(rgba(), "WEBP", method=0)),
    "HEIC": (Format.HEIC, lambda: encode(rgb(), "HEIF")),
    "AVIF": (Format.AVIF, lambda: encode(rgb(), "AVIF", speed=10, exif=ROTATED)),
    "transparent AVIF": (Format.AVIF, lambda: encode(rgba(), "AVIF", speed=10)),
    "JPEG XL": (Format.JXL, lambda: corpus.jpeg_xl(rgb(), effort=1)),
    "transparent JPEG XL": (Format.JXL, lambda: corpus.jpeg_xl(rgba(), effort=1)),
    "JPEG XL of floats": (Format.JXL, lambda: corpus.jpeg_xl(samples(rgb(), np.float32), effort=1)),
    "JPEG 2000": (Format.JP2, lambda: encode(rgb(), "JPEG2000", quality_layers=[20])),
    "transparent JPEG 2000": (Format.JP2, lambda: encode(rgba(), "JPEG2000", quality_layers=[20])),
    "Photoshop document": (Format.PSD, lambda: corpus.psd(rgb())),
    "Photoshop document in CMYK": (Format.PSD, lambda: corpus.psd(rgb().convert("CMYK"))),
    "Photoshop document of 16 bits": (Format.PSD, lambda: corpus.psd(rgb(), depth=16, packed=True)),
}


def kilobytes(status: Path, name: str) -> int:
    """Return a field of /proc/PID/status: VmRSS, the memory now, or VmHWM, its peak."""
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{name}:"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_the_estimate_is_between_the_peak_and_about_twice_as_much(
    case: tuple[Format, Callable[[], bytes]], tmp_path: Path
) -> None:
    kind, make = case
    file = tmp_path / "image"
    file.write_bytes(make())
    decoder = DecoderPool(1, memory_limit=GB, tasks=TEST_TASKS)
    status = Path(f"/proc/{await decoder.run(tasks.pid)}/status")
    before = kilobytes(status, "VmRSS")
    await decoder.run(examine_for_offline, file, derivatives=True)
    peak = 1024 * (kilobytes(status, "VmHWM") - before)
    await decoder.close()
    with file.open("rb") as opened:
        assert peak <= estimate(kind, read_header(kind, opened)) <= 2 * peak


async def test_an_image_that_needs_more_than_the_limit_is_refused_and_a_jpeg_is_reduced() -> None:
    decoder = DecoderPool(1, memory_limit=60_000_000)
    with pytest.raises(
        ImageRefused, match=r"2,800 x 2,100 pixels needs about \d+ MB of memory; the limit is 60 MB"
    ) as no:
        await decoder.run(examine, encode(rgb(), "PNG", compress_level=1))
    assert (no.value.reason, no.value.final) == (Reason.TOO_LARGE, True)
    photo = encode(rgb().resize((4000, 3000)))
    assert await decoder.run(examine, photo) == examine(photo)
    await decoder.close()


async def test_a_model_sees_a_jpeg_at_the_scale_that_fits() -> None:
    from shared.embedders.offline.pixels import read_pixels

    photo = encode(rgb(), "JPEG")
    decoder = DecoderPool(1, memory_limit=64_000_000)
    reduced, exact = await decoder.run(read_pixels, photo), read_pixels(photo)
    await decoder.close()
    assert reduced.shape == exact.shape
    assert abs(reduced.astype(int) - exact).max() <= 4


def test_a_query_picture_has_at_most_50_megapixels() -> None:
    with pytest.raises(ImageRefused, match="the limit is 50 million") as refused:
        glance(corpus.png_bomb(14_000, 14_000))
    assert refused.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("memory", "processors", "limit", "workers"),
    [(GB // 2, 1, GB // 8, 1), (GB // 2, 8, GB // 8, 2), (8 * GB, 8, 512_000_000, 8), (64 * GB, 4, 3_000_000_000, 4)],
)
def test_the_limit_and_the_workers_fit_the_machine(memory: int, processors: int, limit: int, workers: int) -> None:
    assert default_limit(memory, processors) == pytest.approx(limit, rel=0.1)
    assert worker_count(memory, processors, default_limit(memory, processors)) == workers


def test_the_decoders_of_several_processes_fit_half_the_memory() -> None:
    limit = default_limit(GB // 2, 8, processes=4)
    assert 4 * limit * worker_count(GB // 2 // 4, 8, limit) <= GB // 4


def test_the_memory_of_this_machine_is_known() -> None:
    assert 128 << 20 < machine_memory() < 1 << 50

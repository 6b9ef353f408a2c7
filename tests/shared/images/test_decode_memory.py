import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image

from shared.errors import ImageRefused, Reason
from shared.images import Format, examine, glance
from shared.images.decode_memory import default_limit, estimate, machine_memory, worker_count
from shared.images.worker_pool import DecoderPool
from tests.helpers import corpus
from tests.helpers import worker_tasks as tasks
from tests.helpers.pictures import encode
from tests.helpers.worker_tasks import TEST_TASKS

GB = 1 << 30
SIZE = (4000, 3000)
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


def floats() -> Image.Image:
    return grey().convert("F")


CASES: dict[str, tuple[Callable[[], Image.Image], Format, dict[str, Any]]] = {
    "JPEG": (rgb, Format.JPEG, {}),
    "rotated JPEG": (rgb, Format.JPEG, {"exif": ROTATED}),
    "progressive JPEG": (rgb, Format.JPEG, {"progressive": True, "exif": ROTATED}),
    "progressive JPEG 4:4:4": (rgb, Format.JPEG, {"progressive": True, "subsampling": 0}),
    "JPEG in CMYK": (lambda: rgb().convert("CMYK"), Format.JPEG, {}),
    "PNG": (rgb, Format.PNG, {"compress_level": 1}),
    "grey PNG": (grey, Format.PNG, {}),
    "grey PNG of 16 bits": (lambda: grey().convert("I;16"), Format.PNG, {}),
    "transparent PNG": (rgba, Format.PNG, {"compress_level": 1, "exif": ROTATED}),
    "transparent grey PNG": (lambda: rgba().convert("LA"), Format.PNG, {"compress_level": 1}),
    "PNG with a palette": (lambda: grey().convert("P"), Format.PNG, {}),
    "transparent PNG with a palette": (lambda: grey().convert("P"), Format.PNG, {"transparency": 0}),
    "bitmap": (lambda: grey().convert("1"), Format.PNG, {}),
    "GIF": (grey, Format.GIF, {}),
    "BMP": (rgb, Format.BMP, {}),
    "TIFF": (rgb, Format.TIFF, {"compression": "tiff_lzw"}),
    "TIFF of floats": (floats, Format.TIFF, {}),
    "TIFF in CMYK": (lambda: rgb().convert("CMYK"), Format.TIFF, {}),
    "WebP": (rgb, Format.WEBP, {"method": 0}),
    "transparent WebP": (rgba, Format.WEBP, {"method": 0}),
    "HEIC": (rgb, Format.HEIC, {}),
    "transparent HEIC": (rgba, Format.HEIC, {}),
    "AVIF": (rgb, Format.AVIF, {"speed": 10}),
    "transparent AVIF": (rgba, Format.AVIF, {"speed": 10}),
}


def kilobytes(status: Path, name: str) -> int:
    """Return a field of /proc/PID/status: VmRSS, the memory now, or VmHWM, its peak."""
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{name}:"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_the_estimate_is_between_the_peak_and_about_twice_as_much(
    case: tuple[Callable[[], Image.Image], Format, dict[str, Any]], tmp_path: Path
) -> None:
    make, kind, options = case
    file = tmp_path / "image"
    file.write_bytes(encode(make(), "HEIF" if kind is Format.HEIC else kind.name, **options))
    decoder = DecoderPool(1, memory_limit=GB, tasks=TEST_TASKS)
    status = Path(f"/proc/{await decoder.run(tasks.pid)}/status")
    before = kilobytes(status, "VmRSS")
    await decoder.run(examine, file)
    await decoder.run(tasks.decode, file)
    peak = 1024 * (kilobytes(status, "VmHWM") - before)
    await decoder.close()
    with pillow_heif.HeifImageFile(file) if kind is Format.HEIC else Image.open(file) as image:
        assert peak <= estimate(kind, image) <= 2.4 * peak


async def test_an_image_that_needs_more_than_the_limit_is_refused_and_a_jpeg_is_reduced() -> None:
    decoder = DecoderPool(1, memory_limit=60_000_000)
    with pytest.raises(
        ImageRefused, match=r"4,000 x 3,000 pixels needs about \d+ MB of memory; the limit is 60 MB"
    ) as no:
        await decoder.run(examine, encode(rgb(), "PNG", compress_level=1))
    assert (no.value.reason, no.value.final) == (Reason.TOO_LARGE, True)
    photo = encode(rgb(), "JPEG")
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


def test_the_memory_of_this_machine_is_known() -> None:
    assert 128 << 20 < machine_memory() < 1 << 50

import pytest
from PIL import Image

from shared.errors import ImageRefused, Reason
from shared.images import examine, glance
from shared.images.decode_memory import default_limit, machine_memory, worker_count
from shared.images.worker_pool import DecoderPool
from tests.helpers import corpus
from tests.helpers.pictures import encode

GB = 1 << 30
SIZE = (4000, 3000)


def grey() -> Image.Image:
    return Image.linear_gradient("L").resize(SIZE)


def rgb() -> Image.Image:
    return Image.merge("RGB", (grey(), grey().transpose(Image.Transpose.ROTATE_180), grey()))


async def test_an_image_that_needs_more_than_the_limit_is_refused_and_a_jpeg_is_reduced() -> None:
    decoder = DecoderPool(1, memory_limit=48_000_000)
    with pytest.raises(
        ImageRefused, match=r"4,000 x 3,000 pixels needs about \d+ MB of memory; the limit is 48 MB"
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

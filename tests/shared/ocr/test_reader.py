from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from shared.errors import ImageRefused
from shared.images.worker_pool import DecoderPool
from shared.ocr.reader import TextReader, weights
from tests.helpers.pictures import encode, lettering, noise


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader() -> AsyncIterator[TextReader]:
    folder = weights()
    assert folder is not None
    decoder = DecoderPool(1)
    opened = TextReader(folder, decoder, threads=1)
    yield opened
    await opened.close()
    await decoder.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def texts(reader: TextReader, image: Image.Image) -> list[str]:
    return [line.text for line in await reader.read(encode(image))]


async def test_lines_are_read_from_top_to_bottom(reader: TextReader) -> None:
    assert await texts(reader, lettering("Invoice 4711\nTotal 47,11 EUR")) == ["Invoice 4711", "Total 47,11 EUR"]


async def test_a_box_surrounds_its_line(reader: TextReader) -> None:
    (line,) = await reader.read(encode(lettering("EXIT", size=80)))
    left, top, right, top_right, *_ = line.box
    assert left * 800 == pytest.approx(60, abs=15)
    assert right * 800 == pytest.approx(260, abs=40)
    assert top == pytest.approx(top_right, abs=0.02)
    assert all(0 <= value <= 1 for value in line.box)


async def test_tilted_lines_are_read(reader: TextReader) -> None:
    assert await texts(reader, lettering("Invoice 4711", tilt=15)) == ["Invoice 4711"]


async def test_accents_and_japanese_are_read_across_and_down(reader: TextReader) -> None:
    assert await texts(reader, lettering("Größe für Käse", japanese=True)) == ["Größe für Käse"]
    assert await texts(reader, lettering("東京駅", japanese=True)) == ["東京駅"]
    assert await texts(reader, lettering("立\n入\n禁\n止", size=50, japanese=True)) == ["立入禁止"]


async def test_words_of_one_row_are_in_the_order_of_reading(reader: TextReader) -> None:
    image = lettering("Total")
    image.paste(lettering("47,11").crop((40, 40, 300, 130)), (540, 44))  # a little higher
    assert await texts(reader, image) == ["Total", "47,11"]


async def test_pictures_without_text_have_no_lines(reader: TextReader, photos: Path) -> None:
    assert await texts(reader, noise(1, (800, 600))) == []
    assert await texts(reader, Image.open(photos / "coins.png").convert("RGB")) == []
    assert await texts(reader, Image.new("RGB", (3, 2))) == []


async def test_a_damaged_file_is_refused(reader: TextReader) -> None:
    with pytest.raises(ImageRefused):
        await reader.read(b"\xff\xd8\xff no picture")

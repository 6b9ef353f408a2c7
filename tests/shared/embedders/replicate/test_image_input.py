import base64
import io

import numpy as np
import pytest
from PIL import Image

from shared.embedders.replicate.image_input import data_url
from tests.helpers.pictures import encode, picture


def sent(data: bytes) -> Image.Image:
    """Return the picture that the model receives for the image file *data*."""
    return Image.open(io.BytesIO(base64.b64decode(data_url(data).partition(",")[2])))


@pytest.mark.parametrize("size", [(400, 300), (300, 4000), (6000, 224), (1, 1), (1, 900)])
def test_the_model_receives_the_square_that_clip_sees(size: tuple[int, int]) -> None:
    image = sent(picture(1, size))
    assert (image.format, image.size, image.mode) == ("JPEG", (224, 224), "RGB")


def test_preprocessing_equals_that_of_clip() -> None:
    data = picture(3, (448, 330))
    with Image.open(io.BytesIO(data)) as image:
        reference = image.resize((304, 224), Image.Resampling.BICUBIC).crop((40, 0, 264, 224))
    difference = np.abs(np.asarray(sent(data), dtype=int) - np.asarray(reference, dtype=int))
    assert difference.mean() < 1


def test_an_image_is_sent_upright() -> None:
    image = Image.new("RGB", (300, 300), "white")
    image.paste("black", (0, 0, 300, 150))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    assert sent(encode(image, exif=exif)).getpixel((112, 20)) == (255, 255, 255)


def test_noise_fits_into_the_largest_data_url_that_replicate_accepts() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    assert len(data_url(encode(Image.fromarray(noise), "PNG"))) < 256_000

"""What is sent of an image. Runs in a decoding worker."""

import base64
import io

from PIL import Image

from shared.images import open_rgb

SIDE = 224  # pixels, of the square that CLIP ViT-L/14 sees


def data_url(data: bytes) -> str:
    """Return the part of the image that CLIP sees, as a JPEG of about 30 kB in a data: URL.

    CLIP's own preparation (CLIPImageProcessor of openai/clip-vit-large-patch14) scales the shorter side to 224 pixels,
    bicubically, and takes the square in the middle. Done here, from the original, the model has nothing left to scale,
    and loses nothing but what JPEG at quality 95 loses. The largest that 224 x 224 pixels of noise make is 130 kB;
    Replicate takes data URLs of up to 256 kB. Raises ImageRefused for what cannot be decoded.
    """
    image = _middle(open_rgb(data, at_least=(2 * SIDE, 2 * SIDE), colour_profile=False))
    scale = SIDE / min(image.size)
    width, height = (max(SIDE, int(side * scale)) for side in image.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    square = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + SIDE, top + SIDE))
    file = io.BytesIO()
    square.save(file, "JPEG", quality=95, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _middle(image: Image.Image) -> Image.Image:
    """Return the middle of an image that is long and narrow, which scaled whole could take any amount of memory."""
    longest = 2 * min(image.size)
    if max(image.size) <= longest:
        return image
    left, top = (max(0, side - longest) // 2 for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))

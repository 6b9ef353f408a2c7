"""The pictures and texts that the golden vectors of ``make_clip.py`` are of."""

import io

import numpy as np
from PIL import Image

# Sizes that go different ways: margins of half a pixel, both orientations, enlarged, extreme, left as they are.
SIZES = [(97, 61), (45, 121), (70, 64), (20, 17), (301, 23), (33, 50), (131, 40), (32, 32)]

TEXTS = [
    "a photo of a dog",
    "",
    "   White\t space\n\n here  ",
    "It's 1990's: they'll say DON'T",
    "snake_case, punctuation!?! (and: more...)",
    "don’t “quote” me — naïve ﬁne ＡＢＣ",
    "fish &amp; chips &lt;3",
    "Straße ÜBER ÉCOLE",
    "日本語 の 犬 🐕 и кошка",
    "e\u0301cole no\u0308el",
    "dog" * 30,
    "a very long caption that goes on and on " * 12,
]


def picture(number: int) -> bytes:
    """Return the PNG file of one picture per entry of SIZES: waves of three colours, and edges as hard as can be."""
    width, height = SIZES[number]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [
        np.sin((number + 2) * np.pi * (x / width) ** 2 + channel + number) * np.cos((channel + 1) * np.pi * y / height)
        for channel in range(3)
    ]
    values = 127.5 + 90 * np.stack(waves, axis=-1)
    checks = ((x // (3 + number % 4) + y // (5 - number % 3)) % 2 == 0) & (x * height > y * width)
    values[checks] = 255 - values[checks]
    file = io.BytesIO()
    Image.fromarray(np.rint(values).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()

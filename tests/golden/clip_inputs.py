"""The pictures and texts that the golden vectors of ``make_clip.py`` were computed from."""

from tests.helpers.pictures import waves

# Sizes that take different paths: margins of half a pixel, both orientations, enlarged, extreme, unchanged.
SIZES = [(97, 61), (45, 121), (70, 64), (20, 17), (301, 23), (33, 50), (131, 40), (32, 32)]
FILES = [waves(number, size) for number, size in enumerate(SIZES)]

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

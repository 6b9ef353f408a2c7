from PIL import Image

from shared import colours
from shared.images.palette import colour_codes, colour_codes_of_files
from tests.helpers.pictures import encode, noise


def flag(*stripes: str) -> Image.Image:
    """Return a picture of vertical stripes."""
    picture = Image.new("RGB", (30 * len(stripes), 60))
    for number, colour in enumerate(stripes):
        picture.paste(colour, (30 * number, 0, 30 * number + 30, 60))
    return picture


def test_a_picture_has_the_colours_that_cover_much_of_it() -> None:
    assert colours.names(colour_codes(flag("blue", "white", "red"))) == ["white", "red", "blue"]
    assert colours.names(colour_codes(flag("white", *["black"] * 9))) == ["black"]
    assert colours.names(colour_codes(flag("orange", *["black"] * 7))) == ["black", "orange"]


def test_one_colour_may_cover_most_of_a_picture() -> None:
    mostly_white = colours.codes("mostly-white")[0]
    assert mostly_white in colour_codes(flag("white", "white", "red"))
    assert mostly_white not in colour_codes(flag("white", "red", "red"))


def test_a_placeholder_has_the_colours_of_its_picture() -> None:
    picture = flag("green", "yellow", "red")
    found = colour_codes_of_files([encode(picture.resize((16, 11)), "WEBP", quality=80), b"no picture"])
    assert [colours.names(codes) for codes in found] == [["red", "yellow", "green"], []]


def test_a_palette_describes_a_picture_without_names() -> None:
    assert colour_codes(Image.new("RGB", (50, 50), "tan")) == [colours.cell((210, 180, 140))]
    assert 1 < len(colour_codes(noise(1, (400, 300)))) < 24

import pytest
from PIL import ImageColor

from shared import colours

CSS = {
    "black": "black #101010 #0a0a14",
    "white": "white snow ivory ghostwhite",
    "grey": "grey dimgrey silver gainsboro",
    "red": "red darkred firebrick crimson maroon",
    "orange": "orange darkorange orangered",
    "yellow": "yellow gold",
    "green": "green lime forestgreen seagreen darkolivegreen",
    "turquoise": "turquoise teal cyan lightseagreen",
    "blue": "blue navy royalblue skyblue steelblue",
    "purple": "purple indigo rebeccapurple",
    "pink": "pink hotpink deeppink",
    "brown": "saddlebrown sienna chocolate",
}


@pytest.mark.parametrize("name", colours.COLOURS)
def test_colours_have_their_names(name: str) -> None:
    assert {each: colours.name(ImageColor.getrgb(each)[:3]) for each in CSS[name].split()} == dict.fromkeys(
        CSS[name].split(), name
    )


def test_a_colour_between_the_names_has_none() -> None:
    assert [colours.name(ImageColor.getrgb(each)[:3]) for each in ("beige", "tan", "wheat")] == [None, None, None]


def test_a_filter_by_a_colour_value_finds_similar_colours_alone() -> None:
    wanted = colours.codes("#a03020")
    assert colours.cell((0xA0, 0x30, 0x20)) in wanted
    assert colours.cell((0xA8, 0x38, 0x28)) in wanted
    assert [rgb for rgb in [(0xFF, 0, 0), (0x60, 0x60, 0x60), (0x30, 0xA0, 0x20)] if colours.cell(rgb) in wanted] == []


def test_every_colour_has_a_code_that_fits_its_column() -> None:
    corners = [(r, g, b) for r in (0, 127, 255) for g in (0, 127, 255) for b in (0, 127, 255)]
    assert all(100 <= colours.cell(rgb) < 1 << 15 for rgb in corners)

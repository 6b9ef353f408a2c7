import pytest

from shared.models import Position
from syncer.gazetteer import Gazetteer


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    loaded = Gazetteer.load()
    assert loaded
    return loaded


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        (45.464, 9.190, ["Milan", "Italy"]),
        (51.541, -0.143, ["Camden Town", "London", "United Kingdom"]),  # a part of a metropolis
        (37.746, -119.594, ["California", "United States"]),  # Yosemite, far from any city
        (36.107, -112.113, ["United States"]),  # the Grand Canyon
        (-17.8, 179.99, ["Fiji"]),  # close to the date line
        (40.0, -40.0, []),  # the Atlantic
        (-90.0, 0.0, []),
    ],
)
def test_a_position_has_the_nearest_city_its_metropolis_state_and_country(
    gazetteer: Gazetteer, latitude: float, longitude: float, expected: list[str]
) -> None:
    assert [place.name for place in gazetteer.find(Position(1, latitude, longitude))] == expected


def test_places_have_names_in_several_languages_but_no_codes(gazetteer: Gazetteer) -> None:
    milan, italy = gazetteer.find(Position(1, 45.464, 9.190))
    assert {"Milan", "Milano", "Mailand", "ミラノ"} < set(milan.names)
    assert not {"MIL", "mi lan"} & set(milan.names)
    assert {"Italy", "Italien", "Italie", "Italia"} < set(italy.names)

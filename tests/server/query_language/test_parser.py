"""Typed words and what they mean: the table in ``phrases.toml``, and the rules that it does not show."""

import tomllib
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from server.query_language.parser import Understood, understand, without
from server.query_language.part import Part, Surroundings
from shared.models import Facets

PHRASES = tomllib.loads(Path(__file__).with_name("phrases.toml").read_text("utf-8"))
WITH_FILTERS: dict[str, list[str]] = PHRASES["filters"]
TRAPS: list[str] = PHRASES["words"]["traps"]
MISUNDERSTOOD: list[str] = PHRASES["words"]["misunderstood"]

CAMERAS = {
    "NIKON D850": 3,
    "NIKON D90": 2,
    "Canon EOS 5D Mark IV": 5,
    "Apple iPhone 12": 9,
    "Google Pixel 6": 1,
    "OLYMPUS E-M10": 1,
    "SONY ILCE-7M3": 2,
    "FUJIFILM X100V": 2,
    "samsung Galaxy S10": 1,
}
PLACES = {
    "tokyo": "Tokyo",
    "tokio": "Tokyo",
    "paris": "Paris",
    "spain": "Spain",
    "spanien": "Spain",
    "espagne": "Spain",
    "espana": "Spain",
    "new york": "New York City",
    **{name: name.title() for name in ("nice", "turkey", "essen", "orange", "china", "reading")},
}
FACETS = Facets(CAMERAS, {}, {}, first_taken=datetime(2004, 1, 1), last_taken=datetime(2026, 11, 1))
SURROUNDINGS = Surroundings(date(2026, 11, 28), FACETS, PLACES)


def understood(typed: str, **options: Any) -> Understood:
    return understand(typed, SURROUNDINGS, **options)


def words(found: Understood) -> str:
    return " OR ".join(term.value for term in found.terms if term.weight > 0)


def described(part: Part) -> str:
    """A part as the table writes it."""
    if part.terms:
        return str(part.terms[0])
    if part.kind in ("date", "camera"):
        return f"{'not ' if 'not_camera' in part.filters else ''}{part.meaning}"
    values = {name: value[0] if isinstance(value, tuple) else value for name, value in part.filters.items()}
    return " ".join(f"{name}={value}" for name, value in values.items())


@pytest.mark.parametrize("phrase", WITH_FILTERS)
def test_a_phrase_becomes_the_filters_of_the_table(phrase: str) -> None:
    found = understood(phrase)
    assert [words(found), *(described(part) for part in found.parts if part.kind != "words")] == WITH_FILTERS[phrase]


@pytest.mark.parametrize("phrase", TRAPS)
def test_a_trap_stays_words(phrase: str) -> None:
    found = understood(phrase)
    assert not found.filters
    assert words(found) == phrase


def test_at_most_one_trap_in_a_hundred_becomes_a_filter() -> None:
    traps = {*TRAPS, *MISUNDERSTOOD}
    false = [phrase for phrase in traps if understood(phrase).filters]
    assert len(traps) >= 150
    assert len(traps) + len(WITH_FILTERS) >= 300
    assert len(false) <= len(traps) / 100, false


def test_a_year_outside_the_photos_of_the_collection_stays_words() -> None:
    assert understood("1967 ford mustang").terms[0].value == "1967 ford mustang"
    undated = Surroundings(SURROUNDINGS.today, Facets(CAMERAS, {}, {}, None, None))
    assert not understand("snow 2021", undated).filters
    assert understand("summer 2019", undated).filters


def test_a_camera_that_the_collection_lacks_stays_words() -> None:
    assert not understood("pentax k1").filters


def test_a_place_that_the_collection_lacks_stays_words() -> None:
    assert not understood("dog in berlin").filters


def test_a_literal_phrase_stays_words() -> None:
    found = understood("beach summer 2019 nikon", literal=["Summer 2019"])
    assert words(found) == "beach summer 2019"
    assert found.filters.keys() == {"camera"}
    assert words(understood('"exit" sign', literal=['"exit"'])) == "exit sign"
    assert not understood('"exit" sign', literal=['"exit"']).filters


def test_a_phrase_that_would_change_a_fixed_filter_stays_words() -> None:
    found = understood("snow 2021 nikon", fixed={"taken_before"})
    assert words(found) == "snow 2021"
    assert found.filters.keys() == {"camera"}


def test_a_literal_excluded_word_is_searched_for() -> None:
    found = understood("dog -people", literal=["-people"])
    assert [str(term) for term in found.terms] == ["text:dog people"]


def test_no_phrase_continues_behind_a_sign() -> None:
    found = understood("nikon -d850")
    assert found.filters == {"camera": ("NIKON D850", "NIKON D90"), "not_camera": ("NIKON D850",)}
    assert understood("march -2021").terms[1].weight < 0


def test_phrases_of_one_kind_are_combined() -> None:
    assert understood("nikon or canon").filters["camera"] == ("NIKON D850", "NIKON D90", "Canon EOS 5D Mark IV")
    assert understood("after 2015 before 2018").filters == {
        "taken_after": datetime(2016, 1, 1),
        "taken_before": datetime(2018, 1, 1),
    }


def test_dates_that_contradict_each_other_stay_words() -> None:
    found = understood("boat 2019 2021 nikon")
    assert words(found) == "boat 2019 2021"
    assert found.filters.keys() == {"camera"}


@pytest.mark.parametrize("typed", [",", "-", '"', "''", "-2021", "not 2019", "((", "2021" * 200, "−"])
def test_text_without_a_filter_gives_none(typed: str) -> None:
    found = understood(typed)
    assert not found.filters
    assert words(found) or "-" in typed


def test_a_phrase_is_removed_where_it_stands_as_words() -> None:
    assert without("nikonian party nikon", "nikon") == "nikonian party"
    assert without("party, nikon, 2021", "nikon") == "party, 2021"
    assert without('say "red car" now', '"red car"') == "say now"

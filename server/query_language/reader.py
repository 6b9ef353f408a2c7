"""Reading the words of a request: the grammar applied to a collection and its filters."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from server.cache.collection_cache import CollectionCache
from server.problem import Problem
from server.query_language.parser import understand
from server.query_language.part import Part, Surroundings
from server.search.service import PageRequest
from server.search.terms import MAX_TERMS, Term
from shared.models import Collection
from shared.sql.filters import EVERYTHING

_DEFAULTS = vars(EVERYTHING)


@dataclass(frozen=True)
class TypedQuery:
    """The words of a request and its other terms. Phrases of ``literal`` stay words when the words are parsed."""

    words: str | None
    terms: Sequence[Term]
    parse: bool = False
    literal: Sequence[str] = ()


@dataclass(frozen=True)
class ReadQuery:
    """The terms and the page that a request asks for. ``parts`` are None if its words were not parsed."""

    terms: Sequence[Term]
    page: PageRequest
    parts: Sequence[Part] | None = None


@dataclass(frozen=True)
class QueryReader:
    """Reader of queries, which knows the collections' cameras and dates."""

    collections: CollectionCache

    async def read(self, collection: Collection, query: TypedQuery, page: PageRequest) -> ReadQuery:
        """Return what *query* asks for; filters of *page* stay as they are. Raises a 400 for too many terms."""
        if not query.words or not query.parse:
            words = [Term("text", query.words)] if query.words else []
            return ReadQuery([*words, *query.terms], page)
        facets = await self.collections.values(collection)
        place_names = await self.collections.place_names(collection)
        surroundings = Surroundings(datetime.now(UTC).date(), facets, place_names)
        fixed = {name for name, value in vars(page.filters).items() if value != _DEFAULTS[name]}
        found = understand(query.words, surroundings, literal=query.literal, fixed=fixed)
        if len(found.terms) > MAX_TERMS:
            raise Problem(400, f"q has {len(found.terms)} terms: give at most {MAX_TERMS}")
        filters = replace(page.filters, **found.filters)
        return ReadQuery([*found.terms, *query.terms], replace(page, filters=filters), found.parts)

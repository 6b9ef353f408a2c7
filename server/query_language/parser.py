"""Parser of typed words: dates, cameras and other filters, exact and excluded words; the rest describes the image.

It prefers words to filters: what may mean something else stays words.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from server.query_language import cameras, colours, dates, files, places
from server.query_language.part import Anchor, Found, Part, Recogniser, Surroundings
from server.query_language.typed_text import COMMA, QUOTES, TypedText
from server.query_language.vocabulary import meanings, pattern
from server.search.terms import Term

_RECOGNISERS: Sequence[Recogniser] = (
    dates.recognise_date,
    cameras.recognise_camera,
    places.recognise_place,
    files.recognise_type,
    files.recognise_orientation,
    files.recognise_size,
    colours.recognise_colour,
)
_NOT = re.compile(f"(?:{pattern('not')}) ")
# Kinds of filters whose fields have a counterpart with "not_".
_NEGATABLE = ("camera", "place", "type", "orientation", "colour")
_OR = re.compile(r"\s+(?:OR|ODER|OU)\s+")  # in capitals it also joins words
_CONNECTIVES = {word for name in ("in", "of", "article", "joint", "or") for word in meanings(name)}
_JOINTS = meanings("joint").keys() | meanings("or")
_MEANINGLESS = _CONNECTIVES | meanings("pictures").keys()


@dataclass(frozen=True)
class Understood:
    """Result of parsing typed words: their parts, the filters, and the terms of the remaining query."""

    parts: Sequence[Part]
    filters: Mapping[str, Any]
    terms: Sequence[Term]


@dataclass(frozen=True)
class _Span:
    """A phrase from token ``start`` to before ``found.end``."""

    start: int
    found: Found

    @property
    def end(self) -> int:
        return self.found.end


def understand(
    typed: str, surroundings: Surroundings, *, literal: Collection[str] = (), fixed: Collection[str] = ()
) -> Understood:
    """Parse *typed* with the cameras, places and date of its *surroundings*.

    Phrases of *literal* stay words, as do those that would set one of the *fixed* filters.
    """
    text = TypedText(typed)
    blocked = _blocked(text, literal)
    if "exact" in fixed:
        blocked |= {index for index, token in enumerate(text.tokens) if token.quoted}
    spans = _accepted(text, list(_spans(text, surroundings, blocked, fixed)))
    filters, spans = _combined(spans)
    parts = [
        *_text_parts(text, spans, blocked),
        *(Part(text.between(each.start, each.end), each.found.kind, each.found.filters, (), each.found.meaning)
          for each in spans),
    ]  # fmt: skip
    if not parts:
        parts = [Part(typed, "words", terms=[Term("text", typed)])]
    if exact := tuple(part.filters["exact"][0] for part in parts if part.kind == "exact"):
        filters["exact"] = exact
    return Understood(parts, filters, [term for part in parts for term in part.terms])


def without(typed: str, phrase: str) -> str:
    """Return the words without *phrase* and a comma beside it."""
    words = re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)")  # not a part of a longer word
    remaining = re.sub(r"\s*[,;](\s*[,;])+", ",", words.sub(" ", typed, count=1))
    return " ".join(remaining.strip(" ,;").split())


def _blocked(text: TypedText, literal: Collection[str]) -> set[int]:
    """Return the tokens of the phrases that stay words."""
    blocked = set()
    for phrase in literal:
        keys = [token.key for token in TypedText(phrase).tokens]
        for start in range(len(text.tokens) - len(keys) + 1):
            if keys and [token.key for token in text.tokens[start : start + len(keys)]] == keys:
                blocked |= set(range(start, start + len(keys)))
    return blocked


def _spans(text: TypedText, surroundings: Surroundings, blocked: set[int], fixed: Collection[str]) -> Iterator[_Span]:
    index = 0
    while index < len(text.tokens):
        negation = text.match(_NOT, index)
        found = _longest(text, negation[1] if negation else index, surroundings)
        if found and (negation or text.tokens[index].sign):
            found = _negated(found)
        if found and blocked.isdisjoint(range(index, found.end)) and found.filters.keys().isdisjoint(fixed):
            if found.filters:
                yield _Span(index, found)
            index = found.end
        else:
            index += 1


def _negated(found: Found) -> Found:
    """Return a phrase for the images without *found*; it has no filters if there are none for that."""
    if found.kind not in _NEGATABLE:
        return replace(found, filters={})
    return replace(found, filters={f"not_{name}": value for name, value in found.filters.items()})


def _longest(text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
    """Return the longest phrase that begins at *index*."""
    found = (found for each in _RECOGNISERS if (found := each(text, index, surroundings)))
    return max(found, key=lambda found: found.end, default=None)


def _accepted(text: TypedText, spans: list[_Span]) -> list[_Span]:
    """Return the phrases that stand where they count as filters."""
    accepted: list[_Span] = []
    for span in reversed(spans):
        starts = {each.start for each in accepted}
        if span.found.anchor is Anchor.ANYWHERE or _ends_clause(text, span.end, starts):
            accepted.insert(0, span)
    kept: list[_Span] = []
    for span in accepted:
        if _stands_apart(text, span, kept, accepted):
            kept.append(span)
    return kept


def _ends_clause(text: TypedText, end: int, starts: Collection[int]) -> bool:
    joined = end + 1 if text.key(end) in meanings("or") else end
    return text.key(end) == COMMA or joined in starts


def _stands_apart(text: TypedText, span: _Span, before: Sequence[_Span], accepted: Sequence[_Span]) -> bool:
    if span.found.anchor not in (Anchor.ALONE, Anchor.CLOSING, Anchor.BESIDE):
        return True
    ends = {each.end for each in before}
    is_whole = span.start == 0 and span.end == len(text.tokens)
    joined = span.start - 1 if text.key(span.start - 1) in meanings("or") else span.start
    begins = text.key(span.start - 1) == COMMA or joined in ends
    if span.found.anchor is Anchor.CLOSING:
        separators = {COMMA, *meanings("or")}
        covered = {index for each in accepted for index in range(each.start, each.end)}
        rest = {text.key(index) for index in range(span.end, len(text.tokens)) if index not in covered}
        return begins and text.key(span.end) in separators and rest <= separators
    return begins and not (is_whole and span.found.anchor is Anchor.BESIDE)


def _combined(spans: Sequence[_Span]) -> tuple[dict[str, Any], list[_Span]]:
    """Return the filters of the phrases, and the phrases without those whose limits contradict each other."""
    filters: dict[str, Any] = {}
    for span in spans:
        for name, value in span.found.filters.items():
            filters[name] = _both(name, filters[name], value) if name in filters else value
    for lower, upper in _LIMITS:
        if lower in filters and upper in filters and not _is_possible(filters[lower], filters[upper]):
            limits = {lower, upper}
            return _combined([span for span in spans if limits.isdisjoint(span.found.filters)])
    return filters, list(spans)


_LIMITS = [
    ("taken_after", "taken_before"),
    *((f"min_{name}", f"max_{name}") for name in ("width", "height", "pixels", "size")),
]


def _both(name: str, a: Any, b: Any) -> Any:
    """Return the value of a filter that two phrases set: either of several cameras, the stricter of two limits."""
    if isinstance(a, tuple):
        return tuple(dict.fromkeys((*a, *b)))
    return max(a, b) if name == "taken_after" or name.startswith("min_") else min(a, b)


def _is_possible(lower: Any, upper: Any) -> bool:
    return bool(lower < upper if isinstance(lower, datetime) else lower <= upper)


def _text_parts(text: TypedText, spans: Sequence[_Span], blocked: Collection[int]) -> Iterator[Part]:
    """Yield the words that describe the image, the exact ones among them, and the excluded ones."""
    runs = [stripped for run in _runs(text, spans) if (stripped := _stripped(text, run, spans))]
    wanted = [run for run in runs if not _is_excluded(text, run.start, blocked)]
    keys = {text.key(index) for run in wanted for index in run}
    if not spans or not keys <= _MEANINGLESS:
        words = " ".join(_plain(text, run) for run in wanted)
        alternatives = _OR.split(words)
        if words:
            yield Part(words, "words", terms=[Term("text", each) for each in alternatives])
    for index in (index for run in wanted for index in run):
        if text.tokens[index].quoted and index not in blocked:
            phrase = text.between(index, index + 1)
            yield Part(phrase, "exact", {"exact": (phrase.strip(QUOTES),)})
    for run in runs:
        if _is_excluded(text, run.start, blocked):
            terms = [Term("text", _plain(text, run), -1.0)]
            yield Part(text.between(run.start, run.stop), "excluded", terms=terms)


def _is_excluded(text: TypedText, index: int, blocked: Collection[int]) -> bool:
    return text.tokens[index].sign and index not in blocked


def _runs(text: TypedText, spans: Sequence[_Span]) -> Iterator[range]:
    """Yield the tokens between filters, divided before a sign and behind what it excludes."""
    covered = {index for span in spans for index in range(span.start, span.end)}
    start = 0
    for index in range(len(text.tokens) + 1):
        is_end = index == len(text.tokens) or index in covered
        ends_exclusion = start < index and text.tokens[start].sign and text.key(index) == COMMA
        if is_end or ends_exclusion or text.tokens[index].sign:
            if start < index:
                yield range(start, index)
            start = index + 1 if is_end or ends_exclusion else index


def _stripped(text: TypedText, run: range, spans: Sequence[_Span]) -> range:
    """Return *run* without commas at its ends, and without "in" or "and" beside a filter."""
    start, end = run.start, run.stop
    before, after = start in {span.end for span in spans}, end in {span.start for span in spans}
    while start < end and (text.key(start) == COMMA or before and text.key(start) in _JOINTS):
        start += 1
    while start < end and (text.key(end - 1) == COMMA or after and text.key(end - 1) in _CONNECTIVES):
        end -= 1
    return range(start, end)


def _plain(text: TypedText, run: range) -> str:
    """Return the words of *run* without quotes and sign."""
    written = text.between(run.start, run.stop).lstrip("-−")
    return " ".join(re.sub(f"[{QUOTES}]", " ", written).split())

"""Dates: years, months, seasons, holidays, days, and the time before, after and between them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta

from server.query_language.part import Anchor, Found, Surroundings
from server.query_language.typed_text import TypedText
from server.query_language.vocabulary import meanings, pattern

_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "winter": 12}  # first months, on the northern hemisphere
_EARLIEST = 1826  # the first photograph

_YEAR = r"(?:1[89]|20)\d\d"
_CLASSES = {
    "ordinal": r"(?:3[01]|[12]\d|[1-9])(?:st|nd|rd|th|er|º)?",
    "year": _YEAR,
    "years": rf"(?P<first_year>{_YEAR})[/-](?:20)?(?P<last_year>\d\d)",
    "number": r"\d{1,3}",
    "dotted": rf"(?P<d>3[01]|[12]\d|0?[1-9])\.(?P<m>1[0-2]|0?[1-9])\.(?P<y>{_YEAR})",
    "iso": rf"(?P<iy>{_YEAR})-(?P<im>1[0-2]|0[1-9])(?:-(?P<id>3[01]|[12]\d|0[1-9]))?",
    "slashes": rf"(?P<s1>[0-3]?\d)/(?P<s2>[0-3]?\d)/(?P<sy>{_YEAR})",
    "numeric_month": rf"(?P<nm>1[0-2]|0[1-9])[/.](?P<ny>{_YEAR})",
    "comma": ",",
}


@dataclass(frozen=True)
class Period:
    """The days from ``first`` to before ``end``.

    ``is_number`` says that its name is a number, which may be no year. ``anchor`` is that of its name.
    """

    first: date
    end: date
    is_number: bool = False
    anchor: Anchor = Anchor.ANYWHERE

    @property
    def meaning(self) -> str:
        """The period in digits: ``2021``, ``2021-03``, ``2021-03-05``, or its first and last day."""
        last = self.end - timedelta(days=1)
        if (self.first.month, self.first.day, last.month, last.day) == (1, 1, 12, 31):
            return str(self.first.year) if self.first.year == last.year else f"{self.first.year} – {last.year}"
        if self.end == _month(self.first.year, self.first.month).end and self.first.day == 1:
            return f"{self.first:%Y-%m}"
        return str(self.first) if self.first == last else f"{self.first} – {last}"


Words = dict[str, str]
Builder = Callable[[Words, date], Period | None]


def recognise_date(text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
    """Return the date that begins at *index*."""
    found = _bounded(text, index, surroundings) or _between(text, index, surroundings)
    return found or _plain(text, index, surroundings)


def _bounded(text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
    """Recognise "before 2020", "since last March"."""
    for symbol in ("before", "after", "since", "until"):
        if (bound := text.match(_BOUNDS[symbol], index)) and (named := _period(text, bound[1], surroundings)):
            period, end = named
            if period.is_number and text.key(end) in meanings("after_number"):
                continue  # German "vor 2000 Jahren"
            match symbol:
                case "before":
                    return _found(end, None, period.first)
                case "after":
                    return _found(end, period.end, None)
                case "since":
                    return _found(end, period.first, None)
                case "until":
                    return _found(end, None, period.end)
    return None


def _between(text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
    """Recognise "2019-2021", "from March 2020 to today"."""
    if years := text.match(_RANGE_OF_YEARS, index):
        first, last = int(years[0]["from_year"]), int(years[0]["to_year"])
        return _found(years[1], date(first, 1, 1), date(last + 1, 1, 1)) if _EARLIEST <= first < last else None
    start = begun[1] if (begun := text.match(_BOUNDS["between"], index)) else index
    if not (earlier := _period(text, start, surroundings)) or not (joint := text.match(_BOUNDS["to"], earlier[1])):
        return None
    later = _period(text, joint[1], surroundings)
    if not later or later[0].first < earlier[0].end:
        return None
    return _found(later[1], earlier[0].first, later[0].end)


def _plain(text: TypedText, index: int, surroundings: Surroundings) -> Found | None:
    """Recognise "summer 2019", "in the summer of 2019"."""
    lead = text.match(_LEAD, index)
    for start in (lead[1], index) if lead and lead[1] > index else (index,):
        if (named := _period(text, start, surroundings)) and not text.match(_OF, named[1]):
            period, end = named
            if not period.is_number or _is_year(text, start, end, period, surroundings):
                anchor = period.anchor if start == index else Anchor.ANYWHERE
                return _found(end, period.first, period.end, anchor)
    return None


def _is_year(text: TypedText, start: int, end: int, period: Period, surroundings: Surroundings) -> bool:
    """Return whether a number alone is a year: the collection has photos of it, and its neighbours allow it."""
    first, last = surroundings.facets.first_taken, surroundings.facets.last_taken
    if first is None or last is None or not first.year <= period.first.year <= last.year:
        return False
    return text.key(start - 1) not in meanings("before_number") and text.key(end) not in meanings("after_number")


def _found(end: int, first: date | None, before: date | None, anchor: Anchor = Anchor.ANYWHERE) -> Found:
    days = {"taken_after": first, "taken_before": before}
    filters = {name: datetime.combine(day, time()) for name, day in days.items() if day}
    meaning = Period(first, before).meaning if first and before else f"≥ {first}" if first else f"< {before}"
    return Found("date", end, filters, meaning, anchor)


def _period(text: TypedText, index: int, surroundings: Surroundings) -> tuple[Period, int] | None:
    """Return the longest period that is named at *index*, and the index behind it."""
    best = None
    for expression, build in _PERIODS:
        if (found := text.match(expression, index)) and (best is None or found[1] > best[1]):
            words = {name: value for name, value in found[0].groupdict().items() if value}
            if period := _built(build, words, surroundings.today):
                best = period, found[1]
    return best


def _built(build: Builder, words: Words, today: date) -> Period | None:
    try:
        period = build(words, today)
    except (ValueError, OverflowError):  # 31 February
        return None
    return period if period and _EARLIEST <= period.first.year <= today.year + 1 else None


# Periods


def _day(day: date) -> Period:
    return Period(day, day + timedelta(days=1))


def _month(year: int, month: int, months: int = 1) -> Period:
    later = month - 1 + months
    return Period(date(year, month, 1), date(year + later // 12, later % 12 + 1, 1))


def _year(year: int) -> Period:
    return _month(year, 1, 12)


def _season(season: str, year: int) -> Period:
    return _month(year, _SEASONS[season], 3)


def _holiday(holiday: str, year: int) -> Period:
    match holiday:
        case "christmas":
            return Period(date(year, 12, 24), date(year, 12, 27))
        case "new_years_eve":
            return _day(date(year, 12, 31))
        case "new_year":
            return Period(date(year - 1, 12, 31), date(year, 1, 2))
        case "halloween":
            return _day(date(year, 10, 31))
        case "valentines":
            return _day(date(year, 2, 14))
    easter = _easter(year)
    return Period(easter - timedelta(days=2), easter + timedelta(days=2))


def _easter(year: int) -> date:
    """Return Easter Sunday of the Gregorian calendar (Anonymous 1876, "Nature" 13, page 487)."""
    a, (b, c) = year % 19, divmod(year, 100)
    h = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    k = (32 + 2 * (b % 4) + 2 * (c // 4) - h - c % 4) % 7
    m = (a + 11 * h + 22 * k) // 451
    month, day = divmod(h + k - 7 * m + 114, 31)
    return date(year, month, day + 1)


def _named(words: Words, year: int) -> Period:
    """Return the month, season or holiday of *words* in *year*."""
    if month := words.get("month"):
        return _month(year, int(meanings("month")[month]))
    if season := words.get("season"):
        return _season(meanings("season")[season], year)
    return _holiday(meanings("holiday")[words["holiday"]], year)


def _this(words: Words, today: date) -> Period | None:
    if "unit" in words:
        return _unit(meanings("unit")[words["unit"]], today)
    return _named(words, today.year)


def _last(words: Words, today: date) -> Period | None:
    """Return the latest one that is over."""
    if weekday := words.get("weekday"):
        days = (today.weekday() - int(meanings("weekday")[weekday]) + 1) % 7 or 7
        return _day(today - timedelta(days=days))
    if "unit" in words:
        current = _unit(meanings("unit")[words["unit"]], today)
        return current and _unit(meanings("unit")[words["unit"]], current.first - timedelta(days=1))
    this_year = _named(words, today.year)
    return this_year if this_year.end <= today else _named(words, today.year - 1)


def _unit(unit: str, day: date) -> Period | None:
    """Return the week, month or year around *day*; "last day" is no date."""
    match unit:
        case "week":
            monday = day - timedelta(days=day.weekday())
            return Period(monday, monday + timedelta(days=7))
        case "month":
            return _month(day.year, day.month)
        case "year":
            return _year(day.year)
    return None


def _back(words: Words, today: date) -> date:
    """Return the day that is "3 weeks" before today."""
    number = int(words.get("number") or meanings("count")[words["count"]])
    match meanings("unit")[words["unit"]]:
        case "day":
            return today - timedelta(days=number)
        case "week":
            return today - timedelta(weeks=number)
        case "month":
            months = today.year * 12 + today.month - 1 - number
            return date(months // 12, months % 12 + 1, min(today.day, 28))
    return date(today.year - number, today.month, min(today.day, 28))


def _recent(words: Words, today: date) -> Period:
    return Period(_back(words, today), today + timedelta(days=1))


def _ago(words: Words, today: date) -> Period | None:
    day = _back(words, today)
    return _unit(meanings("unit")[words["unit"]], day) or _day(day)


def _slashes(words: Words, today: date) -> Period | None:
    """Return the day of 25/12/2020 or 12/25/2020; 5/12/2020 could be two days."""
    a, b, year = int(words["s1"]), int(words["s2"]), int(words["sy"])
    if a > 12 or a == b:
        return _day(date(year, b, a))
    return _day(date(year, a, b)) if b > 12 else None


def _iso(words: Words, today: date) -> Period:
    year, month = int(words["iy"]), int(words["im"])
    return _day(date(year, month, int(words["id"]))) if "id" in words else _month(year, month)


def _winter(words: Words, today: date) -> Period | None:
    first, last = int(words["first_year"]), int(words["last_year"])
    is_winter = meanings("season")[words["season"]] == "winter"
    return _season("winter", first) if is_winter and (first + 1) % 100 == last else None


def _in_year(words: Words, today: date) -> Period:
    return _named(words, int(words["year"]))


def _exact_day(words: Words, today: date) -> Period:
    day = re.sub(r"\D", "", words["ordinal"])
    return _day(date(int(words["year"]), int(meanings("month")[words["month"]]), int(day)))


def _compile(written: str) -> re.Pattern[str]:
    """Compile words, each a symbol of the vocabulary or of _CLASSES: "a|b" is either, "a?" may be absent."""
    named: set[str] = set()
    expression = ""
    for word in written.split():
        choices = []
        for name in word.rstrip("?").split("|"):
            choices.append(("(?:" if name in named else f"(?P<{name}>") + (_CLASSES.get(name) or pattern(name)) + ")")
            named.add(name)
        expression += f"(?:(?:{'|'.join(choices)}) )" + ("?" if word.endswith("?") else "")
    return re.compile(expression)


_PERIODS: list[tuple[re.Pattern[str], Builder]] = [
    (_compile(written), build)
    for written, build in (
        ("article? ordinal of? month comma? of? year", _exact_day),
        ("month ordinal comma? year", _exact_day),
        ("month|season|holiday of? year", _in_year),
        ("season years", _winter),
        ("dotted", lambda words, today: _day(date(int(words["y"]), int(words["m"]), int(words["d"])))),
        ("iso", _iso),
        ("slashes", _slashes),
        ("numeric_month", lambda words, today: _month(int(words["ny"]), int(words["nm"]))),
        ("last month|season|holiday|weekday|unit", _last),
        ("month|season|holiday|weekday|unit last_after", _last),
        ("this month|season|holiday|unit", _this),
        ("last number|count unit", _recent),
        ("number|count last unit", _recent),
        ("number|count unit ago", _ago),
        ("ago_first number|count unit", _ago),
        ("today", lambda words, today: replace(_day(today), anchor=Anchor.ALONE)),
        ("yesterday", lambda words, today: replace(_day(today - timedelta(days=1)), anchor=Anchor.LAST)),
        ("day_before_yesterday", lambda words, today: _day(today - timedelta(days=2))),
        ("year", lambda words, today: replace(_year(int(words["year"])), is_number=True)),
    )
]
_BOUNDS = {name: _compile(name) for name in ("before", "after", "since", "until", "between", "to")}
_LEAD = _compile("in? article?")
_OF = _compile("of")
_RANGE_OF_YEARS = re.compile(rf"(?P<from_year>{_YEAR})[-–](?P<to_year>{_YEAR}) ")

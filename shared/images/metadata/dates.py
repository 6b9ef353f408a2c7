"""Times as cameras and software write them."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_tz

# EXIF, ISO 8601, IPTC and their variants: any separators or none, spaces for zeros, no seconds, hour 24, AM and PM.
_TIME = re.compile(
    r"(?P<year>\d{4})[-:/. ]?(?P<month>[ \d]?\d)[-:/. ]?(?P<day>[ \d]?\d)"
    r"(?:[T ]?\s*(?P<hour>[ \d]?\d)[:.]?(?P<minute>[ \d]\d)(?:[:.]?(?P<second>[ \d]\d)(?:[.,](?P<fraction>\d+))?)?)?"
    r"\s*(?P<half>[AaPp]\.?[Mm])?(?P<rest>.*)",
    re.ASCII | re.DOTALL,
)
_OFFSET = re.compile(r"\s*(?:(?P<utc>Z|UTC|GMT)|(?P<sign>[-+])(?P<hours>\d\d?)(?::?(?P<minutes>\d\d))?)", re.ASCII)
_MAIL_OFFSET = re.compile(r"[-+]\d{4}|GMT|UTC?\b")
# The oldest photograph; cameras whose clock was never set write the year 0 or 1. The last year has room for an offset.
_FIRST_YEAR, _LAST_YEAR = 1826, 9998
_MAX_OFFSET = 14 * 60  # no clock on Earth is further from UTC


@dataclass(frozen=True)
class Taken:
    """A time as the camera's clock showed it, without time zone, and its offset in minutes east of UTC if known."""

    local: datetime
    offset: int | None = None


def parse_time(text: str) -> Taken | None:
    """Return the time that *text* states; None for anything else, as for the zeros of a clock that was never set."""
    found = _TIME.match(text.strip())
    try:
        return _from_match(found) if found else _from_mail_date(text)
    except (ValueError, OverflowError):  # there is no such date
        return None


def parse_offset(text: str) -> int | None:
    """Return the offset in minutes east of UTC of ``+05:30``, ``+0530``, ``+5`` or ``Z``; None for anything else."""
    found = _OFFSET.match(text)
    if not found:
        return None
    if found["utc"]:
        return 0
    minutes = int(found["hours"]) * 60 + int(found["minutes"] or 0)
    return None if minutes > _MAX_OFFSET else -minutes if found["sign"] == "-" else minutes


def parse_fraction(digits: str) -> timedelta:
    """Return the fraction of a second with these decimals, in microseconds."""
    found = re.match(r"\d{1,6}", digits, re.ASCII)
    return timedelta(microseconds=int(found[0].ljust(6, "0")) if found else 0)


def _from_match(found: re.Match[str]) -> Taken | None:
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    if found["half"]:
        hour = hour % 12 + (12 if found["half"][0] in "Pp" else 0)
    if hour > 24 or minute > 59 or second > 60:
        return None
    day = datetime(int(found["year"]), int(found["month"]), int(found["day"]))
    local = day + timedelta(hours=hour, minutes=minute, seconds=second) + parse_fraction(found["fraction"] or "")
    return _plausible(Taken(local, parse_offset(found["rest"])))


def _from_mail_date(text: str) -> Taken | None:
    """Parse the dates that PNG recommends (RFC 1123) and those of C's ctime."""
    found = parsedate_tz(text)
    if found is None:
        return None
    offset = found[9] // 60 if found[9] is not None and _MAIL_OFFSET.search(text) else None
    return _plausible(Taken(datetime(*found[:6]), offset if abs(offset or 0) <= _MAX_OFFSET else None))


def _plausible(taken: Taken) -> Taken | None:
    return taken if _FIRST_YEAR <= taken.local.year <= _LAST_YEAR else None

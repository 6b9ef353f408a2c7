from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.images.metadata.dates import parse_offset, parse_time

MORNING = datetime(2024, 5, 31, 10, 20, 30)


@pytest.mark.parametrize(
    ("text", "local", "offset"),
    [
        ("2024:05:31 10:20:30", MORNING, None),
        ("2024:05:31 10:20:30\0", MORNING, None),
        ("2024-05-31T10:20:30", MORNING, None),
        ("2024-05-31T10:20:30Z", MORNING, 0),
        ("2024/05/31 10:20:30", MORNING, None),
        ("2024.05.31 10.20.30", MORNING, None),
        ("2024: 5:31 10:20:30", MORNING, None),
        ("2024:5:31 10:20:30", MORNING, None),
        ("20240531 102030+0200", MORNING, 120),
        ("20240531T102030", MORNING, None),
        ("2024:05:31 10:20:30.5", MORNING.replace(microsecond=500_000), None),
        ("2024:05:31 10:20:30,123456789", MORNING.replace(microsecond=123_456), None),
        ("2024:05:31 10:20:30-07:00", MORNING, -420),
        ("2024:05:31 10:20:30 +5:30", MORNING, 330),
        ("2024:05:31 10:20:30+99:99", MORNING, None),
        ("2024:05:31 10:20:30 GMT", MORNING, 0),
        ("2024:05:31 10:20", MORNING.replace(second=0), None),
        ("2024:05:31 10:20+02:00", MORNING.replace(second=0), 120),
        ("2024-05-31", datetime(2024, 5, 31), None),
        ("2024:05:31 10:20:30 PM", MORNING.replace(hour=22), None),
        ("2024:05:31 12:20:30 a.m.", MORNING.replace(hour=0), None),
        ("2015:08:22 24:08:19", datetime(2015, 8, 23, 0, 8, 19), None),
        ("2016:12:31 23:59:60", datetime(2017, 1, 1), None),
        ("Fri, 31 May 2024 10:20:30 +0200", MORNING, 120),
        ("Fri May 31 10:20:30 2024", MORNING, None),
    ],
)
def test_times_are_read_as_software_writes_them(text: str, local: datetime, offset: int | None) -> None:
    taken = parse_time(text)
    assert taken
    assert (taken.local, taken.offset) == (local, offset)


@pytest.mark.parametrize(
    "text",
    [
        "0000:00:00 00:00:00",
        "    :  :     :  :  ",
        "2020:13:01 00:00:00",
        "2023:02:29 00:00:00",
        "2024:05:31 25:00:00",
        "0001:01:01 00:00:00",
        "9999:12:31 23:59:59",
        "1970",
        "yesterday",
        "",
    ],
)
def test_what_is_no_time_is_omitted(text: str) -> None:
    assert parse_time(text) is None


@given(st.text() | st.from_regex(r"[0-9 :+-]{4,30}"))
@example("Mon, 99 May 99999999999999999999 10:20:30 +99999999999")
@example("9998:12:31 24:59:60")
def test_any_text_is_a_time_that_a_database_can_store_or_none(text: str) -> None:
    taken = parse_time(text)
    assert taken is None or (1826 <= taken.local.year <= 9999 and abs(taken.offset or 0) <= 840)


@pytest.mark.parametrize(("text", "minutes"), [("+05:30", 330), ("-0330", -210), ("+2", 120), ("Z", 0), ("-15", None)])
def test_offsets_are_minutes_east_of_utc(text: str, minutes: int | None) -> None:
    assert parse_offset(text) == minutes

"""The status line of a collection."""

from dataclasses import replace

import pytest

from shared.collection_status import Status, format_status

RUNNING = Status(
    bucket="b",
    model="replicate:openai/clip",
    total=4000,
    embedded=3120,
    pending=880,
    failed=0,
    rejected=0,
    reasons={},
    rate_per_minute=42.0,
    eta_seconds=1257.0,
    active=True,
    cost_so_far=0.0468,
    cost_to_go=0.0132,
)


def test_the_line_has_counts_speed_time_left_and_costs() -> None:
    assert format_status(RUNNING) == (
        "3,120 of 4,000 embedded, 880 pending, 0 failed; 42 per minute, about 21 minutes left;"
        " about $0.05 so far, $0.01 to go"
    )


def test_a_finished_free_collection_shows_only_counts() -> None:
    finished = replace(
        RUNNING, embedded=3999, pending=0, failed=1, rate_per_minute=0.0, eta_seconds=None, cost_so_far=0, cost_to_go=0
    )
    assert format_status(finished) == "3,999 of 4,000 embedded, 0 pending, 1 failed"


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (150, "2 minutes"), (9_000, "2 hours"), (260_000, "3 days")]
)
def test_the_time_left_has_a_readable_unit(seconds: float, text: str) -> None:
    assert f"about {text} left" in format_status(replace(RUNNING, eta_seconds=seconds))

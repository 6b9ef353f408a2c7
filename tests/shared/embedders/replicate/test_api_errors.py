"""Hints, remedies and failures in Replicate's answers."""

import json
import time
from email.utils import formatdate

import pytest

from shared.embedders.replicate.api_errors import PredictionFailed, RateLimited, prediction_output, response_error
from shared.errors import ModelError


def problem(**members: object) -> bytes:
    return json.dumps({"status": 429, **members}).encode()


@pytest.mark.parametrize(
    ("headers", "body", "retry_after", "spacing"),
    [
        ({"Retry-After": "7"}, b"", 7.0, None),
        ({}, problem(detail="Request was throttled. Your rate limit resets in ~30s."), 30.0, None),
        ({}, problem(detail="Request was throttled. Expected available in 1 second."), 1.0, None),
        ({}, problem(detail="Request was throttled.", retry_after=2.5), 2.5, None),
        ({}, problem(detail="reduced to 6 requests per minute with a burst of 1 requests."), 10.0, 10.0),
        ({}, problem(detail="600 requests per minute. Your rate limit resets in ~9s."), 9.0, 0.1),
        ({}, problem(detail="Request was throttled."), None, None),
        ({}, b"<html>", None, None),
    ],
)
def test_the_hints_of_a_refusal_are_read(
    headers: dict[str, str], body: bytes, retry_after: float | None, spacing: float | None
) -> None:
    error = response_error(429, headers, body)
    assert isinstance(error, RateLimited)
    assert error.transient
    assert (error.retry_after, error.spacing) == (retry_after, spacing)


def test_a_date_to_retry_after_is_read() -> None:
    error = response_error(429, {"Retry-After": formatdate(time.time() + 3600, usegmt=True)}, b"")
    assert error.retry_after == pytest.approx(3600, abs=60)


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
def test_a_failing_service_may_be_tried_again(status: int) -> None:
    error = response_error(status, {"Retry-After": "3"}, b"<html><h1>Bad Gateway</h1></html>")
    assert error.transient
    assert error.retry_after == 3


@pytest.mark.parametrize(
    ("error", "divisible"),
    [
        *[(f"Director: unexpected error ({code})", False) for code in ("E1000", "E6716", "E8367", "E8765", "E9243")],
        ("Prediction interrupted; please retry (code: PA)", True),
        ("CUDA error: device-side assert triggered", True),
        ("The container ran out of memory (E1001)", False),
    ],
)
def test_a_failure_of_the_service_may_be_tried_again(error: str, divisible: bool) -> None:
    with pytest.raises(ModelError) as caught:
        prediction_output({"status": "failed", "error": error}, divisible=divisible)
    assert caught.value.transient


@pytest.mark.parametrize("error", ["list index out of range", "CUDA out of memory", "(E1001)", None])
def test_a_failure_of_the_model_is_distinguished(error: str | None) -> None:
    with pytest.raises(PredictionFailed, match="."):
        prediction_output({"status": "failed", "error": error}, divisible=True)

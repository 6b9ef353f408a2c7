"""Errors of Replicate's API: refused requests and failed predictions."""

import contextlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from shared.errors import ModelError

Json = dict[str, Any]

# Messages of failed predictions that are Replicate's fault: those of its documented error codes that are worth a
# retry, and messages without a code.
_SERVICE_FAILED = re.compile(r"\b(?:E1000|E6716|E8367|E8765|E9243)\b|please retry|\bCUDA\b", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile(r"\bE1001\b|out of memory", re.IGNORECASE)

# In the body of a 429: "Your rate limit resets in ~30s.", "Expected available in 1 second.", and "Your rate limit for
# creating predictions is reduced to 6 requests per minute with a burst of 1 requests while ...".
_WAIT = re.compile(r"(?:resets|available) in ~?(\d+(?:\.\d+)?)", re.IGNORECASE)
_RATE = re.compile(r"(\d+(?:\.\d+)?) requests per (second|minute|hour)", re.IGNORECASE)
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}

_REMEDIES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "check REPLICATE_API_TOKEN",
    HTTPStatus.FORBIDDEN: "check REPLICATE_API_TOKEN",
    HTTPStatus.PAYMENT_REQUIRED: "add credit at https://replicate.com/account/billing",
    HTTPStatus.NOT_FOUND: "check REPLICATE_MODEL and REPLICATE_BASE_URL",
    HTTPStatus.UNPROCESSABLE_ENTITY: "check REPLICATE_MODEL",
}


class PredictionFailed(Exception):
    """The model ran on this input and failed; the message is the model's."""


class PredictionTimeout(PredictionFailed):
    """The model started, and was cancelled because it did not finish in time."""


class RateLimited(ModelError):
    """The call was over the rate limit. ``spacing`` is the number of seconds between calls, if the limit is stated."""

    def __init__(self, message: str, *, retry_after: float | None, spacing: float | None) -> None:
        super().__init__(message, transient=True, retry_after=retry_after)
        self.spacing = spacing


class AnswerLost(ModelError):
    """The connection broke before the answer came: the request may have been carried out."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


def parse_object(body: bytes) -> Json:
    """Return the JSON object in *body*, or an empty one if there is none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def response_error(status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
    """Return the error for an HTTP response that is not a success."""
    answer = parse_object(body)
    detail = str(answer.get("detail") or answer.get("title") or "")[:300]
    message = f"Replicate answered {status}" + (f": {detail}" if detail else "")
    retry_after = _retry_after(headers, answer, detail)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        rate = _RATE.search(detail)
        spacing = _SECONDS[rate[2].lower()] / float(rate[1]) if rate and float(rate[1]) else None
        return RateLimited(message, retry_after=spacing if retry_after is None else retry_after, spacing=spacing)
    if status >= 500 or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY):
        return ModelError(message, transient=True, retry_after=retry_after)
    return ModelError(f"{message}; {_REMEDIES.get(status, 'check REPLICATE_BASE_URL')}", transient=False)


def prediction_output(prediction: Json, *, divisible: bool) -> Any:
    """Return the output of a finished prediction.

    Raises PredictionFailed for failures of the model and ModelError for failures of the service. Running out of memory
    is a failure of the model if its input is *divisible*, since a part of it may succeed.
    """
    status, error = prediction["status"], str(prediction.get("error") or "no reason given")
    if status == "succeeded":
        return prediction.get("output")
    if status != "failed":
        raise ModelError(f"Replicate ended a prediction as {status}", transient=True)
    out_of_memory = _OUT_OF_MEMORY.search(error)
    if (out_of_memory and not divisible) or (_SERVICE_FAILED.search(error) and not out_of_memory):
        raise ModelError(f"a prediction failed at Replicate: {error[:300]}", transient=True)
    raise PredictionFailed(error[:300])


def _retry_after(headers: Mapping[str, str], answer: Json, detail: str) -> float | None:
    """Return the seconds to wait from the header, the field or the text, if any of them says so."""
    header = headers.get("Retry-After", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(header))
    with contextlib.suppress(ValueError):
        when = parsedate_to_datetime(header)
        return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    if isinstance(seconds := answer.get("retry_after"), int | float):
        return max(0.0, float(seconds))
    found = _WAIT.search(detail)
    return float(found[1]) if found else None

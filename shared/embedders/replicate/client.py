"""Runs predictions over Replicate's HTTP API.

Plain requests instead of the official client, which never tries a POST again, polls without a deadline, and takes the
status ``aborted`` for a malformed answer (replicate 1.0.7).
"""

import asyncio
import contextlib
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay, wait_exponential_jitter

from shared.embedders.replicate.rate_limiter import Pacer
from shared.errors import ModelError

Json = dict[str, Any]

_ENDED = frozenset({"succeeded", "failed", "canceled", "aborted"})

# What a failed prediction says when the failure is Replicate's: codes from its list of error codes that are worth
# another try, and messages without a code.
_SERVICE_FAILED = re.compile(r"\b(?:E1000|E6716|E8367|E8765|E9243)\b|please retry|\bCUDA\b", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile(r"\bE1001\b|out of memory", re.IGNORECASE)

# In the body of a 429: "Your rate limit resets in ~30s.", "Expected available in 1 second.", and "Your rate limit for
# creating predictions is reduced to 6 requests per minute with a burst of 1 requests while ...".
_PAUSE = re.compile(r"(?:resets|available) in ~?(\d+(?:\.\d+)?)", re.IGNORECASE)
_RATE = re.compile(r"(\d+(?:\.\d+)?) requests per (second|minute|hour)", re.IGNORECASE)
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}

_REMEDIES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "check REPLICATE_API_TOKEN",
    HTTPStatus.FORBIDDEN: "check REPLICATE_API_TOKEN",
    HTTPStatus.PAYMENT_REQUIRED: "add credit at https://replicate.com/account/billing",
    HTTPStatus.NOT_FOUND: "check REPLICATE_MODEL and REPLICATE_BASE_URL",
    HTTPStatus.UNPROCESSABLE_ENTITY: "check REPLICATE_MODEL",
}


@dataclass(frozen=True)
class Timing:
    """How long things may take, in seconds."""

    deadline: float = 300.0  # for a prediction to end: a model that nobody used for a while takes minutes to start
    wait: int = 60  # for the answer to come with the request that makes the prediction; Replicate takes 1 to 60
    response: float = 15.0  # for any other answer, and for that one beyond its time
    patience: float = 120.0  # for trying a call again, before the failure is the caller's to wait out
    backoff: float = 0.5  # before a call is tried again; doubled each time, up to ...
    longest_backoff: float = 30.0
    poll: float = 0.5  # before a prediction is asked after; growing by half each time, up to ...
    longest_poll: float = 5.0
    unsaid_pause: float = 30.0  # after a refusal for speed that does not say how long
    window: float = 60.0  # over which Replicate counts calls


class PredictionFailed(Exception):
    """The model ran on this input and gave no answer; the message says why, in the model's words."""


class PredictionOverdue(PredictionFailed):
    """The model began, and was stopped when it had not ended by the deadline."""


class _RateLimited(ModelError):
    """A call was over the limit; ``distance`` is how many seconds there have to be between calls, if that was said."""

    def __init__(self, message: str, *, pause: float, distance: float | None) -> None:
        super().__init__(message, transient=True, retry_after=pause)
        self.pause = pause
        self.distance = distance


class _AnswerLost(ModelError):
    """Whether the request was carried out is not known."""

    def __init__(self, message: str) -> None:
        super().__init__(message, transient=True)


class Client:
    """Runs predictions of one model, a few at once, and no faster than Replicate lets it.

    ``calls`` counts the predictions made, those among them whose answer was lost, so that one cannot know.
    """

    def __init__(
        self, *, token: str, base_url: str, model: str, version: str | None, concurrency: int, timing: Timing
    ) -> None:
        """*model* is ``owner/name``; without a *version* it is one of Replicate's official models, which have none."""
        self.calls = 0
        self._token = token
        self._base_url = base_url
        self._path = "/v1/predictions" if version else f"/v1/models/{model}/predictions"
        self._version: Json = {"version": version} if version else {}
        self._timing = timing
        self._slots = asyncio.Semaphore(concurrency)
        self._pacer = Pacer(window=timing.window, longest_pause=timing.patience)
        self._session: aiohttp.ClientSession | None = None

    async def run(self, model_input: Json, *, splittable: bool = False) -> Any:
        """Return what the model makes of *model_input*.

        What is Replicate's fault is tried again for ``patience`` seconds and then raised as a ModelError. No key makes
        a POST safe to repeat, so a prediction whose answer was lost may be paid for twice.
        Raises PredictionFailed when the model fails on this input; if it is *splittable* also when memory ran out,
        since a part of it may pass.
        """
        async with self._slots:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(self._may_pass),
                wait=self._backoff,
                stop=stop_after_delay(self._timing.patience),
                reraise=True,
            ):
                with attempt:
                    return _output(await self._predict(model_input), splittable=splittable)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _may_pass(self, exc: BaseException) -> bool:
        """Tell whether another try can help within the time that there is for it."""
        return isinstance(exc, ModelError) and exc.transient and (exc.retry_after or 0) <= self._timing.patience

    def _backoff(self, state: RetryCallState) -> float:
        exc = state.outcome.exception() if state.outcome else None
        if isinstance(exc, ModelError) and exc.retry_after is not None:
            return 0.0  # the pacer makes this call wait, together with all others
        first, longest = self._timing.backoff, self._timing.longest_backoff
        return wait_exponential_jitter(multiplier=first, max=longest, jitter=first)(state)

    async def _predict(self, model_input: Json) -> Json:
        """Make a prediction and return it when it has ended; cancel it when nobody waits for it any longer."""
        began = time.monotonic()
        prediction = await self._create(model_input)
        try:
            async with asyncio.timeout(began + self._timing.deadline - time.monotonic()):
                pause = self._timing.poll
                while prediction["status"] not in _ENDED:
                    await asyncio.sleep(pause)
                    pause = min(1.5 * pause, self._timing.longest_poll)
                    try:
                        prediction = await self._get(prediction)
                    except ModelError as exc:
                        if not exc.transient:
                            raise
                        pause = max(pause, exc.retry_after or 0)
                return prediction
        except TimeoutError as exc:
            await self._cancel(prediction)
            what = f"no answer within {self._timing.deadline:g} s"
            if prediction["status"] == "processing":
                raise PredictionOverdue(what) from exc
            raise ModelError(f"the model at Replicate did not start: {what}", transient=True) from exc
        except asyncio.CancelledError:
            await asyncio.shield(self._cancel(prediction))
            raise

    async def _create(self, model_input: Json) -> Json:
        timing = self._timing
        wait = max(1, min(timing.wait, math.floor(timing.deadline)))
        headers = {
            "Prefer": f"wait={wait}",
            # Should this process die, the prediction must not go on for ever; 5 s is the least that is taken.
            "Cancel-After": f"{max(5, math.ceil(timing.deadline))}s",
        }
        body = {**self._version, "input": model_input}
        sent_at = await self._pacer.turn()
        try:
            prediction = await self._request("POST", self._path, timing.response + wait, headers=headers, json=body)
        except _RateLimited as exc:
            self._pacer.refused(sent_at, pause=exc.pause, distance=exc.distance)
            raise
        except _AnswerLost:
            self.calls += 1
            raise
        except ModelError as exc:
            self._pacer.pause(exc.retry_after or 0)
            raise
        self.calls += 1
        self._pacer.passed()
        return prediction

    async def _get(self, prediction: Json) -> Json:
        # By its id, and not at the address in `urls`: the token is for base_url alone.
        return await self._request("GET", f"/v1/predictions/{prediction['id']}", self._timing.response)

    async def _cancel(self, prediction: Json) -> None:
        # Who waits for this wants to go, and Cancel-After does the same later.
        with contextlib.suppress(ModelError):
            await self._request("POST", f"/v1/predictions/{prediction['id']}/cancel", min(2.0, self._timing.response))

    async def _request(self, method: str, path: str, timeout: float, **options: Any) -> Json:
        """Return the prediction that is the answer; every other answer, and none, is raised as a ModelError."""
        if self._session is None:
            # No limit of its own: the slots are one.
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._token}"}, connector=aiohttp.TCPConnector(limit=0)
            )
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=self._timing.response)
        url = self._base_url + path
        try:
            async with self._session.request(method, url, timeout=limits, allow_redirects=False, **options) as response:
                body = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise ModelError(f"Replicate cannot be reached at {self._base_url}: {exc}", transient=True) from exc
        except TimeoutError as exc:
            raise _AnswerLost(f"Replicate did not answer within {timeout:g} s") from exc
        except aiohttp.ClientError as exc:
            raise _AnswerLost(f"the connection to Replicate broke: {exc or type(exc).__name__}") from exc
        answer = _parse(body)
        if response.status >= 300:
            raise _fault(response.status, response.headers, body, answer, self._timing)
        if not (isinstance(answer.get("id"), str) and isinstance(answer.get("status"), str)):
            raise _AnswerLost(f"Replicate answered {response.status} with what is no prediction: {body[:80]!r}")
        return answer


def _output(prediction: Json, *, splittable: bool) -> Any:
    status, error = prediction["status"], str(prediction.get("error") or "no reason given")
    if status == "succeeded":
        return prediction.get("output")
    if status != "failed":
        raise ModelError(f"Replicate ended a prediction as {status}", transient=True)
    out_of_memory = _OUT_OF_MEMORY.search(error)
    if (out_of_memory and not splittable) or (_SERVICE_FAILED.search(error) and not out_of_memory):
        raise ModelError(f"a prediction failed at Replicate: {error[:300]}", transient=True)
    raise PredictionFailed(error[:300])


def _parse(body: bytes) -> Json:
    """Return the JSON object in *body*, an empty one where there is none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _fault(status: int, headers: Mapping[str, str], body: bytes, answer: Json, timing: Timing) -> ModelError:
    detail = str(answer.get("detail") or answer.get("title") or "")[:300]
    message = f"Replicate answered {status}" + (f": {detail}" if detail else "")
    told = _told_pause(headers, answer, detail)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        rate = _RATE.search(detail)
        distance = _SECONDS[rate[2].lower()] / float(rate[1]) if rate and float(rate[1]) else None
        return _RateLimited(message, pause=timing.unsaid_pause if told is None else told, distance=distance)
    if status >= 500 or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY):
        return ModelError(message, transient=True, retry_after=told)
    return ModelError(f"{message}; {_REMEDIES.get(status, 'check REPLICATE_BASE_URL')}", transient=False)


def _told_pause(headers: Mapping[str, str], answer: Json, detail: str) -> float | None:
    """Return for how many seconds the service wants to be left alone, wherever it says so."""
    told = headers.get("Retry-After", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(told))
    with contextlib.suppress(ValueError):
        when = parsedate_to_datetime(told)
        return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    if isinstance(field := answer.get("retry_after"), int | float):
        return max(0.0, float(field))
    found = _PAUSE.search(detail)
    return float(found[1]) if found else None

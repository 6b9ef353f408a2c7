"""Client for predictions over Replicate's HTTP API.

Plain requests instead of the official client, which never retries a POST, polls without a deadline, and reports the
status ``aborted`` as a malformed answer (replicate 1.0.7).
"""

import asyncio
import contextlib
import math
from dataclasses import dataclass
from typing import Any

import aiohttp

from shared.embedders.replicate.api_errors import (
    AnswerLost,
    Json,
    PredictionTimeout,
    parse_object,
    prediction_output,
    response_error,
)
from shared.embedders.replicate.rate_limiter import RateLimiter
from shared.errors import ModelError
from shared.retry import RetryPolicy

_FINISHED = frozenset({"succeeded", "failed", "canceled", "aborted"})


@dataclass(frozen=True)
class Timeouts:
    """Time limits and intervals, in seconds."""

    prediction: float = 300.0  # to finish: a model that has been idle takes minutes to start
    server_wait: int = 60  # that the creating request may wait for the output; Replicate allows 1 to 60
    response: float = 15.0  # of any other request, and of that one beyond its wait
    retry_timeout: float = 120.0  # for retries of one call; later failures are left to the caller
    first_wait: float = 0.5  # upper bound of the first backoff; it doubles up to max_wait
    max_wait: float = 30.0
    poll_interval: float = 0.5  # grows by half each time up to max_poll_interval
    max_poll_interval: float = 5.0


class PredictionClient:
    """Runs predictions of one model, a limited number at once, within Replicate's rate limit.

    ``calls`` counts the predictions made, including those whose answer was lost.
    """

    def __init__(
        self, *, token: str, base_url: str, model: str, version: str | None, concurrency: int, timeouts: Timeouts
    ) -> None:
        """*model* is ``owner/name``. Only Replicate's official models have no *version*."""
        self.calls = 0
        self._token = token
        self._base_url = base_url
        self._path = "/v1/predictions" if version else f"/v1/models/{model}/predictions"
        self._version: Json = {"version": version} if version else {}
        self._timeouts = timeouts
        self._slots = asyncio.Semaphore(concurrency)
        self._limiter = RateLimiter(max_wait=timeouts.retry_timeout)
        self._retry = RetryPolicy(timeouts.first_wait, timeouts.max_wait, timeouts.retry_timeout)
        self._session: aiohttp.ClientSession | None = None

    async def run(self, model_input: Json, *, divisible: bool = False) -> Any:
        """Return the model's output for *model_input*.

        Failures of the service are retried and then raised as a ModelError. Replicate's API has no idempotency key, so
        a prediction whose answer was lost may be paid for twice. Raises PredictionFailed when the model fails on this
        input; for *divisible* input even when memory ran out.
        """
        async with self._slots:
            return await self._retry.run(self._predict, model_input, divisible=divisible)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def _predict(self, model_input: Json, *, divisible: bool) -> Any:
        """Create a prediction and return its output; cancel it on timeout or when the call is cancelled."""
        prediction, deadline = await self._limiter.run(self._create, model_input)
        try:
            async with asyncio.timeout_at(deadline):
                prediction = await self._finish(prediction)
        except TimeoutError as exc:
            await self._cancel(prediction)
            problem = f"no answer within {self._timeouts.prediction:g} s"
            if prediction["status"] == "processing":
                raise PredictionTimeout(problem) from exc
            raise ModelError(f"the model at Replicate did not start: {problem}", transient=True) from exc
        except asyncio.CancelledError:
            await asyncio.shield(self._cancel(prediction))
            raise
        return prediction_output(prediction, divisible=divisible)

    async def _create(self, model_input: Json) -> tuple[Json, float]:
        """Return a new prediction and the time of the event loop by which it must finish."""
        timeouts = self._timeouts
        deadline = asyncio.get_running_loop().time() + timeouts.prediction
        wait = max(1, min(timeouts.server_wait, math.floor(timeouts.prediction)))
        headers = {
            "Prefer": f"wait={wait}",
            # Ends the prediction even if this process dies. Replicate allows no less than 5 s.
            "Cancel-After": f"{max(5, math.ceil(timeouts.prediction))}s",
        }
        body = {**self._version, "input": model_input}
        try:
            prediction = await self._request("POST", self._path, timeouts.response + wait, headers=headers, json=body)
        except AnswerLost:
            self.calls += 1
            raise
        self.calls += 1
        return prediction, deadline

    async def _finish(self, prediction: Json) -> Json:
        """Poll *prediction*, which is updated in place, until it has finished."""
        pause = self._timeouts.poll_interval
        while prediction["status"] not in _FINISHED:
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, self._timeouts.max_poll_interval)
            try:
                # By id, not at the address in `urls`: the token is sent to base_url only.
                path = f"/v1/predictions/{prediction['id']}"
                prediction.update(await self._request("GET", path, self._timeouts.response))
            except ModelError as exc:
                if not exc.transient:
                    raise
                pause = max(pause, exc.retry_after or 0)
        return prediction

    async def _cancel(self, prediction: Json) -> None:
        # The caller is leaving, so failures are ignored: Cancel-After does the same later.
        with contextlib.suppress(ModelError):
            timeout = min(2.0, self._timeouts.response)
            await self._request("POST", f"/v1/predictions/{prediction['id']}/cancel", timeout)

    async def _request(self, method: str, path: str, timeout: float, **options: Any) -> Json:
        """Return the prediction in the answer. Raises ModelError for any other answer and for none."""
        if self._session is None:
            # No limit of connections: the slots limit them.
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._token}"}, connector=aiohttp.TCPConnector(limit=0)
            )
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=self._timeouts.response)
        url = self._base_url + path
        try:
            async with self._session.request(method, url, timeout=limits, allow_redirects=False, **options) as response:
                body = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise ModelError(f"cannot connect to Replicate at {self._base_url}: {exc}", transient=True) from exc
        except TimeoutError as exc:
            raise AnswerLost(f"Replicate did not answer within {timeout:g} s") from exc
        except aiohttp.ClientError as exc:
            raise AnswerLost(f"the connection to Replicate broke: {exc or type(exc).__name__}") from exc
        if response.status >= 300:
            raise response_error(response.status, response.headers, body)
        answer = parse_object(body)
        if not (isinstance(answer.get("id"), str) and isinstance(answer.get("status"), str)):
            raise AnswerLost(f"Replicate answered {response.status} without a prediction: {body[:80]!r}")
        return answer

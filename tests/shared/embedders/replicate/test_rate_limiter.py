"""The rate limiter together with the retry policy of the client, against simulated services in virtual time."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from shared.embedders.replicate.api_errors import RateLimited
from shared.embedders.replicate.rate_limiter import RateLimiter
from shared.errors import ModelError
from shared.retry import RetryPolicy
from tests.helpers.virtual_time import run_in_virtual_time

RETRY = RetryPolicy(first_wait=0.5, max_wait=30.0, timeout=600.0)
LATENCY = 0.25
Hints = Callable[[float, float], tuple[float | None, float | None]]  # (wait, spacing) -> those that the refusal states


def states_wait(wait: float, spacing: float) -> tuple[float | None, float | None]:
    return wait, None


def states_rate(wait: float, spacing: float) -> tuple[float | None, float | None]:
    return wait, spacing


@pytest.fixture(autouse=True)
def _same_jitter() -> None:
    """Draw the same waits of the backoff in every run."""
    random.seed(1)


@dataclass
class Service:
    """A service that answers after LATENCY, with a bucket of *burst* tokens, one more every *spacing* seconds."""

    spacing: float = 0.0
    burst: int = 1
    hints: Hints = states_wait
    refuse_at_random: float = 0.0
    generator: random.Random = field(default_factory=random.Random)
    refilled_at: float = 0.0
    accepted: list[float] = field(default_factory=list)
    refused: int = 0

    async def call(self) -> None:
        now = asyncio.get_running_loop().time()
        if self.generator.random() < self.refuse_at_random:
            self.refused += 1
            raise RateLimited("throttled", retry_after=None, spacing=None)
        free_at = self.refilled_at - (self.burst - 1) * self.spacing
        if now < free_at:
            self.refused += 1
            wait, spacing = self.hints(free_at - now, self.spacing)
            raise RateLimited("throttled", retry_after=wait, spacing=spacing)
        self.refilled_at = max(now, self.refilled_at) + self.spacing
        self.accepted.append(now)
        await asyncio.sleep(LATENCY)


class Caller:
    """Makes calls three at a time, as the client does."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.limiter = RateLimiter(max_wait=120.0)
        self._slots = asyncio.Semaphore(3)

    async def make_calls(self, count: int) -> float:
        """Return the seconds that *count* calls take."""
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(self._call_with_retries() for _ in range(count)))
        return asyncio.get_running_loop().time() - began

    async def _call_with_retries(self) -> None:
        async with self._slots:
            await RETRY.run(self.limiter.run, self.service.call)


def seconds_for(service: Service, count: int) -> float:
    async def run() -> float:
        return await Caller(service).make_calls(count)

    return run_in_virtual_time(run())


def test_calls_without_a_limit_are_never_delayed() -> None:
    assert seconds_for(Service(), 200) == pytest.approx(67 * LATENCY)


@pytest.mark.parametrize("seed", range(5))
def test_random_refusals_without_a_hint_at_most_double_the_time(seed: int) -> None:
    service = Service(refuse_at_random=1 / 8, generator=random.Random(seed))
    assert seconds_for(service, 200) < 2 * seconds_for(Service(), 200)
    assert service.refused > 10


@pytest.mark.parametrize("hints", [states_wait, states_rate])
@pytest.mark.parametrize("per_minute", [6, 600])
@pytest.mark.parametrize("burst", [1, 5])
def test_a_fixed_limit_refuses_at_most_one_call_in_twenty(per_minute: int, hints: Hints, burst: int) -> None:
    service = Service(60 / per_minute, burst, hints)
    seconds = seconds_for(service, 1_000)
    assert service.refused <= 50
    assert seconds < 1.25 * 1_000 * service.spacing


@pytest.mark.parametrize("hints", [states_wait, states_rate])
@pytest.mark.parametrize("per_minute", [6, 600])
def test_full_speed_returns_within_ten_accepted_calls(per_minute: int, hints: Hints) -> None:
    async def run() -> float:
        service = Service(60 / per_minute, hints=hints)
        caller = Caller(service)
        await caller.make_calls(6)
        service.spacing = service.refilled_at = 0.0
        before = len(service.accepted)
        await caller.make_calls(10)
        while len(service.accepted) < before + 10:
            await asyncio.sleep(LATENCY)
        return await caller.make_calls(60)

    assert run_in_virtual_time(run()) < 20 * LATENCY + 0.1


def test_random_refusals_with_a_hint_do_not_slow_calls_down_without_bound() -> None:
    class Moody(Service):
        async def call(self) -> None:
            if self.generator.random() < 1 / 8:
                raise RateLimited("throttled", retry_after=0.1, spacing=None)
            await super().call()

    service = Moody(generator=random.Random(1))
    assert seconds_for(service, 4_000) < 8 * seconds_for(Service(), 4_000)


def test_a_limit_that_is_raised_is_learnt_anew() -> None:
    async def run() -> float:
        service = Service(10.0, hints=states_rate)
        caller = Caller(service)
        await caller.make_calls(10)
        service.spacing, service.refilled_at = 0.1, 0.0
        await caller.make_calls(30)
        return await caller.make_calls(100)

    assert run_in_virtual_time(run()) < 1.25 * 100 * 0.1


def test_a_window_that_is_used_up_does_not_space_calls_by_its_long_wait() -> None:
    """A window of 100 calls a minute asks for a wait of up to a minute, but has accepted many calls."""

    class Window(Service):
        async def call(self) -> None:
            now = asyncio.get_running_loop().time()
            in_window = [sent for sent in self.accepted if sent // 60 == now // 60]
            if len(in_window) >= 100:
                self.refused += 1
                raise RateLimited("throttled", retry_after=60 - now % 60, spacing=None)
            self.accepted.append(now)
            await asyncio.sleep(LATENCY)

    service = Window()
    assert seconds_for(service, 400) < 4.5 * 60
    assert service.refused <= 20


async def refuse(*, retry_after: float, spacing: float | None) -> None:
    raise RateLimited("throttled", retry_after=retry_after, spacing=spacing)


def test_a_refusal_with_a_hint_stops_every_call_for_that_long() -> None:
    async def run() -> list[float]:
        service, limiter = Service(), RateLimiter(max_wait=120.0)
        with pytest.raises(RateLimited):
            await limiter.run(refuse, retry_after=40.0, spacing=1.0)
        await asyncio.gather(*(limiter.run(service.call) for _ in range(3)))
        return service.accepted

    assert run_in_virtual_time(run()) == pytest.approx([42.0, 43.05, 44.1])


def test_a_wait_beyond_the_maximum_is_raised_with_its_length() -> None:
    async def run() -> None:
        limiter = RateLimiter(max_wait=120.0)
        with pytest.raises(RateLimited):
            await limiter.run(refuse, retry_after=3600.0, spacing=None)
        await limiter.run(Service().call)

    with pytest.raises(ModelError) as error:
        run_in_virtual_time(run())
    assert error.value.transient
    assert error.value.retry_after == pytest.approx(3780)

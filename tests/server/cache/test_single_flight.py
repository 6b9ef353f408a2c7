"""The cache with one load per missing value."""

import asyncio
from types import SimpleNamespace

import pytest

from server.cache.single_flight import SingleFlightCache


class Loader:
    """Counts loads, which wait until they are released."""

    def __init__(self) -> None:
        self.loads = 0
        self.released = asyncio.Event()

    async def __call__(self, value: str) -> str:
        self.loads += 1
        await self.released.wait()
        return value


async def test_concurrent_misses_share_a_load_and_later_calls_find_the_value() -> None:
    cache: SingleFlightCache[int, str] = SingleFlightCache(max_entries=1)
    load = Loader()
    load.released.set()
    assert await asyncio.gather(*(cache.get(1, load, "one") for _ in range(5))) == ["one"] * 5
    assert 1 in cache
    assert await cache.get(1, load, "other") == "one"
    assert load.loads == 1


async def test_a_cancelled_caller_does_not_cancel_the_load_of_the_others() -> None:
    cache: SingleFlightCache[int, str] = SingleFlightCache(max_entries=1)
    load = Loader()
    first, second = (asyncio.create_task(cache.get(1, load, "one")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    load.released.set()
    assert await second == "one"
    assert load.loads == 1


async def test_an_error_reaches_all_callers_and_is_not_cached() -> None:
    cache: SingleFlightCache[int, str] = SingleFlightCache(max_entries=1)

    async def fail() -> str:
        raise ValueError("no")

    results = await asyncio.gather(*(cache.get(1, fail) for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError]
    assert 1 not in cache


async def test_values_expire_and_the_least_recently_used_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("server.cache.single_flight.time", SimpleNamespace(monotonic=lambda: now))
    cache: SingleFlightCache[int, str] = SingleFlightCache(max_entries=2, ttl=10)
    load = Loader()
    load.released.set()
    for key in (1, 2, 1, 3):
        await cache.get(key, load, str(key))
    assert [key in cache for key in (1, 2, 3)] == [True, False, True]
    now = 10.0
    assert 3 not in cache


async def test_clearing_discards_the_value_of_a_load_under_way() -> None:
    cache: SingleFlightCache[int, str] = SingleFlightCache(max_entries=1)
    stale = Loader()
    waiting = asyncio.create_task(cache.get(1, stale, "stale"))
    await asyncio.sleep(0)
    cache.clear()
    fresh = Loader()
    fresh.released.set()
    assert await cache.get(1, fresh, "fresh") == "fresh"
    stale.released.set()
    assert await waiting == "stale"
    assert await cache.get(1, fresh, "newer") == "fresh"

"""A cache with expiry that loads each missing value once, however many callers wait for it."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
P = ParamSpec("P")


@dataclass(frozen=True)
class _CacheEntry(Generic[V]):
    value: V
    expires_at: float


class SingleFlightCache(Generic[K, V]):
    """An LRU cache whose entries expire after *ttl* seconds. Belongs to one event loop.

    Concurrent misses on one key share a single load. The load is a task of its own, and its callers await it shielded:
    one caller's cancellation (a client that disconnects) must not cancel the shared task, for which others wait. A
    failed load is not cached; its error reaches all of its callers.
    """

    def __init__(self, *, max_entries: int, ttl: float = math.inf) -> None:
        self._max_entries = max_entries
        self._ttl = ttl
        self._entries: OrderedDict[K, _CacheEntry[V]] = OrderedDict()
        self._loading: dict[K, asyncio.Task[V]] = {}

    def __contains__(self, key: K) -> bool:
        return self._find(key) is not None

    async def get(self, key: K, load: Callable[P, Awaitable[V]], /, *args: P.args, **kwargs: P.kwargs) -> V:
        """Return the cached value, or else the result of ``load(*args, **kwargs)``, which is then cached."""
        if entry := self._find(key):
            return entry.value
        if key not in self._loading:
            self._loading[key] = asyncio.create_task(self._load(key, load, *args, **kwargs))
            self._loading[key].add_done_callback(_retrieve_exception)
        return await asyncio.shield(self._loading[key])

    def clear(self) -> None:
        """Forget all values. Loads under way still reach their callers, but are not cached."""
        self._entries.clear()
        self._loading.clear()

    def _find(self, key: K) -> _CacheEntry[V] | None:
        entry = self._entries.get(key)
        if entry is None or entry.expires_at <= time.monotonic():
            return None
        self._entries.move_to_end(key)
        return entry

    async def _load(self, key: K, load: Callable[P, Awaitable[V]], /, *args: P.args, **kwargs: P.kwargs) -> V:
        try:
            value = await load(*args, **kwargs)
            if self._is_current(key):
                self._store(key, value)
            return value
        finally:
            if self._is_current(key):
                del self._loading[key]

    def _is_current(self, key: K) -> bool:
        """Return whether the running task loads *key* for the cache, which was not cleared since it started."""
        return self._loading.get(key) is asyncio.current_task()

    def _store(self, key: K, value: V) -> None:
        self._entries[key] = _CacheEntry(value, time.monotonic() + self._ttl)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


def _retrieve_exception(task: "asyncio.Task[V]") -> None:
    # Without this asyncio logs the error of a load whose callers have all been cancelled.
    if not task.cancelled():
        task.exception()

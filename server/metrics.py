"""What is measured, for Prometheus.

With several worker processes each keeps its figures in files of a folder that all share, and whichever is asked answers
for all: prometheus-client does so where it finds PROMETHEUS_MULTIPROC_DIR, which ``server --workers`` sets.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from shared.db.pool import Database
from shared.models import Counts

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SAMPLED = 2.0  # seconds between two looks at the pools

disable_created_metrics()  # type: ignore[no-untyped-call]

requests = Counter("image_browser_http_requests", "Requests answered.", ["method", "route", "status"])
seconds = Histogram(
    "image_browser_http_request_seconds", "Time until an answer began.", ["method", "route"], buckets=_SECONDS
)
model_calls = Counter("image_browser_model_calls", "Calls that embed a query.", ["model", "outcome"])
model_seconds = Histogram("image_browser_model_call_seconds", "Time of such a call.", ["model"], buckets=_SECONDS)
query_vectors = Counter(
    "image_browser_query_vectors", "Query vectors asked for, by where they were found.", ["found_in"]
)
pages = Counter(
    "image_browser_pages",
    "Pages of lists asked for: kept from before, as nothing was written since, or looked for.",
    ["outcome"],
)
listeners = Gauge(
    "image_browser_stats_listeners", "Clients that follow a collection's figures.", multiprocess_mode="livesum"
)
pool_connections = Gauge(
    "image_browser_pool_connections", "Database connections.", ["database", "state"], multiprocess_mode="livesum"
)
pool_waiting = Gauge(
    "image_browser_pool_waiting", "Requests that wait for a connection.", ["database"], multiprocess_mode="livesum"
)


@contextmanager
def model_call(model: str) -> Iterator[None]:
    """Count and time a call of *model*."""
    outcome = "failed"
    try:
        with model_seconds.labels(model).time():
            yield
        outcome = "answered"
    finally:
        model_calls.labels(model, outcome).inc()


async def watch_pools(database: Database) -> None:
    """Keep the figures of the connection pools up to date, until cancelled."""
    _forget_dead_workers()
    while True:
        for name, usage in database.usage().items():
            pool_connections.labels(name, "in_use").set(usage.in_use)
            pool_connections.labels(name, "idle").set(usage.idle)
            pool_waiting.labels(name).set(usage.waiting)
        await asyncio.sleep(SAMPLED)


def exposition(counts: Mapping[str, Counts]) -> bytes:
    """Return all figures in Prometheus' text format, *counts* being those of each bucket at this moment."""
    registry = REGISTRY
    if SHARED_FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    present = CollectorRegistry()
    present.register(_Images(counts))
    return generate_latest(registry) + generate_latest(present)


class _Images(Collector):
    def __init__(self, counts: Mapping[str, Counts]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        images = GaugeMetricFamily("image_browser_images", "Images by bucket and state.", labels=["bucket", "state"])
        for bucket, counts in self._counts.items():
            for state in ("embedded", "pending", "failed"):
                images.add_metric([bucket, state], getattr(counts, state))
        yield images


def _forget_dead_workers() -> None:
    """Remove what a worker that died said of itself: the one in its place begins with this."""
    if folder := os.environ.get(SHARED_FOLDER):
        for process in {int(path.stem.rpartition("_")[2]) for path in Path(folder).glob("gauge_live*.db")}:
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                mark_process_dead(process)  # type: ignore[no-untyped-call]

"""Metrics for Prometheus.

Several worker processes share a folder of files with their values, so that each can report the sum: prometheus-client
does so if PROMETHEUS_MULTIPROC_DIR is set, as ``server --workers`` does.
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

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
POOL_SAMPLE_INTERVAL = 2.0  # seconds

disable_created_metrics()  # type: ignore[no-untyped-call]

requests = Counter("image_browser_http_requests", "HTTP requests.", ["method", "route", "status"])
seconds = Histogram(
    "image_browser_http_request_seconds",
    "Time to the first byte of the response.",
    ["method", "route"],
    buckets=_BUCKETS,
)
model_calls = Counter("image_browser_model_calls", "Model calls for queries.", ["model", "outcome"])
model_seconds = Histogram(
    "image_browser_model_call_seconds", "Duration of model calls for queries.", ["model"], buckets=_BUCKETS
)
query_vectors = Counter(
    "image_browser_query_vectors", "Lookups of query vectors, by the cache that had them.", ["found_in"]
)
listeners = Gauge(
    "image_browser_stats_listeners", "Clients connected to a progress stream.", multiprocess_mode="livesum"
)
pool_connections = Gauge(
    "image_browser_pool_connections", "Database connections.", ["database", "state"], multiprocess_mode="livesum"
)
pool_waiting = Gauge(
    "image_browser_pool_waiting",
    "Requests waiting for a database connection.",
    ["database"],
    multiprocess_mode="livesum",
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
    """Update the metrics of the connection pools until cancelled."""
    _remove_dead_workers()
    while True:
        for name, usage in database.usage().items():
            pool_connections.labels(name, "in_use").set(usage.in_use)
            pool_connections.labels(name, "idle").set(usage.idle)
            pool_waiting.labels(name).set(usage.waiting)
        await asyncio.sleep(POOL_SAMPLE_INTERVAL)


def exposition(counts: Mapping[str, Counts]) -> bytes:
    """Return all metrics in Prometheus' text format; *counts* are the current ones of each bucket."""
    registry = REGISTRY
    if MULTIPROCESS_FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry) + generate_latest(_ImageCounts(counts))


class _ImageCounts(Collector):
    def __init__(self, counts: Mapping[str, Counts]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        images = GaugeMetricFamily("image_browser_images", "Images by bucket and state.", labels=["bucket", "state"])
        for bucket, counts in self._counts.items():
            for state in ("embedded", "pending", "failed"):
                images.add_metric([bucket, state], getattr(counts, state))
        yield images


def _remove_dead_workers() -> None:
    """Remove the gauges of workers that died; their replacement calls this at its start."""
    if folder := os.environ.get(MULTIPROCESS_FOLDER):
        for process in {int(path.stem.rpartition("_")[2]) for path in Path(folder).glob("gauge_live*.db")}:
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                mark_process_dead(process)  # type: ignore[no-untyped-call]

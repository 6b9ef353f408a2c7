"""Progress of a collection: counts, speed, time left and costs."""

from dataclasses import asdict, dataclass
from typing import Any

from shared.db.pool import Connection
from shared.models import Collection
from shared.sql import stats


@dataclass(frozen=True)
class Price:
    """Estimated price of a model in US dollars. A call may embed several images."""

    per_call: float
    per_image: float


@dataclass(frozen=True)
class Status:
    """Progress of a collection.

    ``total`` and ``failed`` include the ``rejected`` files that could not become images. ``rate_per_minute`` covers the
    last minutes and is 0 if nothing is pending; ``eta_seconds`` is None if the rate is 0. ``active`` says that images
    are pending and a syncer is at work on them. Costs are estimates in US dollars, from the number of model calls and
    the model's usual price.
    """

    bucket: str
    model: str
    total: int
    embedded: int
    pending: int
    failed: int
    rejected: int
    reasons: dict[str, int]
    rate_per_minute: float
    eta_seconds: float | None
    active: bool
    cost_so_far: float
    cost_to_go: float

    def as_json(self) -> dict[str, Any]:
        """Return the members of the JSON object."""
        return asdict(self)


async def read(conn: Connection, collection: Collection, price: Price) -> Status:
    """Return the collection's current status."""
    counts = await stats.counts(conn, collection)
    rate = await stats.rate_per_minute(conn, collection)
    if not counts.pending:
        rate = 0.0
    calls = await stats.calls(conn, collection) if price.per_call else 0
    return Status(
        bucket=collection.bucket,
        model=collection.model,
        **asdict(counts),
        reasons=await stats.reasons(conn, collection) if counts.failed else {},
        rate_per_minute=round(rate, 1),
        eta_seconds=round(counts.pending / rate * 60, 1) if rate else None,
        active=counts.pending > 0 and await stats.is_active(conn, collection),
        cost_so_far=round(calls * price.per_call, 6),
        cost_to_go=round(counts.pending * price.per_image, 6),
    )


def format_status(status: Status) -> str:
    """Return counts, speed, time left and costs in one line for people."""
    counts = f"{status.embedded:,} of {status.total:,} embedded, {status.pending:,} pending, {status.failed:,} failed"
    return "; ".join(filter(None, [counts, format_speed(status)]))


def format_speed(status: Status) -> str:
    """Return speed, time left and costs for people; empty if there is nothing to report."""
    parts = []
    if status.rate_per_minute and status.eta_seconds is not None:
        parts.append(f"{status.rate_per_minute:,.0f} per minute, about {_duration(status.eta_seconds)} left")
    if status.cost_so_far or status.cost_to_go:
        parts.append(f"about ${status.cost_so_far:.2f} so far, ${status.cost_to_go:.2f} to go")
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"

"""How fast a collection fills, how long it will take, and what it costs; the same figures everywhere they are shown."""

from dataclasses import dataclass

from shared.model import Counts


@dataclass(frozen=True)
class Price:
    """What a model charges, in US dollars: estimates. A call may embed several images."""

    per_call: float
    per_image: float


@dataclass(frozen=True)
class Speed:
    """``rate_per_minute`` is measured over the last minutes, 0 when nothing is left; then ``eta_seconds`` is None.

    Costs are estimates in US dollars, from the number of model calls and the model's usual price.
    """

    rate_per_minute: float
    eta_seconds: float | None
    cost_so_far: float
    cost_to_go: float


def speed(counts: Counts, *, rate_per_minute: float, calls: int, price: Price) -> Speed:
    """Return the figures for a collection that has *counts*."""
    moving = counts.pending > 0 and rate_per_minute > 0
    return Speed(
        rate_per_minute=round(rate_per_minute, 1) if moving else 0.0,
        eta_seconds=round(counts.pending / rate_per_minute * 60, 1) if moving else None,
        cost_so_far=round(calls * price.per_call, 6),
        cost_to_go=round(counts.pending * price.per_image, 6),
    )

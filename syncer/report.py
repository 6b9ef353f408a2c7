"""What commands print as their result: text for people, one JSON object for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from shared.model import Collection, Counts, Failure
from shared.progress import Speed
from syncer.doctor import Finding


def as_json(result: Any) -> None:
    """Print one JSON object."""
    print(json.dumps(result, default=lambda value: value.isoformat() if isinstance(value, datetime) else str(value)))


def status_of(collection: Collection, counts: Counts, reasons: dict[str, int], speed: Speed) -> dict[str, Any]:
    """Return one collection's status as programs read it."""
    return (
        {"bucket": collection.bucket, "model": collection.model} | asdict(counts) | {"reasons": reasons} | asdict(speed)
    )


def status(collections: Sequence[dict[str, Any]]) -> None:
    """Print how far collections are."""
    if not collections:
        print("There is no collection yet: `syncer sync DIR --bucket NAME` makes one.")
    for c in collections:
        print(
            f"{c['bucket']}: {c['total']} images,"
            f" {c['embedded']} embedded, {c['pending']} pending, {c['failed']} failed"
        )
        if c["pending"]:
            print(f"  {speed(c)}")
        for reason, n in c["reasons"].items():
            print(f"  failed: {n} {reason}")
        if c["cost_so_far"] or c["cost_to_go"]:
            print(f"  cost, estimated: ${c['cost_so_far']:.2f} so far, ${c['cost_to_go']:.2f} to go")


def speed(c: dict[str, Any]) -> str:
    """Return rate and remaining time in words."""
    if not c["rate_per_minute"] or c["eta_seconds"] is None:
        return "nothing was embedded in the last minutes: `syncer embed` goes on"
    return f"{c['rate_per_minute']:.0f} a minute, about {duration(c['eta_seconds'])} to go"


def duration(seconds: float) -> str:
    """Return a number of seconds in the words that people use."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}s"
    return f"{seconds:.0f} s"


def collections(rows: Sequence[Collection]) -> None:
    """Print which collections there are."""
    for c in rows:
        print(f"{c.bucket}  {c.model}  {c.dimensions} dimensions")


def findings(rows: Sequence[Finding]) -> None:
    """Print what checks found, a line each."""
    for finding in rows:
        print(f"{'ok ' if finding.ok else 'BAD'}  {finding.name}: {finding.detail}")


def failures(rows: Sequence[Failure]) -> None:
    """Print what was given up."""
    for f in rows:
        print(
            f"{f.key}: {f.reason}: {f.detail} (tried {f.attempts} times)"
            if f.attempts > 1
            else f"{f.key}: {f.reason}: {f.detail}"
        )

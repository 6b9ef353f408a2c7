"""Print the results of commands: text for people, one JSON object for programs."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from shared.collection_status import Status, format_status
from shared.models import Failure
from syncer.dry_run import Kind, Plan


@dataclass(frozen=True)
class ReEmbedding:
    """State and status of a collection's second set of vectors."""

    state: Literal["preparing", "filling", "previous"]
    status: Status


def print_json(result: Any) -> None:
    """Print one JSON object."""
    print(json.dumps(result, default=lambda value: value.isoformat() if isinstance(value, datetime) else str(value)))


def print_sync_summary(status: Status, done: Counter[str], *, gone: int | None, withheld: str, as_json: bool) -> None:
    """Print what a run did (*done*, by kind) and the collection's status.

    *gone* counts the adopted images whose objects are missing, None if that was not checked; *withheld* is the reason
    why requested deletions were not made.
    """
    if as_json:
        counts = {kind: done[kind] for kind in ("uploaded", "adopted", "moved", "deleted", "unchanged")}
        rest = {"embedded_now": done["embedded"], "gone": gone, "withheld": withheld or None}
        print_json(status.as_json() | counts | rest)
    else:
        rare = [kind for kind in ("adopted", "moved", "deleted") if done[kind]]
        print(", ".join(f"{done[kind]:,} {kind}" for kind in ("uploaded", *rare, "unchanged", "embedded")))
        print_status(status)
    if withheld:
        print(f"syncer: {withheld}", file=sys.stderr)


async def print_dry_run(bucket: str, plan: Plan, *, as_json: bool) -> None:
    """Print what a run would do: a line for each file that is not unchanged, and the number of files of each kind."""
    counts: Counter[str] = Counter()
    steps = []
    async for step in plan.steps():
        counts[step.kind] += 1
        if as_json and step.kind != "unchanged":
            steps.append({"action": step.kind, "path": step.path, **({"detail": step.detail} if step.detail else {})})
        elif step.kind == "moved":
            print(f"{step.kind:<11}{_printable(step.detail)} -> {_printable(step.path)}")
        elif step.kind != "unchanged":
            detail = f": {step.detail}" if step.detail else ""
            print(f"{step.kind:<11}{_printable(step.path + detail)}")
    totals = {kind: counts[kind] for kind in get_args(Kind)}
    if as_json:
        withheld = plan.withheld or None
        print_json({"bucket": bucket, "dry_run": True, **totals, "withheld": withheld, "files": steps})
        return
    print(f"{bucket}: {', '.join(f'{n} {kind}' for kind, n in totals.items())}; nothing was changed")
    if plan.withheld:
        print(plan.withheld)


def _printable(text: str) -> str:
    """Return *text* with control characters and lone surrogates escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def print_status(status: Status, re_embedding: ReEmbedding | None = None) -> None:
    """Print the progress of a collection, and of its second set of vectors."""
    print(f"{status.bucket}: {format_status(status)}")
    if status.pending and not status.rate_per_minute:
        print("  nothing was embedded recently; run `syncer embed` to continue")
    for reason, count in status.reasons.items():
        print(f"  failed: {count:,} {reason}")
    match re_embedding:
        case ReEmbedding("preparing", following):
            print(f"  re-embedding with {following.model}: preparing")
        case ReEmbedding("filling", following):
            print(f"  re-embedding with {following.model}: {format_status(following)}")
        case ReEmbedding("previous", previous):
            print(f"  previous vectors of {previous.model}: reembed --rollback restores, --forget deletes them")


def print_failures(rows: Sequence[Failure]) -> None:
    """Print each quarantined image or file on a line."""
    for row in rows:
        attempts = f" ({row.attempts} attempts)" if row.attempts > 1 else ""
        print(_printable(f"{row.key}: {row.reason}: {row.detail}{attempts}"))

"""Print the results of commands: text for people, one JSON object for programs."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, get_args

from shared.collection_status import Status, format_status
from shared.models import Failure
from shared.printable import printable
from syncer.dry_run import Kind, Plan


def print_result(result: dict[str, Any], *lines: str, as_json: bool) -> None:
    """Print one JSON object, or the same result as *lines* for people."""
    if as_json:
        print(json.dumps(result, default=datetime.isoformat))
    elif lines:
        print("\n".join(lines))


def print_sync_summary(
    status: Status, done: Counter[str], skipped: Counter[str], *, gone: int | None, withheld: str, as_json: bool
) -> None:
    """Print what a run did (*done*, by kind), what it *skipped* (by type), and the collection's status.

    *gone* counts the adopted images whose objects are missing, None if that was not checked; *withheld* is the reason
    why requested deletions were not made.
    """
    counts = {kind: done[kind] for kind in ("uploaded", "adopted", "moved", "described", "deleted", "unchanged")}
    rest = {
        "embedded_now": done["embedded"],
        "read_now": done["read"],
        "gone": gone,
        "withheld": withheld or None,
        "skipped": skipped,
    }
    rare = [kind for kind in ("adopted", "moved", "described", "deleted") if done[kind]]
    last = ["read"] if done["read"] else []
    print_result(
        status.as_json() | counts | rest,
        ", ".join(f"{done[kind]:,} {kind}" for kind in ("uploaded", *rare, "unchanged", "embedded", *last)),
        *format_skipped(skipped),
        *format_collection(status),
        as_json=as_json,
    )
    if withheld:
        print(f"syncer: {withheld}", file=sys.stderr)


async def print_dry_run(bucket: str, plan: Plan, *, verbose: bool = False, as_json: bool) -> None:
    """Print what a run would do: a line for each file that changes, and the number of files of each kind.

    *verbose* adds a line for each skipped file.
    """
    counts: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    steps = []
    async for step in plan.steps():
        counts[step.kind] += 1
        if step.kind == "skipped":
            skipped[step.detail] += 1
            if not verbose:
                continue
        if as_json and step.kind != "unchanged":
            steps.append({"action": step.kind, "path": step.path, **({"detail": step.detail} if step.detail else {})})
        elif step.kind == "moved":
            print(f"{step.kind:<11}{printable(step.detail)} -> {printable(step.path)}")
        elif step.kind != "unchanged":
            detail = f": {step.detail}" if step.detail else ""
            print(f"{step.kind:<11}{printable(step.path + detail)}")
    totals = {kind: counts[kind] for kind in get_args(Kind)}
    print_result(
        {"bucket": bucket, "dry_run": True, **totals, "withheld": plan.withheld or None, "files": steps},
        f"{bucket}: {', '.join(f'{n} {kind}' for kind, n in totals.items())}; nothing was changed",
        *format_skipped(skipped),
        *filter(None, [plan.withheld]),
        as_json=as_json,
    )


def format_skipped(skipped: Counter[str]) -> Iterator[str]:
    """Yield a line that counts skipped files by type, if there are any."""
    if skipped:
        kinds = ", ".join(f"{n:,} {printable(kind)}" for kind, n in skipped.most_common())
        yield f"{skipped.total():,} other files skipped: {kinds}"


def format_collection(status: Status) -> Iterator[str]:
    """Yield lines about the progress of a collection."""
    yield f"{status.bucket}: {format_status(status)}"
    if status.pending and not status.rate_per_minute:
        yield "  nothing was embedded recently; run `syncer embed` to continue"
    for reason, count in status.reasons.items():
        yield f"  failed: {count:,} {reason}"


def format_failures(failures: Sequence[Failure]) -> Iterator[str]:
    """Yield a line for each quarantined image or rejected file."""
    for failure in failures:
        attempts = f" ({failure.attempts} attempts)" if failure.attempts > 1 else ""
        yield printable(f"{failure.key}: {failure.reason}: {failure.detail}{attempts}")

"""What commands print as their result: text for people, one JSON object for programs."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from shared.model import Collection, Failure
from shared.progress import Status, words
from syncer.doctor import Finding


def as_json(result: Any) -> None:
    """Print one JSON object."""
    print(json.dumps(result, default=lambda value: value.isoformat() if isinstance(value, datetime) else str(value)))


def status(rows: Sequence[Status]) -> None:
    """Print how far collections are."""
    if not rows:
        print("There is no collection yet: `syncer sync DIR --bucket NAME` makes one.")
    for row in rows:
        counts = f"{row.embedded} embedded, {row.pending} pending, {row.failed} failed"
        print(f"{row.bucket}: {row.total} images, {counts}")
        if line := words(row):
            print(f"  {line}")
        elif row.pending:
            print("  nothing was embedded in the last minutes: `syncer embed` goes on")
        for reason, n in row.reasons.items():
            print(f"  failed: {n} {reason}")


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

"""What commands print as their result: text for people, one JSON object for programs."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

from shared.collection_status import Status, words
from shared.models import Collection, Failure, NextEmbeddings
from shared.sql.calibrations import Calibration
from syncer.doctor import Finding
from syncer.folder.dry_run import BucketPreview, Kind, Preview


def as_json(result: Any) -> None:
    """Print one JSON object."""
    print(json.dumps(result, default=lambda value: value.isoformat() if isinstance(value, datetime) else str(value)))


async def dry_run(preview: Preview | BucketPreview, *, as_one_object: bool) -> None:
    """Print what a run would do: a line per file that is not unchanged, and how many there are of each kind."""
    counts: Counter[str] = Counter()
    steps = []
    async for step in preview.steps():
        counts[step.kind] += 1
        if as_one_object and step.kind != "unchanged":
            steps.append({"action": step.kind, "path": step.path, **({"detail": step.detail} if step.detail else {})})
        elif step.kind == "moved":
            print(f"{step.kind:<11}{_printable(step.detail)} -> {_printable(step.path)}")
        elif step.kind != "unchanged":
            detail = f": {step.detail}" if step.detail else ""
            print(f"{step.kind:<11}{_printable(step.path + detail)}")
    totals = {kind: counts[kind] for kind in get_args(Kind)}
    if as_one_object:
        withheld = preview.withheld or None
        as_json({"bucket": preview.bucket, "dry_run": True, **totals, "withheld": withheld, "files": steps})
        return
    print(f"{preview.bucket}: {', '.join(f'{n} {kind}' for kind, n in totals.items())}; nothing was changed")
    if preview.withheld:
        print(preview.withheld)


def _printable(text: str) -> str:
    """Return *text* with what would move a terminal's cursor, or is no character, written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def status(rows: Sequence[Status], beside: Mapping[str, tuple[NextEmbeddings, Status]] | None = None) -> None:
    """Print how far collections are, and the vectors that lie *beside* those of some buckets."""
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
        if beside and row.bucket in beside:
            _beside(*beside[row.bucket])


def _beside(shadow: NextEmbeddings, row: Status) -> None:
    match shadow.state:
        case "preparing":
            print(f"  being re-embedded with {row.model}: preparing")
        case "filling":
            done = f"{row.embedded} embedded, {row.pending} pending, {row.failed} failed"
            print("; ".join(filter(None, [f"  being re-embedded with {row.model}: {done}", words(row)])))
        case "previous":
            print(
                f"  the vectors of {row.model} are kept: `syncer reembed` --rollback goes back, --forget removes them"
            )


def collections(rows: Sequence[Collection]) -> None:
    """Print which collections there are."""
    for c in rows:
        print(f"{c.bucket}  {c.model}  {c.dimensions} dimensions")


def calibration(collection: Collection, measured: Calibration, *, own_background: bool) -> None:
    """Print what chance reaches in a collection."""
    print(
        f"{collection.bucket}: texts without meaning reach a cosine of {measured.words_level:.3f}, images picked at"
        f" random have {measured.image_level:.3f}; servers mark what is below as weak, within a minute"
    )
    if own_background:
        print(f"{collection.model} has a background of its own, by which servers judge instead")


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

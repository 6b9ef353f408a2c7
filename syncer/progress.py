"""Progress display: a live bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Literal, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID
from rich.progress import Progress as RichProgress

from shared.collection_status import Status, format_speed, format_status
from shared.errors import ImageRefused
from shared.printable import printable

ProgressKind = Literal[
    "uploaded", "adopted", "moved", "described", "deleted", "unchanged", "embedded", "read", "failed"
]

LINE_INTERVAL = 10.0  # seconds between two plain lines


class Progress:
    """Counts what a run does and shows it on standard error."""

    def __init__(self, stream: TextIO = sys.stderr, *, quiet: bool = False, verbose: bool = False) -> None:
        """*quiet* shows nothing; *verbose* names each skipped file."""
        self.counts: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()  # by kind
        self._verbose = verbose
        self._stream = stream
        self._quiet = quiet
        self._last_outage = ""
        self._outage_began = datetime.now()
        self._last_line = ""
        self._last_line_at = time.monotonic()
        self._bar: RichProgress | None = None
        self._task = TaskID(0)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the bar during the block, if the stream is a terminal."""
        if self._quiet or not self._stream.isatty():
            yield
            return
        columns = ("Embedding", BarColumn(), MofNCompleteColumn(), "{task.fields[details]}")
        with RichProgress(*columns, console=Console(file=self._stream), transient=True) as self._bar:
            self._task = self._bar.add_task("", total=None, details="")
            yield
        self._bar = None

    def count(self, kind: ProgressKind, n: int = 1) -> None:
        """Count files, objects or images; ``failed`` counts those rejected by an earlier run as well."""
        self.counts[kind] += n
        self._last_outage = ""

    def report_failure(self, name: str, refusal: ImageRefused) -> None:
        """Count and report a rejected file or a quarantined image."""
        self.count("failed")
        self.say(f"{name}: {refusal.reason}: {refusal.detail}")

    def report_skipped(self, path: str, kind: str) -> None:
        """Count a skipped file or object."""
        self.skipped[kind] += 1
        if self._verbose:
            self.say(f"{path}: skipped: {kind}")

    def report_outage(self, reason: str) -> None:
        """Report an outage and its beginning, once until the run makes progress or the reason changes."""
        if not self._last_outage:
            self._outage_began = datetime.now()
        if reason != self._last_outage:
            self._last_outage = reason
            self.say(f"{reason} (since {self._outage_began:%H:%M:%S})")

    def say(self, text: str) -> None:
        """Print one line, with control characters escaped."""
        if self._quiet:
            return
        if self._bar:
            self._bar.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
        else:
            print(printable(text), file=self._stream, flush=True)

    def show_status(self, status: Status) -> None:
        """Show the status of the whole collection."""
        if self._bar:
            total, details = status.total - status.failed, self._with_counts(format_speed(status))
            self._bar.update(self._task, total=total, completed=status.embedded, details=details)
        elif time.monotonic() - self._last_line_at > LINE_INTERVAL:
            self._last_line_at = time.monotonic()
            line = self._with_counts(format_status(status))
            if line != self._last_line:  # a watch may be idle for days
                self._last_line = line
                self.say(line)

    def _with_counts(self, text: str) -> str:
        counted = ", ".join(f"{n:,} {kind}" for kind, n in self.counts.items() if kind != "embedded" and n)
        return "; ".join(filter(None, [text, counted]))

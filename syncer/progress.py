"""What a run tells while it goes on: a live bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from shared.collection_status import Status, words
from shared.errors import ImageRefused

LINE_INTERVAL = 10.0  # seconds between two plain lines


class Progress:
    """Counts what a run does and shows it on standard error."""

    def __init__(self, stream: TextIO = sys.stderr, *, quiet: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self._stream = stream
        self._quiet = quiet
        self._waiting = ""
        self._last_line = time.monotonic()
        self._words = ""
        self._line = ""
        self._bar: RichProgress | None = None
        self._task = TaskID(0)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show progress while the block lasts."""
        if self._quiet or not self._stream.isatty():
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("vectors"),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with RichProgress(*columns, console=Console(file=self._stream), transient=True) as self._bar:
            self._task = self._bar.add_task("Embedding", total=None, note="")
            yield
        self._bar = None

    def uploaded(self) -> None:
        """Count a file that was uploaded."""
        self._count("uploaded")

    def adopted(self) -> None:
        """Count an object of the bucket that was indexed."""
        self._count("adopted")

    def moved(self) -> None:
        """Count a file whose image has come with it from another name."""
        self._count("moved")

    def deleted(self, images: int) -> None:
        """Count images that were removed because their files are gone."""
        self._count("deleted", images)

    def kept(self) -> None:
        """Count a file or object that is as it was."""
        self._count("unchanged")

    def embedded(self, images: int) -> None:
        """Count images that got their vector."""
        self._count("embedded", images)

    def failed(self, name: str, refusal: ImageRefused) -> None:
        """Report a file or image that was given up, by name."""
        self._count("failed")
        self.say(f"{name}: {refusal.reason}: {refusal.detail}")

    def rejected_before(self) -> None:
        """Count a file or object that was given up in a former run and has not changed since."""
        self._count("failed")

    def waiting(self, why: str) -> None:
        """Say that the run waits for a service, once for each thing waited for."""
        if why != self._waiting:
            self._waiting = why
            self.say(why)

    def say(self, text: str) -> None:
        """Print one line."""
        if self._quiet:
            return
        printable = text.encode("utf-8", "backslashreplace").decode()
        printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in printable)
        if self._bar:
            self._bar.console.print(printable, markup=False, highlight=False, soft_wrap=True)
        else:
            print(printable, file=self._stream, flush=True)

    def measured(self, status: Status) -> None:
        """Show how far the whole collection is."""
        self._words = words(status)
        if self._bar:
            total = status.total - status.failed
            self._bar.update(self._task, total=total, completed=status.embedded, note=self._note())
        elif time.monotonic() - self._last_line > LINE_INTERVAL:
            self._last_line = time.monotonic()
            line = f"{status.embedded} of {status.total} embedded, {status.pending} pending; {self._note()}"
            if line != self._line:  # a watch can have nothing to do for days
                self._line = line
                self.say(line)

    def _count(self, what: str, n: int = 1) -> None:
        self.counts[what] += n
        self._waiting = ""
        if self._bar:
            self._bar.update(self._task, note=self._note())

    def _note(self) -> str:
        counted = [f"{n} {what}" for what, n in self.counts.items() if what != "embedded" and n]
        return "; ".join(filter(None, [self._words, ", ".join(counted)]))

"""The progress display where standard error is not a terminal."""

import io
import re

from shared.errors import ImageRefused, Reason
from syncer.progress import Progress


def test_a_failure_is_counted_and_reported_without_control_characters() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress.report_failure("a\x1b[2J\udcff.jpg", ImageRefused(Reason.CORRUPT, "truncated"))
    assert stream.getvalue() == "a\\x1b[2J\\udcff.jpg: corrupt: truncated\n"
    assert progress.counts == {"failed": 1}


def test_an_outage_is_reported_once_until_the_run_continues() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    progress.report_outage("waiting: no connection")
    progress.report_outage("waiting: no connection")
    assert re.fullmatch(r"waiting: no connection \(since \d\d:\d\d:\d\d\)\n", stream.getvalue())
    progress.count("embedded")
    progress.report_outage("waiting: no connection")
    assert stream.getvalue().count("waiting: no connection (since ") == 2


def test_a_quiet_display_prints_nothing() -> None:
    stream = io.StringIO()
    Progress(stream, quiet=True).say("uploading")
    assert stream.getvalue() == ""

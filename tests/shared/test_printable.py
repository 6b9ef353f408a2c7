"""Log lines about files whose names contain control characters."""

import io
import logging

from shared.printable import PrintableFormatter


def test_a_name_cannot_forge_a_log_line_or_control_the_terminal() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    log = logging.Logger("test")
    log.addHandler(handler)
    try:
        raise ValueError("a\x1b[2J")
    except ValueError:
        log.exception("%s failed", "a\n\x1b[31m\x9b\udcff\u202e.jpg")
    first, *traceback = stream.getvalue().splitlines()
    assert first == r"ERROR a\n\x1b[31m\x9b\udcff\u202e.jpg failed"
    assert traceback[0].startswith("Traceback")
    assert traceback[-1] == r"ValueError: a\x1b[2J"

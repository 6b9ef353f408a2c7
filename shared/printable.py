"""Text that is safe to print, since names of files may contain control characters."""

import logging
from typing import Any


def printable(text: str) -> str:
    """Return *text* with control characters and lone surrogates escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class PrintableFormatter(logging.Formatter):
    """Formats log records with control characters escaped; only tracebacks have several lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(printable(line) for line in super().formatException(ei).split("\n"))

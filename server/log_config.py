"""Logging: text on a terminal, JSON elsewhere, each line with the id of its request.

No line contains a search text or a token: of a request's URL only the route is logged.
"""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from shared.printable import PrintableFormatter

request_id: ContextVar[str] = ContextVar("request_id", default="")

LogFormat = Literal["text", "json"]


def configure(log_format: LogFormat | None) -> None:
    """Send the log of this process to stderr. Without a *log_format*, use JSON unless stderr is a terminal."""
    handler = logging.StreamHandler()
    as_json = log_format == "json" or (log_format is None and not sys.stderr.isatty())
    handler.setFormatter(_JsonFormatter() if as_json else _TextFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("uvicorn.error", "sse_starlette"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _JsonFormatter(logging.Formatter):
    """One JSON object per line; the ``fields`` of a record become members."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identifier := request_id.get():
            line["request_id"] = identifier
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _TextFormatter(PrintableFormatter):
    def format(self, record: logging.LogRecord) -> str:
        identifier = request_id.get()
        return super().format(record) + (f" [{identifier}]" if identifier else "")

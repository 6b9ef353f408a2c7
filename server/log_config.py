"""Log lines: sentences on a terminal, JSON elsewhere, each with the id of the request that it belongs to.

No line holds what people search for, nor a token: of a request's address only the route is logged.
"""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

request_id: ContextVar[str] = ContextVar("request_id", default="")

Format = Literal["text", "json"]


def configure(chosen: Format | None) -> None:
    """Send the log of this process to stderr, in the *chosen* format; unset, JSON where stderr is no terminal."""
    handler = logging.StreamHandler()
    as_json = chosen == "json" or (chosen is None and not sys.stderr.isatty())
    handler.setFormatter(_JsonLines() if as_json else _Sentences("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("uvicorn.error", "sse_starlette"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _JsonLines(logging.Formatter):
    """One JSON object a line; what a record's ``fields`` hold stands beside the rest."""

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
        return json.dumps(line, ensure_ascii=False, default=str)


class _Sentences(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        identifier = request_id.get()
        return super().format(record) + (f" [{identifier}]" if identifier else "")

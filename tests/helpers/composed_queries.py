"""Composed queries and uploaded pictures, sent to the collection ``b`` of a server."""

from pathlib import Path
from typing import Any

import httpx2

from tests.helpers.processes import Server


def post_terms(server: Server, *terms: dict[str, Any], **parameters: Any) -> httpx2.Response:
    """Return the response to a composed query."""
    return server.http.post("/api/search", json={"bucket": "b", "terms": list(terms), **parameters})


def find(server: Server, *terms: dict[str, Any], **parameters: Any) -> list[dict[str, Any]]:
    """Return the images that a composed query finds."""
    response = post_terms(server, *terms, **{"limit": 200} | parameters)
    assert response.status_code == 200, response.text
    images: list[dict[str, Any]] = response.json()["images"]
    return images


def names(images: list[dict[str, Any]]) -> list[str]:
    """Return the images' file names without extension."""
    return [Path(image["key"]).stem for image in images]


def upload(server: Server, content: bytes, *, bucket: str = "b") -> httpx2.Response:
    """Return the response to an uploaded picture."""
    headers = {"Content-Type": "image/png"}
    return server.http.post("/api/query-images", params={"bucket": bucket}, content=content, headers=headers)

"""Style sheets, scripts and icons, under an address that changes when any of them does."""

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).parents[1] / "static"


def _version_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


class StaticAssets:
    """Serves ``/static/{version}/…``, the version being a hash of all files: relative imports inherit it."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._version = _version_of(folder)
        self._files = StaticFiles(directory=folder)

    def address(self, path: str) -> str:
        """Return the address of the file *path*."""
        return f"/static/{self._version}/{path}"

    async def serve(self, request: Request) -> Response:
        """GET /static/{version}/{path}. Any version is answered, so that a deploy does not break open pages."""
        response = await self._files.get_response(request.path_params["path"], request.scope)
        # But only ours is for ever: else a deploy could put old code under a new name into caches.
        current = request.path_params["version"] == self._version
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if current else "no-cache"
        return response

"""Style sheets, scripts and icons, under a URL that changes with their content."""

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from server.page_assets import join_modules, join_sheets

FOLDER = Path(__file__).parents[1] / "static"


class StaticAssets:
    """Serve ``/static/{version}/…``. The version is a hash of all files, so that relative imports inherit it."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._version = _hash_of(folder)
        self._files = StaticFiles(directory=folder)
        self._joined = {
            "css/gallery.css": (join_sheets(folder / "css/gallery.css"), "text/css"),
            "js/gallery.js": (join_modules(folder / "js/gallery.js"), "text/javascript"),
            "js/first_layout.js": (join_modules(folder / "js/first_layout.js"), "text/javascript"),
        }

    def address(self, path: str) -> str:
        """Return the URL of a file."""
        return f"/static/{self._version}/{path}"

    async def serve(self, request: Request) -> Response:
        """GET /static/{version}/{path}: a file. Any version is served, so that a deploy does not break open pages."""
        path = request.path_params["path"]
        if path in self._joined:
            content, media_type = self._joined[path]
            response = Response(content, media_type=media_type)
        else:
            response = await self._files.get_response(path, request.scope)
        # Only the current version is immutable: else caches could store old code under a new version.
        is_current = request.path_params["version"] == self._version
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if is_current else "no-cache"
        return response


def _hash_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]

"""Selected images to take away: their originals as a ZIP archive, or rows about them."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from server import selection, table_export, zip_archive
from server.context import AppContext, app_context
from server.problem import Problem
from server.rate_limits import ClientSlots
from server.schemas import requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import ExportBody, SelectionBody
from server.schemas.responses import ExportPage, ExportRow
from shared.models import Hit

Pages = AsyncIterator[Sequence[Hit]]

ERRORS = (400, 404, 408, 409, 413, 415, 429, 503)
# A download may take hours, and occupies a connection of the client's browser.
MAX_DOWNLOADS_PER_CLIENT = 4
_downloads = ClientSlots(MAX_DOWNLOADS_PER_CLIENT)


class Download(StreamingResponse):
    """A file that is made while it is sent, and no longer made once the client is gone."""

    def __init__(self, content: AsyncGenerator[bytes, None], filename: str, media_type: str) -> None:
        headers = {
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
        super().__init__(content, headers=headers, media_type=media_type)
        self._content = content
        self._slots = _downloads.semaphore()
        if self._slots.locked():
            detail = f"you are downloading {MAX_DOWNLOADS_PER_CLIENT} files already: wait until one of them is done"
            raise Problem(429, detail, headers={"Retry-After": "10"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._slots, aclosing(self._content):
            await super().__call__(scope, receive, send)


@Operation(body=SelectionBody, form=True, response=bytes, media_type="application/zip", errors=ERRORS)
async def download_zip(request: Request) -> Response:
    """POST /api/zip: the originals of a selection as a ZIP archive.

    Select images by `ids`, or by what a list or a search takes. The archive keeps folders; names are made safe for
    every system. A missing original becomes a text file with the reason. A form may send the same members.
    """
    body = await requests.parse_selection(SelectionBody, request)
    context = app_context(request)
    bucket = (await context.collection(body.bucket)).bucket
    pages = await _started(selection.pages(context, bucket, body))
    return Download(zip_archive.stream(context.stores.get(bucket), pages), f"{bucket}.zip", "application/zip")


@Operation(body=ExportBody, form=True, response=ExportPage, binary_media_types=("text/csv",), errors=ERRORS)
async def export_images(request: Request) -> Response:
    """POST /api/export: rows about a selection as CSV or JSON.

    Select images as for `POST /api/zip`; with `ids`, a query only gives the scores. CSV is UTF-8 with a byte order
    mark. A cell that a spreadsheet would run as a formula begins with an apostrophe.
    """
    body = await requests.parse_selection(ExportBody, request)
    context = app_context(request)
    bucket = (await context.collection(body.bucket)).bucket
    rows = _rows(context, bucket, await _started(selection.pages(context, bucket, body)), str(request.base_url))
    if body.format == "csv":
        return Download(table_export.csv_lines(rows), f"{bucket}.csv", "text/csv")
    return Download(table_export.json_lines(rows), f"{bucket}.json", "application/json")


async def _started(pages: Pages) -> Pages:
    """Return *pages* after reading the first one, so that errors of the selection become responses."""
    first: Sequence[Hit] = await anext(pages, [])

    async def all_pages() -> Pages:
        yield first
        async for page in pages:
            yield page

    return all_pages()


async def _rows(context: AppContext, bucket: str, pages: Pages, base_url: str) -> AsyncIterator[list[ExportRow]]:
    async for hits in pages:
        ids = [hit.image.id for hit in hits]
        keywords = await context.with_collection(bucket, context.search.keywords, ids)
        store = context.stores.get(bucket)
        yield [responses.export_row(hit, store, keywords.get(hit.image.id, []), base_url) for hit in hits]

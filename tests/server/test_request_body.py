"""Limits for request bodies."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from server import rate_limits, request_body
from server.problem import Problem
from server.request_body import MAX_FILES_PER_CLIENT, BodyLimit, pictures_in_memory
from server.schemas import errors

LIMIT = BodyLimit("the file", max_bytes=1000, idle_timeout=0.5, grace=0.2, min_rate=10_000)
PATIENT = BodyLimit("the file", max_bytes=1000)


async def post(content: bytes | AsyncIterator[bytes], *, path: str = "/file", **headers: str) -> httpx2.Response:
    """Send a body to a handler that returns it."""

    async def read(request: Request) -> Response:
        return Response(await request_body.read(request, LIMIT))

    async def receive_file(request: Request) -> Response:
        limit = PATIENT if request.url.path == "/patient" else LIMIT
        async with request_body.received_file(request, limit) as file:
            return PlainTextResponse(f"{file.filename} {file.path.read_bytes().decode()}")

    handlers = {"/body": read, "/file": receive_file, "/patient": receive_file}
    routes = [Route(path, handler, methods=["POST"]) for path, handler in handlers.items()]
    app = Starlette(routes=routes, exception_handlers={Problem: errors.handle})
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://here") as http:
        return await http.post(path, content=content, headers=headers)


async def chunks(*, count: int, pause: float = 0) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(pause)
        yield b"x" * 100


def form(*parts: str) -> bytes:
    return "".join(f"--x\r\nContent-Disposition: form-data; {part}\r\n" for part in parts).encode() + b"--x--\r\n"


FILE = 'name="file"; filename="a.jpg"\r\n\r\ncontent'
MULTIPART = "multipart/form-data; boundary=x"


@pytest.mark.parametrize("path", ["/body", "/file"])
async def test_a_body_within_the_limits_is_read(path: str) -> None:
    assert (await post(chunks(count=10), path=path)).text.endswith("x" * 1000)


@pytest.mark.parametrize("path", ["/body", "/file"])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large_is_refused(path: str, declared: bool) -> None:
    answer = await post(b"x" * 1001 if declared else chunks(count=11), path=path)
    assert answer.status_code == 413
    assert answer.json()["detail"] == "the file is too large: send at most 1,000 bytes"


@pytest.mark.parametrize("path", ["/body", "/file"])
@pytest.mark.parametrize(("count", "pause"), [(2, 5), (10, 0.1)], ids=["stalled", "slow"])
async def test_a_body_that_is_too_slow_is_refused(path: str, count: int, pause: float) -> None:
    answer = await post(chunks(count=count, pause=pause), path=path)
    assert answer.status_code == 408
    assert answer.json()["detail"].startswith("the file arrived too slowly: ")


async def test_one_client_can_send_only_a_few_files_at_the_same_time() -> None:
    sending = [asyncio.create_task(post(chunks(count=1, pause=60), path="/patient")) for _ in range(20)]
    try:
        refused, _ = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        answer = refused.pop().result()
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        assert (await post(b"content")).status_code == 429
        assert sum(not task.done() for task in sending) == MAX_FILES_PER_CLIENT
        rate_limits.client.set("another client")
        assert (await post(b"content")).text == "None content"
    finally:
        for task in sending:
            task.cancel()
        await asyncio.wait(sending)


async def test_a_form_gives_its_file_and_its_name() -> None:
    answer = await post(form('name="note"\r\n\r\nhello', FILE), **{"Content-Type": MULTIPART})
    assert answer.text == "a.jpg content"


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (form('name="note"\r\n\r\nhello'), 400, "the form has no file"),
        (form(FILE, FILE), 400, "invalid form"),
        (b"no boundary", 400, "invalid form"),
        (form('name="file"; filename="a.jpg"\r\n\r\n' + "x" * 1001), 413, "too large"),
    ],
)
async def test_a_form_without_exactly_one_small_file_is_refused(content: bytes, status: int, detail: str) -> None:
    answer = await post(content, **{"Content-Type": MULTIPART})
    assert answer.status_code == status
    assert detail in answer.json()["detail"]


@pytest.mark.parametrize(("megabytes", "pictures"), [(256, 1), (512, 3), (1024, 6), (24_000, 16)])
def test_pictures_in_memory_fit_the_machine(megabytes: int, pictures: int) -> None:
    assert pictures_in_memory(16, megabytes << 20) == pictures

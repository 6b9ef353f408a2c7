"""Limits of a connection, with raw sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from uvicorn.server import ServerState

from server.http_protocol import LimitedHttpProtocol

GET = b"GET / HTTP/1.1\r\nHost: here\r\n"
POST = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"


class HastyProtocol(LimitedHttpProtocol):
    head_timeout = 0.2


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer GET at once, and POST with the size of the body."""
    size, more = 0, scope["method"] == "POST"
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{size} bytes".encode()})


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(answer, log_config=None, lifespan="off", ws="none")
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HastyProtocol(config, ServerState(), {}), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def until_closed(port: int, *pieces: bytes) -> bytes:
    """Send *pieces* and return what the server sends before it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        while chunk := await reader.read(1 << 16):
            received += chunk
    except ConnectionError:  # the server has closed it without reading the rest
        pass
    finally:
        writer.close()
    return received


@pytest.mark.parametrize("start", [b"", GET, GET + b"X-Half: of a head", b"\r\n", GET + b"\r\n" + GET])
async def test_a_connection_without_a_complete_head_is_closed(port: int, start: bytes) -> None:
    async with asyncio.timeout(10):
        received = await until_closed(port, start)
    assert received.count(b"200 OK") == start.count(b"\r\n\r\n")


async def test_many_half_sent_heads_are_closed(port: int) -> None:
    async with asyncio.timeout(20):
        received = await asyncio.gather(*(until_closed(port, GET) for _ in range(200)))
    assert set(received) == {b""}


@pytest.mark.parametrize(
    "pieces",
    [
        [GET, b"X-Long: ", *[b"x" * 65_536] * 640],
        [GET, *[b"X-Many: headers\r\n" * 1000] * 100],
        [b"GET /", *[b"x" * 65_536] * 640],
        [POST, b"0\r\nX-Trailer: ", *[b"x" * 65_536] * 640],
        [POST, b"0\r\n", *[b"X-Trailer: y\r\n" * 1000] * 100],
        [POST, b"1;", *[b"x" * 65_536] * 640],
    ],
    ids=["header", "headers", "path", "trailer", "trailers", "chunk extension"],
)
async def test_a_head_that_is_too_large_is_refused(port: int, pieces: list[bytes]) -> None:
    async with asyncio.timeout(10):
        received = await until_closed(port, *pieces)
    assert received == b"" or received.startswith(b"HTTP/1.1 400 ")


async def test_a_large_body_and_a_slow_one_are_received(port: int) -> None:
    async with asyncio.timeout(10):
        large = await until_closed(port, POST, b"100000\r\n", b"x" * (1 << 20), b"\r\n0\r\n\r\n")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST)
        for _ in range(4):
            await asyncio.sleep(HastyProtocol.head_timeout / 2)
            writer.write(b"1\r\nx\r\n")
        writer.write(b"0\r\n\r\n")
        slow = await reader.readuntil(b"bytes")
        writer.close()
    assert b"1048576 bytes" in large
    assert slow.endswith(b"4 bytes")


async def test_a_client_that_goes_on_sending_an_unwanted_body_is_disconnected(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET + b"Content-Length: 1000000\r\n\r\n")
    async with asyncio.timeout(10):
        while not reader.at_eof():
            writer.write(b"x")
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.05):
                    await reader.read(1000)
    writer.close()

"""Images by addresses that strangers give: what is fetched, and what never is. Real sockets, on this machine alone."""

import asyncio
import gzip
import io
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from PIL import Image

from server.url_fetcher import REDIRECTS, FetchRefused, UrlFetcher, is_public

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(file, "PNG")
    return file.getvalue()


@asynccontextmanager
async def site(**pages: Handler) -> AsyncIterator[str]:
    """The address of a web server on this machine, with a page for each name."""
    app = web.Application()
    for name, handler in pages.items():
        app.router.add_get(f"/{name}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        listening = web.TCPSite(runner, "127.0.0.1", 0)
        await listening.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def here(**settings: Any) -> UrlFetcher:
    """A fetcher that may use this machine's own address, and any port."""
    return UrlFetcher(allowed=lambda address: str(address) == "127.0.0.1", ports=range(65_536), **settings)


async def image(_request: web.Request) -> web.Response:
    return web.Response(body=picture(), content_type="text/plain")


class Names(AbstractResolver):
    """Answers with the given addresses, one after the other, whatever is asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.answers.pop(0)
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.215.14", "1.1.1.1", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00:1450::1"]
)
def test_addresses_of_the_public_internet_are_asked(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # this host
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",  # carriers' NAT
        "100.100.100.200",  # Alibaba's metadata
        "127.0.0.1",
        "127.255.0.1",
        "168.63.129.16",  # Azure's
        "169.254.169.254",  # everybody's metadata
        "169.254.170.2",  # containers of AWS
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",  # Oracle's metadata
        "192.0.2.1",
        "192.88.99.1",  # relays of 6to4
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",  # IPv4-compatible
        "::8.8.8.8",
        "::ffff:127.0.0.1",  # IPv4-mapped
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",  # NAT64
        "64:ff9b::808:808",
        "64:ff9b:1::a00:1",
        "100::1",
        "2001::1",  # Teredo
        "2001:db8::1",
        "2002:7f00:1::",  # 6to4
        "2002:a00:1::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",  # AWS's metadata
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_every_other_address_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))


async def test_an_image_is_fetched_whatever_its_host_calls_it() -> None:
    async with site(cat=image) as address:
        assert await here().image(f"{address}/cat") == picture()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "0", "[::1]", "[::ffff:127.0.0.1]", "[::]"],
)
async def test_nothing_is_asked_of_this_machine_however_it_is_written(host: str) -> None:
    asked = []

    async def page(request: web.Request) -> web.Response:
        asked.append(request)
        return await image(request)

    async with site(cat=page) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(FetchRefused, match="no public address that answers|no address"):
            await UrlFetcher(ports=[port]).image(f"http://{host}:{port}/cat")
    assert asked == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ftp://example.org/a.png", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("gopher://example.org/", "http:// or https://"),
        ("//example.org/a.png", "http:// or https://"),
        ("a.png", "http:// or https://"),
        ("http:///a.png", "http:// or https://|no address"),
        ("http://user:password@example.org/", "user's name or password"),
        ("http://user@example.org/", "user's name or password"),
        ("http://example.org:22/", "port is 22"),
        ("http://example.org:99999/", "no address"),
        ("http://[::1/", "no address"),
        ("http://example.org/" + "a" * 2000, "characters"),
    ],
)
async def test_an_address_that_is_none_for_us_is_told_so(address: str, words: str) -> None:
    with pytest.raises(FetchRefused, match=words):
        await UrlFetcher(resolver=Names()).image(address)


async def test_redirects_are_followed_and_each_is_checked_again() -> None:
    async def near(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/cat")

    async def private(_request: web.Request) -> web.Response:
        raise web.HTTPFound("http://127.0.0.2/cat")

    async def other_kind(_request: web.Request) -> web.Response:
        raise web.HTTPFound("file:///etc/passwd")

    async def named(_request: web.Request) -> web.Response:
        raise web.HTTPMovedPermanently("http://a:b@127.0.0.1/cat")

    async def circle(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/circle")

    async with site(cat=image, near=near, private=private, other=other_kind, named=named, circle=circle) as address:
        assert await here().image(f"{address}/near") == picture()
        for page, words in {
            "private": "no public address",
            "other": "http:// or https://",
            "named": "user's name",
            "circle": f"more than {REDIRECTS} times",
        }.items():
            with pytest.raises(FetchRefused, match=words):
                await here().image(f"{address}/{page}")


async def test_a_name_that_means_something_else_the_second_time_is_refused_then() -> None:
    async def again(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"http://rebound.example:{request.url.port}/cat")

    async with site(cat=image, again=again) as address:
        port = address.rpartition(":")[2]
        names = Names("127.0.0.1", "127.0.0.2")
        with pytest.raises(FetchRefused, match="no public address"):
            await here(resolver=names).image(f"http://rebound.example:{port}/again")
        assert names.answers == []
        # Between the check of an address and its use there is no second question.
        assert await here(resolver=Names("127.0.0.1")).image(f"http://rebound.example:{port}/cat") == picture()


async def test_what_is_no_image_is_refused_before_all_of_it_came() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"<html>" * 10_000)
            sent += 60_000

    async def empty(_request: web.Request) -> web.Response:
        return web.Response()

    async def squeezed(_request: web.Request) -> web.Response:
        # Decompressed, these 50 kB would be 50 MB.
        body = gzip.compress(picture() + bytes(50_000_000))
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async def missing(_request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async with site(endless=endless, empty=empty, squeezed=squeezed, missing=missing) as address:
        for page, words in {
            "endless": "no image",
            "empty": "empty",
            "squeezed": "no image",
            "missing": "status 404",
        }.items():
            with pytest.raises(FetchRefused, match=words):
                await here().image(f"{address}/{page}")
    assert sent < 50_000_000


async def test_bytes_and_seconds_are_bounded() -> None:
    async def large(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(picture())
        while True:
            await answer.write(bytes(100_000))

    async def slow(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for byte in picture():
            await answer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        return answer

    async with site(large=large, slow=slow) as address:
        with pytest.raises(FetchRefused, match="larger than 1,000,000 bytes"):
            await here(max_bytes=1_000_000).image(f"{address}/large")
        with pytest.raises(FetchRefused, match="within 0.5 seconds"):
            await here(timeout=0.5).image(f"{address}/slow")


async def test_a_host_that_speaks_no_http_is_told_of() -> None:
    async def chat(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n" * 3)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(chat, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(FetchRefused, match="does not answer as a web server does"):
            await here().image(f"http://127.0.0.1:{port}/")

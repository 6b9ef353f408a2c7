"""Fetching images by URL, with real sockets on this machine."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from server import rate_limits
from server.url_fetcher import CONCURRENCY, MAX_REDIRECTS, FetchRefused, UrlFetcher, is_public
from tests.helpers.pictures import plain_picture

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


PICTURE = plain_picture("teal", kind="PNG")


@asynccontextmanager
async def site(**pages: Handler) -> AsyncIterator[str]:
    """The URL of a web server on this machine, with a page for each name."""
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


def local_fetcher(**settings: Any) -> UrlFetcher:
    """A fetcher that may connect to this machine, on any port."""
    return UrlFetcher(allowed=lambda address: str(address) == "127.0.0.1", ports=range(65_536), **settings)


async def image(_request: web.Request) -> web.Response:
    return web.Response(body=PICTURE, content_type="text/plain")


class Names(AbstractResolver):
    """Resolves any name to the given addresses, one after the other."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.addresses.pop(0)
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.215.14", "1.1.1.1", "2001:4860:4860::8888", "2606:4700:4700::1111", "2a00:1450::1"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_public(ip_address(address))


BLOCKED = {
    "this host": ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "::", "::1"],
    "private networks": ["10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1"],
    "carriers' NAT": ["100.64.0.1"],
    "clouds' metadata (IPv4)": ["100.100.100.200", "168.63.129.16", "169.254.169.254", "169.254.170.2", "192.0.0.192"],
    "clouds' metadata (IPv6)": ["fd00:ec2::254"],
    "documentation and tests": ["192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "multicast and reserved": ["224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "ff02::1", "100::1"],
    "link-local and site-local": ["fe80::1", "fe80::1%eth0", "fec0::1"],
    "IPv4-compatible": ["::127.0.0.1", "::8.8.8.8"],
    "IPv4-mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::a00:1"],
    "Teredo and 6to4": ["2001::1", "2002:7f00:1::", "2002:a00:1::1", "192.88.99.1"],
}


@pytest.mark.parametrize("address", [address for group in BLOCKED.values() for address in group])
def test_other_addresses_are_blocked(address: str) -> None:
    assert not is_public(ip_address(address))


async def test_an_image_is_fetched_whatever_its_media_type() -> None:
    async with site(cat=image) as address:
        assert await local_fetcher().fetch_image(f"{address}/cat") == PICTURE


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "0", "[::1]", "[::ffff:127.0.0.1]", "[::]"],
)
async def test_no_spelling_of_this_machine_is_contacted(host: str) -> None:
    requested = []

    async def page(request: web.Request) -> web.Response:
        requested.append(request)
        return await image(request)

    async with site(cat=page) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(FetchRefused, match="no public address|not a valid URL"):
            await UrlFetcher(ports=[port]).fetch_image(f"http://{host}:{port}/cat")
    assert requested == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.org/a.png", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("gopher://example.org/", "http:// or https://"),
        ("//example.org/a.png", "http:// or https://"),
        ("a.png", "http:// or https://"),
        ("http:///a.png", "http:// or https://|not a valid URL"),
        ("http://user:password@example.org/", "user name or password"),
        ("http://user@example.org/", "user name or password"),
        ("http://example.org:22/", "port is 22"),
        ("http://example.org:99999/", "not a valid URL"),
        ("http://[::1/", "not a valid URL"),
        ("http://example.org/" + "a" * 2000, "characters"),
    ],
)
async def test_an_unsuitable_url_is_refused_with_the_reason(url: str, words: str) -> None:
    with pytest.raises(FetchRefused, match=words):
        await UrlFetcher(resolver=Names()).fetch_image(url)


def redirect(location: str) -> Handler:
    async def page(_request: web.Request) -> web.Response:
        raise web.HTTPFound(location)

    return page


async def test_redirects_are_followed_and_checked() -> None:
    pages = {
        "near": redirect("/cat"),
        "private": redirect("http://127.0.0.2/cat"),
        "other": redirect("file:///etc/passwd"),
        "named": redirect("http://a:b@127.0.0.1/cat"),
        "circle": redirect("/circle"),
    }
    async with site(cat=image, **pages) as address:
        assert await local_fetcher().fetch_image(f"{address}/near") == PICTURE
        for page, words in {
            "private": "no public address",
            "other": "http:// or https://",
            "named": "user name",
            "circle": f"more than {MAX_REDIRECTS} times",
        }.items():
            with pytest.raises(FetchRefused, match=words):
                await local_fetcher().fetch_image(f"{address}/{page}")


async def test_a_name_that_resolves_to_a_private_address_the_second_time_is_refused() -> None:
    async def again(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"http://rebound.example:{request.url.port}/cat")

    async with site(cat=image, again=again) as address:
        host = f"http://rebound.example:{address.rpartition(':')[2]}"
        names = Names("127.0.0.1", "127.0.0.2")
        with pytest.raises(FetchRefused, match="no public address"):
            await local_fetcher(resolver=names).fetch_image(f"{host}/again")
        assert names.addresses == []
        # The address is not resolved again between its check and its use.
        assert await local_fetcher(resolver=Names("127.0.0.1")).fetch_image(f"{host}/cat") == PICTURE


async def test_a_body_that_is_not_an_image_is_refused_early() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"<html>" * 10_000)
            sent += 60_000

    async def empty(_request: web.Request) -> web.Response:
        return web.Response()

    async def squeezed(_request: web.Request) -> web.Response:
        # Decompressed, these 50 kB would be 50 MB.
        body = gzip.compress(PICTURE + bytes(50_000_000))
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async def missing(_request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async with site(endless=endless, empty=empty, squeezed=squeezed, missing=missing) as address:
        for page, words in {
            "endless": "not a supported image",
            "empty": "empty",
            "squeezed": "not a supported image",
            "missing": "status 404",
        }.items():
            with pytest.raises(FetchRefused, match=words):
                await local_fetcher().fetch_image(f"{address}/{page}")
    assert sent < 50_000_000


async def test_size_and_time_are_limited() -> None:
    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(PICTURE)
        while True:
            await response.write(bytes(100_000))

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for byte in PICTURE:
            await response.write(bytes([byte]))
            await asyncio.sleep(0.05)
        return response

    async with site(large=large, slow=slow) as address:
        with pytest.raises(FetchRefused, match="larger than 1,000,000 bytes"):
            await local_fetcher(max_bytes=1_000_000).fetch_image(f"{address}/large")
        with pytest.raises(FetchRefused, match="within 0.5 seconds"):
            await local_fetcher(timeout=0.5).fetch_image(f"{address}/slow")


async def test_a_client_with_slow_urls_does_not_block_the_others() -> None:
    async def never(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async with site(never=never, image=image) as address:
        fetcher = local_fetcher(timeout=5)
        slow = [asyncio.create_task(fetcher.fetch_image(f"{address}/never")) for _ in range(2 * CONCURRENCY)]
        await asyncio.sleep(0)
        rate_limits.client.set("another client")
        assert await fetcher.fetch_image(f"{address}/image") == PICTURE
        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()
        await asyncio.wait(slow)


async def test_a_host_that_does_not_speak_http_is_refused() -> None:
    async def chat(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n" * 3)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(chat, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(FetchRefused, match="does not speak HTTP"):
            await local_fetcher().fetch_image(f"http://127.0.0.1:{port}/")

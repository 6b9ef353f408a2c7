"""Fetch images by URLs from clients, from the public internet only.

This prevents server-side request forgery (OWASP): a URL must not reach the server's own network, other services of the
machine, or the cloud's metadata service. The check is on the IP address that a socket is about to connect to. So it
also covers redirects, and names whose DNS answer changes between two lookups.
"""

import asyncio
import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from server.rate_limits import ClientSlots
from server.request_body import pictures_in_memory
from shared.errors import ImageBrowserError, ImageRefused
from shared.images.decode_memory import machine_memory
from shared.images.formats import SNIFF_BYTES, sniff

MAX_URL_LENGTH = 2000  # characters
PORTS = frozenset({80, 443, 8000, 8080, 8443})
MAX_BYTES = 20 << 20
TIMEOUT = 15.0  # seconds, for DNS, redirects and body together
MAX_REDIRECTS = 5
CONCURRENCY = 8  # fetches, each held in memory; fewer on a small machine
CONCURRENCY_PER_CLIENT = 2  # so that a client with slow URLs does not block the others

IPAddress = IPv4Address | IPv6Address

# Blocked although ``is_global`` is true in some Python version: addresses of protocols, Azure's metadata service, and
# IPv6 addresses that embed an arbitrary IPv4 address (6to4, Teredo, NAT64).
_BLOCKED = [
    ip_network(text)
    for text in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",
        "2001::/23",
        "2002::/16",
        "3fff::/20",
    )
]
_GLOBAL_UNICAST = ip_network("2000::/3")  # IPv6; excludes NAT64, mapped, compatible and site-local addresses


class FetchRefused(ImageBrowserError):
    """The URL does not lead to a usable image. The message is for the client."""


def is_public(address: IPAddress) -> bool:
    """Return whether *address* is on the public internet and does not embed another address."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _BLOCKED)


class UrlFetcher:
    """HTTP client for images. Belongs to one event loop."""

    def __init__(
        self,
        *,
        allowed: Callable[[IPAddress], bool] = is_public,
        ports: Collection[int] = PORTS,
        resolver: AbstractResolver | None = None,
        max_bytes: int = MAX_BYTES,
        timeout: float = TIMEOUT,
    ) -> None:
        """Connect only to *allowed* addresses and *ports*. *resolver* replaces the system's DNS."""
        self._allowed = allowed
        self._ports = ports
        self._resolver = resolver
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._slots = asyncio.Semaphore(pictures_in_memory(CONCURRENCY, machine_memory()))
        self._client_slots = ClientSlots(CONCURRENCY_PER_CLIENT)

    async def fetch_image(self, url: str) -> bytes:
        """Return the content at *url*, which starts like an image of a supported format.

        Raises FetchRefused, including for a timeout and for too large a body.
        """
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client_slots.semaphore(),
                self._slots,
                self._session() as session,
            ):
                return await self._follow(session, self._check(url))
        except TimeoutError as exc:
            raise FetchRefused(f"it did not arrive within {self._timeout:g} seconds") from exc
        except aiohttp.ClientConnectorError as exc:
            # The same message for an unknown name, a private address and a refused connection: the difference would
            # reveal the server's network.
            raise FetchRefused("its host has no public address that accepts connections") from exc
        except aiohttp.InvalidURL as exc:
            raise FetchRefused("it is not a valid URL") from exc
        except (aiohttp.ClientError, ValueError) as exc:
            raise FetchRefused("its host does not speak HTTP correctly") from exc

    def _session(self) -> aiohttp.ClientSession:
        """Return a session for one fetch: fetches share neither connections nor cookies."""
        connector = aiohttp.TCPConnector(
            resolver=self._resolver, use_dns_cache=False, force_close=True, socket_factory=self._socket
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Without decompression a small body cannot become a large one; a compressed one does not sniff as an image.
            headers={"User-Agent": "image-browser", "Accept": "image/*", "Accept-Encoding": "identity"},
            auto_decompress=False,
        )

    def _socket(self, info: tuple[int, int, int, str, tuple[str, int]]) -> socket.socket:
        """Return a socket for the address in *info*; aiohttp calls this before each connection."""
        family, kind, protocol, _, (host, *_) = info
        if not self._allowed(ip_address(host)):
            raise PermissionError("not a public address")
        return socket.socket(family, kind, protocol)

    async def _follow(self, session: aiohttp.ClientSession, url: URL) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            async with session.get(url, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if response.status not in (301, 302, 303, 307, 308) or not location:
                    return await self._body(response)
                url = self._check(str(url.join(URL(location))))
        raise FetchRefused(f"it redirects more than {MAX_REDIRECTS} times")

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the body; refuse one that is not an image after its first bytes."""
        if response.status != 200:
            raise FetchRefused(f"its host answered with status {response.status}")
        content = bytearray()
        sniffed = False
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > self._max_bytes:
                raise FetchRefused(f"it is larger than {self._max_bytes:,} bytes")
            if not sniffed and len(content) >= SNIFF_BYTES:
                _check_image(content)
                sniffed = True
        _check_image(content)
        return bytes(content)

    def _check(self, written: str) -> URL:
        """Return the parsed URL; refuse one that is unsafe by its text alone."""
        if len(written) > MAX_URL_LENGTH:
            raise FetchRefused(f"it has {len(written):,} characters: give at most {MAX_URL_LENGTH:,}")
        try:
            url = URL(written)
            port = url.port
        except ValueError as exc:
            raise FetchRefused("it is not a valid URL") from exc
        if url.scheme not in ("http", "https") or not url.host:
            raise FetchRefused("it does not begin with http:// or https://")
        if url.user is not None or url.password is not None:
            raise FetchRefused("it contains a user name or password: give a URL without")
        if port not in self._ports:
            raise FetchRefused(f"its port is {port}: give one of {', '.join(map(str, sorted(self._ports)))}")
        return url


def _check_image(content: bytearray) -> None:
    try:
        sniff(bytes(content[:SNIFF_BYTES]))
    except ImageRefused as exc:
        raise FetchRefused(f"it is not a supported image: {exc}") from exc

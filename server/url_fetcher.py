"""Fetches images by addresses that strangers give, from the public internet and from nowhere else.

A server stands where strangers do not: it could be made to ask its own network, the machine's other services, or the
cloud's metadata service (OWASP's server-side request forgery). What decides is the address that a socket is about to
connect to, looked at when the socket is made. So it does not matter how a name came to it, whether a name server
changes its answer between two questions, or whether the address stood in a redirect.
"""

import asyncio
import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from shared.errors import ImageBrowserError, ImageRefused
from shared.images.formats import SNIFF_BYTES, sniff

LONGEST_ADDRESS = 2000  # characters
PORTS = frozenset({80, 443, 8000, 8080, 8443})
MAX_BYTES = 20 << 20
TIMEOUT = 15.0  # seconds, for all of it: names, redirects, body
REDIRECTS = 5
CONCURRENCY = 8  # what is being fetched is held in memory

IPAddress = IPv4Address | IPv6Address

# What ``is_global`` counts as public, in some version of Python, and is not for us: protocols' own addresses, Azure's
# metadata service, and IPv6 that stands for an IPv4 address of anybody's choice (6to4, Teredo, NAT64).
_NOT_FOR_US = [
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
_GLOBAL_UNICAST = ip_network("2000::/3")  # of IPv6; NAT64, mapped, compatible and site-local addresses lie outside


class FetchRefused(ImageBrowserError):
    """The address gives no image that we would fetch; the message says why, for whoever gave it."""


def is_public(address: IPAddress) -> bool:
    """Whether *address* is one of the public internet, and stands for no other one."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _NOT_FOR_US)


class UrlFetcher:
    """Fetches images. Belongs to one event loop."""

    def __init__(
        self,
        *,
        allowed: Callable[[IPAddress], bool] = is_public,
        ports: Collection[int] = PORTS,
        resolver: AbstractResolver | None = None,
        max_bytes: int = MAX_BYTES,
        timeout: float = TIMEOUT,
    ) -> None:
        """Connect only to addresses that are *allowed*, and to *ports*; *resolver* is the system's unless given."""
        self._allowed = allowed
        self._ports = ports
        self._resolver = resolver
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._free = asyncio.Semaphore(CONCURRENCY)

    async def image(self, address: str) -> bytes:
        """Return the bytes of the image at *address*, which look like one of a format that we read.

        Raises FetchRefused, also for what takes too long or is too large.
        """
        try:
            async with asyncio.timeout(self._timeout), self._free, self._session() as session:
                return await self._follow(session, self._checked(address))
        except TimeoutError as exc:
            raise FetchRefused(f"it was not there within {self._timeout:g} seconds") from exc
        except aiohttp.ClientConnectorError as exc:
            # One sentence for a name that does not exist, an address that is not public, and one where nobody answers:
            # what our network looks like is nobody's business.
            raise FetchRefused("its host has no public address that answers") from exc
        except aiohttp.InvalidURL as exc:
            raise FetchRefused("it is no address") from exc
        except (aiohttp.ClientError, ValueError) as exc:
            raise FetchRefused("its host does not answer as a web server does") from exc

    def _session(self) -> aiohttp.ClientSession:
        """Return a session of this fetch's own: nothing is kept between two, neither connections nor cookies."""
        connector = aiohttp.TCPConnector(
            resolver=self._resolver, use_dns_cache=False, force_close=True, socket_factory=self._socket
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # A small body cannot become a large one: an encoded one is refused, since it does not look like an image.
            headers={"User-Agent": "image-browser", "Accept": "image/*", "Accept-Encoding": "identity"},
            auto_decompress=False,
        )

    def _socket(self, info: tuple[int, int, int, str, tuple[str, int]]) -> socket.socket:
        """Return a socket that may connect to the address in *info*, as aiohttp asks before each connection."""
        family, kind, protocol, _, (host, *_) = info
        if not self._allowed(ip_address(host)):
            raise PermissionError("not a public address")
        return socket.socket(family, kind, protocol)

    async def _follow(self, session: aiohttp.ClientSession, url: URL) -> bytes:
        for _ in range(REDIRECTS + 1):
            async with session.get(url, allow_redirects=False) as answer:
                location = answer.headers.get("Location")
                if answer.status not in (301, 302, 303, 307, 308) or not location:
                    return await self._body(answer)
                url = self._checked(str(url.join(URL(location))))
        raise FetchRefused(f"it leads on more than {REDIRECTS} times")

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        if answer.status != 200:
            raise FetchRefused(f"its host answered with status {answer.status}")
        content = bytearray()
        async for part in answer.content.iter_any():
            looked_at = len(content) >= SNIFF_BYTES
            content += part
            if len(content) > self._max_bytes:
                raise FetchRefused(f"it is larger than {self._max_bytes:,} bytes")
            if not looked_at and len(content) >= SNIFF_BYTES:
                _sniff(content)
        _sniff(content)
        return bytes(content)

    def _checked(self, address: str) -> URL:
        """Return the address, which may be asked as far as can be seen from it alone."""
        if len(address) > LONGEST_ADDRESS:
            raise FetchRefused(f"it has {len(address):,} characters: give at most {LONGEST_ADDRESS:,}")
        try:
            url = URL(address)
            port = url.port
        except ValueError as exc:
            raise FetchRefused("it is no address") from exc
        if url.scheme not in ("http", "https") or not url.host:
            raise FetchRefused("it is no address that begins with http:// or https://")
        if url.user is not None or url.password is not None:
            raise FetchRefused("it holds a user's name or password: give one without")
        if port not in self._ports:
            raise FetchRefused(f"its port is {port}: give one of {', '.join(map(str, sorted(self._ports)))}")
        return url


def _sniff(content: bytearray) -> None:
    try:
        sniff(bytes(content[:SNIFF_BYTES]))
    except ImageRefused as exc:
        raise FetchRefused(f"it is no image that can be read: {exc}") from exc

"""Client address and scheme of requests that come through a proxy."""

from collections.abc import Sequence
from ipaddress import IPv4Network, ip_network
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class ProxyHeaders:
    """Middleware that takes client address and scheme from the headers of trusted proxies only.

    Of several addresses the last one that is not a trusted proxy counts: a client can forge those before it.
    *address_header* replaces X-Forwarded-For for proxies that send the client's address in a header of their own.
    """

    def __init__(self, app: ASGIApp, *, trusted: Sequence[str], address_header: str) -> None:
        inner: Any = app  # uvicorn has its own types for ASGI
        self._app: Any = ProxyHeadersMiddleware(inner, [*trusted, *_mapped(trusted)])
        self._header = address_header.lower().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._header != b"x-forwarded-for":
            headers = [(name, value) for name, value in scope["headers"] if name != b"x-forwarded-for"]
            forwarded = [(b"x-forwarded-for", value) for name, value in headers if name == self._header]
            scope = {**scope, "headers": headers + forwarded}
        await self._app(scope, receive, send)


def _mapped(addresses: Sequence[str]) -> list[str]:
    """Return the IPv4 networks among *addresses* as the IPv6 networks that a socket for both protocols reports."""
    networks = [ip_network(address) for address in addresses]
    return [f"::ffff:{net.network_address}/{net.prefixlen + 96}" for net in networks if isinstance(net, IPv4Network)]

"""Who the server takes for the client, whatever the client says."""

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from server.middleware.proxy_headers import ProxyHeaders
from server.rate_limits import client_of
from server.settings import ServerSettings
from shared import settings
from shared.errors import SettingsError

PROXY, CLIENT, FORGED, OWN = "172.16.3.4", "203.0.113.7", "198.51.100.1", "66.241.124.230"
FLY = "Fly-Client-IP"


async def taken_for(
    *headers: tuple[str, str], sender: str = PROXY, trusted: tuple[str, ...] = ("172.16.0.0/12",), header: str = FLY
) -> str:
    """The client, as the limits know it, and the scheme of a request."""

    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.url.scheme} {client_of(request.scope)}")

    app = Starlette(
        routes=[Route("/", answer)], middleware=[Middleware(ProxyHeaders, trusted=trusted, address_header=header)]
    )
    transport = httpx2.ASGITransport(app, client=(sender, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://images") as http:
        return (await http.get("/", headers=list(headers))).text


async def test_the_header_of_the_proxy_tells_the_client_and_no_other_header_does() -> None:
    # As Fly sends it on: what the client wrote comes first, the app's own address last.
    forwarded = ("X-Forwarded-For", f"{FORGED}, {CLIENT}, {OWN}")
    assert await taken_for(forwarded, (FLY, CLIENT), ("X-Forwarded-Proto", "https")) == f"https {CLIENT}"
    assert await taken_for(forwarded) == f"http {PROXY}"


async def test_who_is_no_proxy_cannot_choose_an_address() -> None:
    claims = [("X-Forwarded-For", FORGED), (FLY, FORGED), ("X-Forwarded-Proto", "https")]
    for header in (FLY, "X-Forwarded-For"):
        assert await taken_for(*claims, sender=CLIENT, header=header) == f"http {CLIENT}"


async def test_of_forwarded_addresses_the_last_counts_that_is_no_proxys() -> None:
    forwarded = ("X-Forwarded-For", f"{FORGED}, {CLIENT}, 172.16.9.9")
    assert await taken_for(forwarded, (FLY, FORGED), header="X-Forwarded-For") == f"http {CLIENT}"


@pytest.mark.parametrize("proxies", ["*", "10.0.0.7/8", "proxy.internal"])
def test_proxies_are_addresses_or_networks(proxies: str) -> None:
    with pytest.raises(SettingsError, match="TRUSTED_PROXIES.*give addresses such as"):
        settings.load(ServerSettings, trusted_proxies=proxies)

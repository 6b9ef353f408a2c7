"""The client address that the server believes."""

import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from server.middleware.proxy_headers import ProxyHeaders
from server.rate_limits import client_of

PROXY, CLIENT, FORGED, OWN = "172.16.3.4", "203.0.113.7", "198.51.100.1", "66.241.124.230"
FLY = "Fly-Client-IP"


async def scheme_and_client(*headers: tuple[str, str], sender: str = PROXY, address_header: str = FLY) -> str:
    """Return the scheme and the client that a handler sees."""

    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.url.scheme} {client_of(request.scope)}")

    middleware = Middleware(ProxyHeaders, trusted=("172.16.0.0/12",), address_header=address_header)
    app = Starlette(routes=[Route("/", answer)], middleware=[middleware])
    transport = httpx2.ASGITransport(app, client=(sender, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://images") as http:
        return (await http.get("/", headers=list(headers))).text


async def test_only_the_configured_header_of_a_trusted_proxy_counts() -> None:
    # As Fly forwards it: the client's forgery first, the app's own address last.
    forwarded = ("X-Forwarded-For", f"{FORGED}, {CLIENT}, {OWN}")
    assert await scheme_and_client(forwarded, (FLY, CLIENT), ("X-Forwarded-Proto", "https")) == f"https {CLIENT}"
    assert await scheme_and_client(forwarded) == f"http {PROXY}"


async def test_a_client_that_is_no_trusted_proxy_cannot_choose_its_address() -> None:
    claims = [("X-Forwarded-For", FORGED), (FLY, FORGED), ("X-Forwarded-Proto", "https")]
    for header in (FLY, "X-Forwarded-For"):
        assert await scheme_and_client(*claims, sender=CLIENT, address_header=header) == f"http {CLIENT}"


async def test_the_last_forwarded_address_that_is_no_trusted_proxy_counts() -> None:
    forwarded = ("X-Forwarded-For", f"{FORGED}, {CLIENT}, 172.16.9.9")
    assert await scheme_and_client(forwarded, (FLY, FORGED), address_header="X-Forwarded-For") == f"http {CLIENT}"


async def test_a_trusted_proxy_is_recognised_by_its_mapped_address() -> None:
    forwarded = ("X-Forwarded-For", f"{FORGED}, ::ffff:{CLIENT}, ::ffff:172.16.9.9")
    seen = await scheme_and_client(forwarded, sender=f"::ffff:{PROXY}", address_header="X-Forwarded-For")
    assert seen == f"http {CLIENT}"
    assert await scheme_and_client(forwarded, sender=f"::ffff:{CLIENT}") == f"http {CLIENT}"

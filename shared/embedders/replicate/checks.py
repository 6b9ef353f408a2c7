"""Requests that cost nothing: does the account work, and can an image be fetched from its address?"""

import asyncio
from urllib.parse import urlsplit

import aiohttp

from shared.errors import ImageRefused, ModelError, Reason

_TIMEOUT = 15.0  # seconds


async def check_account(*, token: str, base_url: str, model: str, version: str | None) -> str:
    """Return the name of the token's account. Raises ModelError if the account or the model cannot be used."""
    # The official client is imported here because it fails to import on Python 3.14. It retries reads for a minute,
    # hence the timeout, and does not close its transport, hence ours. Of a model only the version is read: it reports
    # an official one, which has none, as a malformed answer.
    import httpx
    from replicate.client import Client
    from replicate.exceptions import ReplicateError
    from replicate.version import Versions

    setting = "REPLICATE_API_TOKEN"
    try:
        async with asyncio.timeout(_TIMEOUT), httpx.AsyncHTTPTransport() as transport:
            client = Client(api_token=token, base_url=base_url, transport=transport)
            account = await client.accounts.async_current()
            if version:
                setting = "REPLICATE_MODEL"
                await Versions(client, model).async_get(version)
    except ReplicateError as exc:
        raise ModelError(f"Replicate answered {exc.status}: {exc.detail}; check {setting}", transient=False) from exc
    except (httpx.HTTPError, TimeoutError, ValueError, TypeError, AttributeError) as exc:
        # The client raises the last three for an answer that is not Replicate's.
        reason = str(exc) or type(exc).__name__
        message = f"no Replicate answers at {base_url}: {reason}; check REPLICATE_BASE_URL"
        raise ModelError(message, transient=True) from exc
    return str(account.username)


async def check_address(address: str) -> ImageRefused | None:
    """Return the refusal of a missing image, or None for one that can be fetched.

    Raises ModelError if the store fails. The model itself does not say whether it could not fetch or not read an image.
    """
    host = urlsplit(address).hostname
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT)) as session,
            session.get(address, headers={"Range": "bytes=0-0"}) as response,
        ):
            status = response.status
    except (aiohttp.ClientError, TimeoutError) as exc:
        message = f"the model cannot fetch images from {host}, nor can this machine: {exc}"
        raise ModelError(message, transient=True) from exc
    if status in (404, 410):
        return ImageRefused(Reason.OBJECT_MISSING, f"the model found no image at its address: {host} answered {status}")
    if status >= 400 and status != 416:  # 416: an empty file has no first byte
        message = f"the model cannot fetch images from {host}, which answered {status}"
        raise ModelError(message, transient=status >= 500 or status == 429)
    return None

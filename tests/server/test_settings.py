"""Unsafe settings of the server are refused."""

import pytest

from server.settings import ServerSettings
from shared import settings
from shared.errors import SettingsError

TOKEN = "read-token-of-all"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"api_token": "short"}, "API_TOKEN has 5 characters"),
        ({"read_token": "with a space in it"}, "READ_TOKEN has 18 characters"),
        ({"read_tokens": "b=short"}, "READ_TOKENS \\(b\\) has 5 characters"),
        ({"read_tokens": "b"}, "bucket=token"),
        ({"read_tokens": f"=,{TOKEN}"}, "bucket=token"),
        ({"read_token": TOKEN, "api_token": TOKEN}, "READ_TOKEN is the same"),
        ({"read_tokens": f"b={TOKEN}", "api_token": TOKEN}, "API_TOKEN is the same"),
    ],
)
def test_weak_tokens_are_refused_without_being_shown(given: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        settings.load(ServerSettings, **given)
    assert not any(value in str(refused.value) for value in given.values() if len(value) > 5)


@pytest.mark.parametrize("proxies", ["*", "10.0.0.7/8", "proxy.internal"])
def test_trusted_proxies_are_addresses_or_networks(proxies: str) -> None:
    with pytest.raises(SettingsError, match="TRUSTED_PROXIES.*give addresses such as"):
        settings.load(ServerSettings, trusted_proxies=proxies)

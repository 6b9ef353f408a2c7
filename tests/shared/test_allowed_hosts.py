"""The host names that the server answers to."""

import pytest

from shared.allowed_hosts import ListeningSettings


def settings(host: str, allowed: str = "") -> ListeningSettings:
    return ListeningSettings(host=host, allowed_hosts=allowed)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_server_on_loopback_answers_to_localhost_and_addresses_only(host: str) -> None:
    for own in ("localhost", "LOCALHOST:8000", "images.localhost", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7"):
        assert settings(host).answers_to(own), own
    for other in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "", ":80"):
        assert not settings(host).answers_to(other), other
    assert "localhost" in settings(host).describe_hosts()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "photos.example.org"])
def test_a_server_on_another_address_answers_to_any_name_and_the_doctor_warns(host: str) -> None:
    assert settings(host).answers_to("evil.example")
    assert "set ALLOWED_HOSTS" in settings(host).describe_hosts()
    assert "set ALLOWED_HOSTS" in settings("127.0.0.1", "*").describe_hosts()


def test_a_list_of_names_is_complete() -> None:
    listed = settings("0.0.0.0", "Photos.example.org, *.photos.example, [2001:db8::1]")
    for own in ("photos.example.org:443", "photos.example.org.", "a.photos.example", "[2001:db8::1]:8000"):
        assert listed.answers_to(own), own
    for other in ("localhost", "127.0.0.1", "example.org", "photos.example", "xphotos.example"):
        assert not listed.answers_to(other), other
    assert "photos.example.org" in listed.describe_hosts()

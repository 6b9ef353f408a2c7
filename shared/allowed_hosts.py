"""The host names that the server answers to: a defence against DNS rebinding.

A web page can let its own name resolve to 127.0.0.1 and then read what a server there answers. The browser still sends
the page's name as ``Host``.
"""

import ipaddress
from typing import Annotated

from pydantic import field_validator
from pydantic_settings import NoDecode

from shared.settings import Settings


class ListeningSettings(Settings):
    """The address that the server listens on, and the host names it answers to."""

    host: str = "127.0.0.1"
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        return tuple(map(_normalise, filter(str.strip, value.split(",")))) if isinstance(value, str) else value

    def answers_to(self, header: str) -> bool:
        """Return whether the server answers requests with this ``Host`` header.

        By default a server on loopback answers to localhost and to any literal address, which cannot be rebound.
        """
        name = _normalise(header)
        if self.allowed_hosts:
            return any(
                pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))
                for pattern in self.allowed_hosts
            )
        return name == "localhost" or name.endswith(".localhost") or _is_address(name) or not _is_loopback(self.host)

    def describe_hosts(self) -> str:
        """Return a sentence about the host names, for `syncer doctor`."""
        if self.allowed_hosts and "*" not in self.allowed_hosts:
            return f"the server answers to {', '.join(self.allowed_hosts)}"
        if not self.allowed_hosts and _is_loopback(self.host):
            return "the server answers to localhost and literal addresses"
        return (
            f"the server listens on {self.host} and answers to any host name, so web pages can read an open gallery"
            " in your network by DNS rebinding: set ALLOWED_HOSTS to its names"
        )


def _normalise(host: str) -> str:
    """Return a host in lower case, without port, brackets and trailing dot."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if _is_address(host) else host.partition(":")[0].removesuffix(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)

"""Settings of the server, in addition to those that both processes share."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from shared.allowed_hosts import ListeningSettings
from shared.settings import check_database_url

# 16 random characters cannot be guessed over a network.
_TOKEN = re.compile(r"[!-+\--~]{16,}")


class ServerSettings(ListeningSettings):
    """Settings of the server; docs/settings.md describes each."""

    port: int = Field(8000, ge=0, le=65_535)
    workers: int = Field(1, ge=1)
    buckets: Annotated[tuple[str, ...], NoDecode] = ()
    text_embedder: Literal["clip"] | None = None
    secret_key: SecretStr | None = None
    api_token: SecretStr | None = None
    read_token: SecretStr | None = None
    read_tokens: Annotated[tuple[tuple[str, SecretStr], ...], NoDecode] = ()
    upload_max_bytes: int = Field(100 << 20, ge=1)
    database_connections: int = Field(10, ge=1)
    database_read_urls: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1",)
    client_address_header: str = Field("X-Forwarded-For", pattern="^[A-Za-z0-9-]+$")
    paid_queries_per_hour: int = Field(600, ge=1)
    paid_queries_per_hour_and_client: int = Field(60, ge=1)
    log_format: Literal["text", "json"] | None = None

    @field_validator("buckets", "database_read_urls", "trusted_proxies", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("database_read_urls")
    @classmethod
    def _check_read_urls(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        return tuple(check_database_url(url) for url in value)

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            try:
                ipaddress.ip_network(part)
            except ValueError as exc:
                raise ValueError(f"{exc}: give addresses such as 10.0.0.7, or networks such as 10.0.0.0/8") from exc
        return value

    @field_validator("read_tokens", mode="before")
    @classmethod
    def _split_pairs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.strip().partition("=") for part in value.split(",") if part.strip()]
        if not all(bucket.strip() and token.strip() for bucket, _, token in pairs):
            raise ValueError("give bucket=token pairs, separated by commas")
        return tuple((bucket.strip(), token.strip()) for bucket, _, token in pairs)

    def conflicts(self) -> Iterator[str]:
        yield from super().conflicts()
        single = [("READ_TOKEN", self.read_token), ("API_TOKEN", self.api_token)]
        unique = [(name, token) for name, token in single if token]
        given = [*unique, *((f"READ_TOKENS ({bucket})", token) for bucket, token in self.read_tokens)]
        for name, token in given:
            if not _TOKEN.fullmatch(token.get_secret_value()):
                yield (
                    f"{name} has {len(token)} characters: give at least 16, ASCII without spaces and commas,"
                    " for example from `openssl rand -hex 16`"
                )
        tokens = [token for _, token in given]
        for name, token in unique:
            if tokens.count(token) > 1:
                yield f"{name} is the same as another token with other rights: use a different one"

    @property
    def buckets_by_token(self) -> dict[str, frozenset[str]]:
        """The tokens of READ_TOKENS and the buckets that each gives access to."""
        found: dict[str, frozenset[str]] = {}
        for bucket, secret in self.read_tokens:
            token = secret.get_secret_value()
            found[token] = found.get(token, frozenset()) | {bucket}
        return found

"""What the server reads from the environment beside what both processes share."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from shared.settings import Settings


class ServerSettings(Settings):
    """The server's settings."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65_535)
    workers: int = Field(1, ge=1)
    buckets: Annotated[tuple[str, ...], NoDecode] = ()
    secret_key: SecretStr | None = None
    database_connections: int = Field(10, ge=1)

    @field_validator("buckets", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

"""Settings shared by both processes, from the environment or a ``.env`` file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import platformdirs
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import SettingsError

EmbedderKind = Literal["replicate", "clip", "offline"]

_HTTP_ADDRESS = re.compile(r"https?://[^\s/?#]+(/\S*)?", re.IGNORECASE)


class Settings(BaseSettings):
    """Settings of syncer and server. Each field is named like its environment variable, in lower case."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    database_url: SecretStr | None = None
    image_browser_home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("image-browser", appauthor=False)
    )
    bucket: str | None = None

    r2_account_id: str | None = None
    r2_access_key_id: str | None = None
    r2_secret_access_key: SecretStr | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    s3_endpoint_url: str | None = None
    s3_region: str | None = None
    public_url: str | None = None

    embedder: EmbedderKind | None = None
    replicate_api_token: SecretStr | None = None
    replicate_model: str = "openai/clip"
    replicate_base_url: str = "https://api.replicate.com"
    clip_model: str | None = None
    decode_memory_mb: int | None = Field(None, ge=32)

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        return value and check_database_url(value)

    @field_validator("s3_endpoint_url", "public_url", "replicate_base_url")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None and not _HTTP_ADDRESS.fullmatch(value):
            raise ValueError(f"is {value!r}, which is not an address: use one like https://images.example.com")
        return value

    @field_validator("r2_account_id")
    @classmethod
    def _check_account_id(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-zA-Z]+", value):
            raise ValueError(f"is {value!r}: use the account ID, 32 letters and digits")
        return value

    def conflicts(self) -> Iterator[str]:
        """Yield a message for each problem of settings that are valid by themselves."""
        if self.r2_account_id or self.s3_endpoint_url:
            if not (self.r2_access_key_id or self.aws_access_key_id):
                yield "R2_ACCESS_KEY_ID (or AWS_ACCESS_KEY_ID) is required for the object store"
            if not (self.r2_secret_access_key or self.aws_secret_access_key):
                yield "R2_SECRET_ACCESS_KEY (or AWS_SECRET_ACCESS_KEY) is required for the object store"

    @property
    def default_embedder(self) -> EmbedderKind:
        """The kind of embedder for new collections."""
        return self.embedder or ("replicate" if self.replicate_api_token else "clip")

    @property
    def decode_memory(self) -> int | None:
        """The most bytes that decoding one image may take, None for what fits the machine."""
        return self.decode_memory_mb and self.decode_memory_mb * 1_000_000

    @property
    def home(self) -> Path:
        """The absolute path of the data folder on this machine."""
        return self.image_browser_home.expanduser().absolute()


S = TypeVar("S", bound=Settings)


def load(kind: type[S], **flags: Any) -> S:
    """Return the settings; a command-line flag that is not None overrides the environment.

    Raises SettingsError with one message that lists every problem.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    problems = []
    try:
        loaded = kind(**given)
    except ValidationError as exc:
        problems = [_message(dict(error)) for error in exc.errors()]
        # With the defaults of the invalid settings, the conflicts of the others show too.
        invalid = {str(error["loc"][0]): kind.model_fields[str(error["loc"][0])] for error in exc.errors()}
        defaults = {name: field.get_default(call_default_factory=True) for name, field in invalid.items()}
        loaded = kind(**given | defaults)
    problems += loaded.conflicts()
    if problems:
        raise SettingsError("\n".join(problems))
    return loaded


def check_database_url(value: SecretStr) -> SecretStr:
    """Return *value* if it is an address of PostgreSQL, else raise ValueError, which does not show it."""
    try:
        parts = conninfo_to_dict(value.get_secret_value())
    except ProgrammingError:  # its message contains the password
        parts = {"host": "@"}
    # libpq ends an unquoted password at its first @ or /, and takes the rest for a part of the host or the database.
    host, port, database = (str(parts.get(name) or "") for name in ("host", "port", "dbname"))
    if ("@" in host and not host.startswith("/")) or re.search("[^0-9,]", port) or re.search("@.*/", database):
        raise ValueError(
            "is not a PostgreSQL address: use postgresql://user:password@host:5432/database, with"
            " %40 for @, %3A for : and %2F for / in the password"
        )
    return value


def _message(error: dict[str, Any]) -> str:
    name = ".".join(str(part) for part in error["loc"]).upper()
    message = str(error["msg"]).removeprefix("Value error, ")
    if not name:
        return message
    secret = any(word in name for word in ("TOKEN", "SECRET", "KEY", "URL"))
    value = "" if secret or error["type"] == "missing" else f" is {error['input']!r}"
    # Our own validators may start with the verb.
    return f"{name} {message}" if message.startswith("is ") else f"{name}{value}: {message}"

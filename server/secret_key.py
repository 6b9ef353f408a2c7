"""The key that signs cursors and cookies, the same on every copy of the server."""

import secrets

from server.settings import ServerSettings
from shared.db.pool import Database
from shared.sql import collections


class SecretKey:
    """SECRET_KEY, or else a random key that the first server stores in the database for all."""

    def __init__(self, settings: ServerSettings, database: Database) -> None:
        self._database = database
        self._key = settings.secret_key.get_secret_value() if settings.secret_key else None

    async def get(self) -> str:
        """Return the key; raise DatabaseError when it has to be read and the database is unavailable."""
        if self._key is None:
            default = secrets.token_urlsafe(32)
            self._key = await self._database.run(collections.shared_value, name="secret_key", default=default)
        return self._key

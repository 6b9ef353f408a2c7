"""Pagination cursors: opaque to clients, valid on every server that shares the secret key."""

import hashlib
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from server.problem import Problem
from server.secret_key import SecretKey


@dataclass(frozen=True)
class Cursors:
    """Signer of cursors. Each cursor is bound to its list, described by a *scope*, and refused for any other."""

    key: SecretKey

    async def sign(self, scope: str, position: Any) -> str | None:
        """Return the cursor that continues the list *scope* at *position*; None for no position, the end."""
        if position is None:
            return None
        return str((await self._serializer()).dumps([_digest(scope), position]))

    async def verify(self, scope: str, cursor: str | None) -> Any:
        """Return the position of the cursor in the list *scope*; None without a cursor."""
        if not cursor:
            return None
        try:
            signed_scope, position = (await self._serializer()).loads(cursor)
        except (BadData, ValueError, TypeError) as exc:
            raise Problem(400, "cursor is invalid: give next_cursor of an earlier answer, or none") from exc
        if signed_scope != _digest(scope):
            raise Problem(400, "cursor belongs to another list: use it with the parameters of its request")
        return position

    async def _serializer(self) -> URLSafeSerializer:
        return URLSafeSerializer(await self.key.get(), salt="cursor")


def _digest(scope: str) -> str:
    # A scope can be long, and a cursor has to fit into a URL.
    return hashlib.sha256(scope.encode()).hexdigest()[:32]

"""Cursors: where a list goes on, opaque to clients, understood by every server that shares the key."""

import hashlib
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from server.schemas.errors import Problem


class Cursors:
    """Signs and reads cursors. A cursor is bound to its list: it means nothing anywhere else."""

    def __init__(self, secret: str) -> None:
        self._serializer = URLSafeSerializer(secret, salt="cursor")

    def write(self, scope: str, position: Any) -> str:
        """Return the cursor that goes on at *position* of the list *scope*."""
        return str(self._serializer.dumps([_digest(scope), position]))

    def read(self, scope: str, cursor: str | None) -> Any:
        """Return the position in the list *scope*; None for no cursor."""
        if not cursor:
            return None
        try:
            written, position = self._serializer.loads(cursor)
        except (BadData, ValueError, TypeError) as exc:
            raise Problem(400, "cursor is not one of ours: give next_cursor of a former answer, or none") from exc
        if written != _digest(scope):
            raise Problem(400, "cursor belongs to another list: use it with the parameters that gave it")
        return position


def _digest(scope: str) -> str:
    # A list can be described by a long text, and a cursor has to fit into an address.
    return hashlib.sha256(scope.encode()).hexdigest()[:32]

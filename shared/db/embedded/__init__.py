"""The PostgreSQL that the program runs itself when DATABASE_URL is unset."""

from shared.db.embedded.server import Embedded, start

__all__ = ["Embedded", "start"]

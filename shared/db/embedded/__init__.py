"""The embedded PostgreSQL, used when DATABASE_URL is not set."""

from shared.db.embedded.server import EmbeddedPostgres, start

__all__ = ["EmbeddedPostgres", "start"]

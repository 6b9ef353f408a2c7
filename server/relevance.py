"""Which matches are weak: no nearer to the query than what has nothing to do with it."""

from server.query import Query
from server.services import Services
from shared.model import Collection


async def threshold(app: Services, collection: Collection, query: Query) -> float | None:
    """Return the cosine below which a match of *query* is weak; None where nothing can be said."""
    return None

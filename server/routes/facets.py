"""Values that filters can take."""

from starlette.requests import Request
from starlette.responses import Response

from server.context import app_context
from server.schemas import requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import FacetsQuery
from server.schemas.responses import FacetValues, FastJSONResponse


@Operation(query=FacetsQuery, response=FacetValues)
async def get_facets(request: Request) -> Response:
    """GET /api/facets: values that filters can take in a collection, with counts, cached for some seconds."""
    query = requests.parse(FacetsQuery, request)
    context = app_context(request)
    facets = await context.with_collection(query.bucket, context.collection_cache.facets, query.folder)
    return FastJSONResponse(responses.facet_values(facets))

"""Values that filters can take."""

from starlette.requests import Request
from starlette.responses import Response

from server.context import app_context
from server.schemas import requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import FacetsQuery
from server.schemas.responses import FacetValues, FastJSONResponse


@Operation(query=FacetsQuery, response=FacetValues, errors=(400, 404, 409, 429, 503))
async def get_facets(request: Request) -> Response:
    """GET /api/facets: values that filters can take in a list or a search, with counts, cached for some seconds.

    Each count is the number of images with this value that pass all filters but that on the value itself; of a search,
    the number of its strong matches, if it has any. The folders are those directly below the last `folder`.
    """
    query = requests.parse(FacetsQuery, request)
    context = app_context(request)
    facets = await context.with_collection(
        query.bucket, context.search.facets, query.terms(), query.filters(), similar=query.similar
    )
    return FastJSONResponse(responses.facet_values(facets))

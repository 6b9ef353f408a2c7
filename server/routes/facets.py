"""Values that filters can take."""

from starlette.requests import Request
from starlette.responses import Response

from server.context import AppContext, app_context
from server.schemas import requests, responses
from server.schemas.openapi import Operation
from server.schemas.requests import FacetsQuery
from server.schemas.responses import FacetValues, FastJSONResponse
from server.search.service import PageRequest
from shared.models import Collection, Facets


@Operation(query=FacetsQuery, response=FacetValues, errors=(400, 404, 409, 429, 503))
async def get_facets(request: Request) -> Response:
    """GET /api/facets: values that filters can take in a list or a search, with counts, cached for some seconds.

    Each count is the number of images with this value that pass all filters but that on the value itself; of a search,
    the number of its strong matches, if it has any. The folders are those directly below the last `folder`.
    """
    query = requests.parse(FacetsQuery, request)
    context = app_context(request)
    facets = await context.with_collection(query.bucket, _facets, context, query)
    return FastJSONResponse(responses.facet_values(facets))


async def _facets(collection: Collection, context: AppContext, query: FacetsQuery) -> Facets:
    read = await context.query_reader.read(collection, query.typed(), PageRequest(0, filters=query.filters()))
    return await context.search.facets(collection, read.terms, read.page.filters, similar=query.similar)

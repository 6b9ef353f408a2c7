"""The ASGI application: routes, middleware, startup and shutdown."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from server import log_config
from server.context import open_context
from server.middleware.auth import AuthMiddleware
from server.middleware.host_check import HostCheck
from server.middleware.proxy_headers import ProxyHeaders
from server.middleware.read_your_writes import ReadYourWrites
from server.middleware.request_log import RequestLog
from server.middleware.security_headers import SecurityHeaders
from server.routes import (
    api_docs,
    collections,
    downloads,
    facets,
    failures,
    gallery,
    health,
    image_writes,
    images,
    objects,
    query_images,
    search,
    sign_in,
    suggestions,
    timeline,
)
from server.routes.static_files import StaticAssets
from server.schemas import errors, openapi
from server.settings import ServerSettings
from server.url_fetcher import UrlFetcher
from shared import settings
from shared.db import migrate
from shared.shutdown import end_within

_SECONDS_TO_STOP = 28.0  # Fly.io and systemd kill after 30


def create_app(loaded: ServerSettings, *, fetcher: UrlFetcher | None = None) -> Starlette:
    """Return the application for these settings. *fetcher* replaces the one that is limited to public addresses."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_context(loaded, fetcher or UrlFetcher()) as app.state.context:
            if loaded.database_url is None:
                # The server may be the first process to use the embedded database.
                await app.state.context.database.run(migrate.migrate)
            yield

    assets = StaticAssets()
    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", gallery.show_gallery),
            Route("/collections", collections.show_collections),
            Route("/api/collections", collections.list_collections),
            Route("/api/images", images.list_images),
            Route("/api/images", image_writes.add_image, methods=["POST"]),
            Route("/api/images/{id}", images.get_image),
            Route("/api/images/{id}", image_writes.delete_image, methods=["DELETE"]),
            Route("/api/images/{id}/similar", images.list_similar_images),
            Route("/api/search", search.search),
            Route("/api/search", search.search_composed, methods=["POST"]),
            Route("/api/suggest", suggestions.suggest),
            Route("/api/query-images", query_images.create_query_image, methods=["POST"]),
            Route("/api/zip", downloads.download_zip, methods=["POST"]),
            Route("/api/export", downloads.export_images, methods=["POST"]),
            Route("/api/facets", facets.get_facets),
            Route("/api/timeline", timeline.get_timeline),
            Route("/failures", failures.show_failures),
            Route("/api/failures", failures.list_failures),
            Route("/api/failures/retry", failures.retry_failures, methods=["POST"]),
            Route("/api/stats", collections.get_stats),
            Route("/api/stats/stream", collections.stream_stats),
            Route("/healthz", health.get_liveness),
            Route("/readyz", health.get_readiness),
            Route("/metrics", health.get_metrics),
            Route("/openapi.json", api_docs.get_openapi),
            Route("/docs", api_docs.show_docs),
            Route("/files/{bucket}/{key:key}", objects.get_object),
            Route("/sign-in", sign_in.show_form),
            Route("/sign-in", sign_in.sign_in, methods=["POST"]),
            Route("/sign-out", sign_in.sign_out, methods=["POST"]),
            Route("/static/{version}/{path:path}", assets.serve),
        ],
        middleware=[
            Middleware(ProxyHeaders, trusted=loaded.trusted_proxies, address_header=loaded.client_address_header),
            Middleware(SecurityHeaders),
            Middleware(RequestLog),
            Middleware(HostCheck, settings=loaded),
            Middleware(AuthMiddleware),
            *([Middleware(ReadYourWrites)] if loaded.database_read_urls else []),
            # The default level 9 takes 60 % more time for 2 % fewer bytes (a page of JSON).
            Middleware(GZipMiddleware, minimum_size=1024, compresslevel=4),
        ],
        exception_handlers=dict.fromkeys(errors.HANDLED, errors.handle),
    )
    app.state.openapi = openapi.document(app.routes)
    app.state.templates = Jinja2Templates(Path(__file__).parent / "templates")
    app.state.templates.env.globals["static"] = assets.address
    return app


def from_environment() -> Starlette:
    """Return the application for the settings of the environment. uvicorn's workers call this."""
    loaded = settings.load(ServerSettings)
    log_config.configure(loaded.log_format)
    end_within(_SECONDS_TO_STOP, status=1)
    return create_app(loaded)

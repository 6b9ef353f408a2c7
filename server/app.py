"""The application: routes, what surrounds every request, and how it starts and stops."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from server import log_config
from server.access import Tokens
from server.context import opened
from server.middleware.auth import AuthMiddleware
from server.middleware.proxy_headers import ProxyHeaders
from server.middleware.request_log import RequestLog
from server.middleware.security_headers import SecurityHeaders
from server.routes import (
    api_docs,
    collections,
    composed_search,
    facets,
    gallery,
    health,
    image_writes,
    images,
    objects,
    search,
    sign_in,
)
from server.routes.static_files import StaticAssets
from server.schemas import errors
from server.search.model_change import CHANGED, start_over
from server.settings import ServerSettings
from server.url_fetcher import UrlFetcher
from shared import settings
from shared.db import migrate
from shared.errors import ServiceError, SettingsError


def create_app(loaded: ServerSettings, *, fetcher: UrlFetcher | None = None) -> Starlette:
    """Return the application for these settings; *fetcher* takes the place of one that keeps to public addresses."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with opened(loaded, fetcher or UrlFetcher()) as app.state.services:
            if loaded.database_url is None:
                # Nobody else would migrate the embedded database.
                await app.state.services.database.run(migrate.migrate)
            yield

    assets = StaticAssets()
    tokens = Tokens(loaded)
    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", gallery.gallery),
            Route("/api/collections", collections.every),
            Route("/api/images", images.recent),
            Route("/api/images", image_writes.add, methods=["POST"]),
            Route("/api/images/{id}", images.one),
            Route("/api/images/{id}", image_writes.remove, methods=["DELETE"]),
            Route("/api/images/{id}/similar", images.similar),
            Route("/api/search", search.by_text),
            Route("/api/search", composed_search.by_terms, methods=["POST"]),
            Route("/api/query-images", composed_search.add_query_image, methods=["POST"]),
            Route("/api/facets", facets.choices),
            Route("/api/stats", collections.figures),
            Route("/api/stats/stream", collections.stream),
            Route("/healthz", health.alive),
            Route("/readyz", health.ready),
            Route("/metrics", health.figures),
            Route("/openapi.json", api_docs.description),
            Route("/docs", api_docs.page),
            Route("/files/{bucket}/{key:path}", objects.serve),
            Route("/sign-in", sign_in.page),
            Route("/sign-in", sign_in.enter, methods=["POST"]),
            Route("/sign-out", sign_in.leave, methods=["POST"]),
            Route("/static/{version}/{path:path}", assets.serve),
        ],
        middleware=[
            Middleware(ProxyHeaders, trusted=loaded.trusted_proxies, address_header=loaded.client_address_header),
            Middleware(SecurityHeaders),
            Middleware(RequestLog),
            Middleware(AuthMiddleware, tokens=tokens),
            Middleware(GZipMiddleware, minimum_size=1024),
        ],
        exception_handlers={
            **dict.fromkeys((errors.Problem, ServiceError, SettingsError, HTTPException), errors.handle),
            **dict.fromkeys(CHANGED, start_over),
        },
    )
    app.state.assets = assets
    app.state.tokens = tokens
    app.state.templates = Jinja2Templates(Path(__file__).parent / "templates")
    return app


def from_environment() -> Starlette:
    """Return the application for the settings of the environment; uvicorn's workers call this."""
    loaded = settings.load(ServerSettings)
    log_config.configure(loaded.log_format)
    return create_app(loaded)

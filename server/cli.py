"""Command line of the server."""

import argparse
import asyncio
import os
import resource
import socket
import sys
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import NoReturn

import uvicorn
from uvicorn.supervisors import Multiprocess

from server import log_config, metrics
from server.http_protocol import LimitedHttpProtocol
from server.search import local_text_encoder
from server.settings import ServerSettings
from shared import factory, settings
from shared.db import migrate
from shared.errors import ImageBrowserError


def main() -> NoReturn:
    """Serve until interrupted, or apply migrations and exit."""
    arguments = vars(_parser().parse_args())
    migrate_only = arguments.pop("migrate")
    try:
        loaded = settings.load(ServerSettings, **arguments)
        log_config.configure(loaded.log_format)
        if migrate_only:
            asyncio.run(_migrate(loaded))
            sys.exit(0)
        if loaded.text_embedder:
            asyncio.run(local_text_encoder.verify_at_start(loaded))
    except ImageBrowserError as exc:
        _fail(str(exc))
    listening = _listen(loaded.host, loaded.port)
    _raise_open_file_limit()
    with suppress(KeyboardInterrupt):
        _serve(loaded, listening)
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="server", description="Serve the gallery and the search API. Settings are listed in docs/settings.md."
    )
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (8000)")
    parser.add_argument("--workers", type=int, help="number of processes (1)")
    parser.add_argument("--migrate", action="store_true", help="apply pending database migrations and exit")
    return parser


def _fail(message: str) -> NoReturn:
    print(f"server: {message}", file=sys.stderr)
    sys.exit(1)


def _serve(loaded: ServerSettings, listening: socket.socket) -> None:
    os.environ["HOST"] = loaded.host  # ``from_environment`` does not see the arguments
    config = uvicorn.Config(
        "server.app:from_environment",
        factory=True,
        host=loaded.host,
        port=loaded.port,
        workers=loaded.workers,
        log_config=None,
        access_log=False,
        http=LimitedHttpProtocol,
        ws="none",
        proxy_headers=False,  # server/middleware/proxy_headers.py does that
        # Time to answer pending requests. Progress streams end when the shutdown begins.
        timeout_graceful_shutdown=25,
        # A starting worker counts as dead after this time; a busy machine needs more than the default of 5 s.
        timeout_worker_healthcheck=60,
    )
    if loaded.workers == 1:
        _AnnouncingServer(config).run([listening])
        return
    with TemporaryDirectory(prefix="image-browser-metrics-") as folder:
        os.environ[metrics.MULTIPROCESS_FOLDER] = folder
        # The socket listens already: requests wait until the first worker has started.
        _announce(config)
        Multiprocess(config, sockets=[listening]).run()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on *host*; exit with a message if that is impossible. ``::`` includes IPv4."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")
    except (OSError, ValueError) as exc:  # ValueError: no dual-stack support
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        _fail(f"cannot listen on {host}, port {port}: {reason}: give another --host or --port")


def _raise_open_file_limit() -> None:
    """Raise the limit of open files, often 1,024 at first, to the maximum: each progress stream needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS refuses some values that it reports as allowed
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _migrate(loaded: ServerSettings) -> None:
    async with factory.open_database(loaded, max_connections=1, retry_timeout=30) as database:
        applied = await database.run(migrate.migrate)
    print("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


def _announce(config: uvicorn.Config) -> None:
    host = f"[{config.host}]" if ":" in config.host else config.host
    print(f"Image Browser serves on http://{host}:{config.port}", file=sys.stderr, flush=True)


class _AnnouncingServer(uvicorn.Server):
    """A uvicorn server that prints its address when it is ready."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            _announce(self.config)

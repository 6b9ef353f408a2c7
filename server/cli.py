"""The command line of the server."""

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
from server.search import local_text_encoder
from server.settings import ServerSettings
from shared import factory, settings
from shared.db import migrate
from shared.errors import ImageBrowserError


def main() -> NoReturn:
    """Serve until interrupted, or migrate and end."""
    parser = argparse.ArgumentParser(
        prog="server", description="Serves the gallery and the search API. All settings are in README's table."
    )
    parser.add_argument("--host", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="the port to listen on (8000)")
    parser.add_argument("--workers", type=int, help="how many processes serve (1)")
    parser.add_argument("--migrate", action="store_true", help="apply missing migrations to the database, and end")
    arguments = vars(parser.parse_args())
    migrate_only = arguments.pop("migrate")
    try:
        loaded = settings.load(ServerSettings, **arguments)
        log_config.configure(loaded.log_format)
        if migrate_only:
            asyncio.run(_migrate(loaded))
            sys.exit(0)
        if loaded.text_embedder:
            asyncio.run(local_text_encoder.check_at_start(loaded))
    except ImageBrowserError as exc:
        print(f"server: {exc}", file=sys.stderr)
        sys.exit(1)
    _can_listen(loaded.host, loaded.port)
    _allow_many_connections()
    config = uvicorn.Config(
        "server.app:from_environment",
        factory=True,
        host=loaded.host,
        port=loaded.port,
        workers=loaded.workers,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # server/middleware/proxy_headers.py does that
        # Requests under way are answered; progress streams end by themselves when the server is told to stop.
        timeout_graceful_shutdown=25,
        # A worker that only starts is taken for dead after this; on a busy machine that takes longer than 5 seconds.
        timeout_worker_healthcheck=60,
    )
    try:
        if loaded.workers == 1:
            _Announcing(config).run()
        else:
            with TemporaryDirectory(prefix="image-browser-metrics-") as folder:
                os.environ[metrics.SHARED_FOLDER] = folder
                Multiprocess(config, sockets=[config.bind_socket()]).run()
    except KeyboardInterrupt:
        pass
    sys.exit(0)


def _can_listen(host: str, port: int) -> None:
    """End with a message if nobody can listen there; uvicorn's is a line of the log."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as exc:
        print(
            f"server: cannot listen on {host}, port {port}: {exc.strerror}: give another --host or --port",
            file=sys.stderr,
        )
        sys.exit(1)


def _allow_many_connections() -> None:
    """Take as many open files as the system gives: often 1,024 is but where it begins, and each follower holds one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS refuses some that it says it allows
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _migrate(loaded: ServerSettings) -> None:
    async with factory.open_database(loaded, max_connections=1, retry_timeout=30) as database:
        done = await database.run(migrate.migrate)
    print("\n".join(f"applied {name}" for name in done) or "nothing to apply")


class _Announcing(uvicorn.Server):
    """Says where it serves, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            print(f"Image Browser serves on http://{host}:{self.config.port}", file=sys.stderr, flush=True)

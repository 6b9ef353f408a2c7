"""A local S3 service: ``S3Server`` runs moto in its own process, ``FaultyProxy`` records requests and injects faults.

Both speak plain HTTP on loopback. ``python -m tests.fakes.s3`` is the server's process; it exits when its standard
input is closed.
"""

import contextlib
import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from shared.stores.s3 import S3Options, S3Store

ACCESS_KEY_ID = "test-key-id"
SECRET_ACCESS_KEY = "test-secret"

Kind = Literal[
    "put", "get", "head", "list", "copy", "delete", "start_parts", "part", "end_parts", "drop_parts", "other"
]


class S3Server:
    """moto on a free port, as a context manager.

    *page_size* is the number of objects per page of a listing; each response is delayed by *latency* seconds.
    """

    url: str

    def __init__(self, *, page_size: int = 1000, latency: float = 0.0) -> None:
        self._page_size = page_size
        self._latency = latency

    def __enter__(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "MOTO_S3_DEFAULT_MAX_KEYS": str(self._page_size),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.s3", str(self._latency)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, "moto's server did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def make_bucket(self, bucket: str) -> None:
        with contextlib.closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)) as connection:
            connection.request("PUT", f"/{bucket}")
            response = connection.getresponse()
            assert response.status in {200, 409}, response.read()


def s3_environment(url: str) -> dict[str, str]:
    """Return the settings of commands that use the S3 service at *url*."""
    return {
        "S3_ENDPOINT_URL": url,
        "R2_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "R2_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    }


def s3_store(url: str, bucket: str, **options: Any) -> S3Store:
    """Return a store for a bucket of the server or proxy at *url*; *options* are fields of S3Options."""
    return S3Store(bucket, S3Options(url, ACCESS_KEY_ID, SECRET_ACCESS_KEY, **options))


@dataclass(frozen=True)
class Request:
    """A request to the proxy; *faulted* if the client did not get the complete response of the server."""

    kind: Kind
    key: str
    headers: dict[str, str]  # names in lower case
    faulted: bool = False


@dataclass(frozen=True)
class Fault:
    """A fault of one request.

    ``status`` responds with *status* and an S3 error with *code*, or with *body*; ``reset`` closes the connection in
    the middle of the request's body; ``lost`` executes the request and closes the connection without a response;
    ``half`` closes it in the middle of the response's body; ``hang`` sends nothing for *seconds*.
    """

    action: Literal["status", "reset", "lost", "half", "hang"]
    status: int = 500
    code: str = "InternalError"
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


Rule = Callable[[Request], Fault | None]


class FaultyProxy:
    """Forwards requests to the address *upstream*, records them in ``requests``, and injects the faults of ``rule``."""

    def __init__(self, upstream: str) -> None:
        self.requests: list[Request] = []
        self.rule: Rule = lambda request: None
        self.upstream = urlsplit(upstream).netloc
        self._port = 0
        self._lock = threading.Lock()

    @property
    def counts(self) -> Counter[str]:
        """Number of requests by kind, since the start or the last ``clear``."""
        return Counter(request.kind for request in list(self.requests))

    def clear(self) -> None:
        self.requests.clear()

    def fail_next(self, fault: Fault, *kinds: Kind, times: int = 1) -> None:
        """Inject the fault into the next *times* requests of these kinds, or of any kind by default."""
        remaining = times

        def rule(request: Request) -> Fault | None:
            nonlocal remaining
            with self._lock:
                if remaining and (not kinds or request.kind in kinds):
                    remaining -= 1
                    return fault
                return None

        self.rule = rule

    def fail_for(self, seconds: float, fault: Fault) -> None:
        """Inject the fault into every request of the next *seconds*."""
        end = time.monotonic() + seconds
        self.rule = lambda request: fault if time.monotonic() < end else None

    def fault_of(self, request: Request) -> Fault | None:
        """Record the request and return the fault to inject."""
        fault = self.rule(request)
        self.requests.append(replace(request, faulted=fault is not None))
        return fault

    def start(self) -> Self:
        self._server = _ProxyServer(self._port, self)
        self._port = self._server.server_port  # reused after a restart
        self.url = f"http://127.0.0.1:{self._port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


class _ProxyServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, proxy: FaultyProxy) -> None:
        super().__init__(("127.0.0.1", port), _ProxyHandler)
        self.proxy = proxy
        self._connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening and close all connections."""
        super().server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close their connections, which faults provoke."""


class _ProxyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _ProxyServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        fault = self.server.proxy.fault_of(_request(self.command, self.path, dict(self.headers.items())))
        if fault and fault.action == "reset":
            self.rfile.read(length // 2)
            self._reset()
            return
        body = self.rfile.read(length)
        if fault and fault.action == "hang":
            time.sleep(fault.seconds)
            self._reset()
            return
        if fault and fault.action == "status":
            text = f"<Error><Code>{fault.code}</Code><Message>injected fault</Message></Error>"
            content = (text if fault.body is None else fault.body).encode()
            self._respond(fault.status, {"Content-Type": "application/xml", **fault.headers}, content)
            return
        status, headers, content = self._forward(body)
        if fault and fault.action == "lost":
            self._reset()
        elif fault and fault.action == "half":
            self._respond(status, headers, content, sent=len(content) // 2)
            self._reset()
        else:
            self._respond(status, headers, content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        with contextlib.closing(http.client.HTTPConnection(self.server.proxy.upstream, timeout=60)) as connection:
            # The client's signature covers the Host header, which must stay the proxy's.
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"connection", "expect"}:
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            content = response.read()
            headers = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
            return response.status, headers, content

    def _respond(self, status: int, headers: dict[str, str], content: bytes, *, sent: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "content-length" not in {name.lower() for name in headers}:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
        self.wfile.flush()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


def _request(method: str, target: str, headers: dict[str, str]) -> Request:
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    _, _, key = unquote(parts.path).removeprefix("/").partition("/")
    lowered = {name.lower(): value for name, value in headers.items()}
    return Request(_kind(method, key, query, lowered), key, lowered)


def _kind(method: str, key: str, query: dict[str, list[str]], headers: dict[str, str]) -> Kind:
    match method:
        case "PUT" if "uploadId" in query:
            return "part"
        case "PUT" if key:
            return "copy" if "x-amz-copy-source" in headers else "put"
        case "GET":
            return "get" if key else "list"
        case "HEAD" if key:
            return "head"
        case "DELETE" if "uploadId" in query:
            return "drop_parts"
        case "DELETE" if key:
            return "delete"
        case "POST" if "delete" in query:
            return "delete"
        case "POST" if "uploads" in query:
            return "start_parts"
        case "POST" if "uploadId" in query:
            return "end_parts"
    return "other"


def _main(latency: float) -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        # Otherwise the body would wait 40 ms for the acknowledgement of the headers.
        disable_nagle_algorithm = True
        protocol_version = "HTTP/1.1"

        def run_wsgi(self) -> None:
            time.sleep(latency)
            super().run_wsgi()

        def log(self, *args: Any) -> None:
            pass

    server = make_server(
        "127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True, request_handler=Handler
    )
    print(f"http://127.0.0.1:{server.port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    _main(float(sys.argv[1]))

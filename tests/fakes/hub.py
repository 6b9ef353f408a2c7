"""A local model hub that serves folders as repositories and counts requests."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

COMMIT = "0123456789" * 4


class FakeHub:
    """Serves ``repositories``, name -> folder. ``fetched`` lists the files whose content was requested.

    Files in ``cut_short`` end in the middle, as after a broken connection; files in ``stalled`` are not sent until the
    hub closes.
    """

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        self.fetched: list[str] = []
        self.requests = 0
        self.cut_short: set[str] = set()
        self.stalled: set[str] = set()
        self.stalling = threading.Event()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def log_message(self, *args: object) -> None:
                pass

            def _answer(self, *, with_body: bool) -> None:
                hub.requests += 1
                if self.path.startswith("/api/models/"):
                    self._answer_commit()
                    return
                owner, name, _, _, file = self.path.lstrip("/").split("/", 4)
                path = hub.repositories.get(f"{owner}/{name}", Path("/nonexistent")) / file
                if not path.is_file():
                    self._send(404, {"X-Error-Code": "EntryNotFound", "Content-Length": "0"})
                    return
                content = path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                self._send(200, {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"', "Content-Length": str(len(content))})
                if with_body:
                    hub.fetched.append(file)
                    if file in hub.stalled:
                        hub.stalling.set()
                        hub._closing.wait()
                        return
                    self.wfile.write(content[: len(content) // 2] if file in hub.cut_short else content)

            def _answer_commit(self) -> None:
                repository = "/".join(self.path.split("/")[3:5])
                content = json.dumps({"id": repository, "sha": COMMIT, "siblings": []}).encode()
                status = 200 if repository in hub.repositories else 404
                self._send(status, {"Content-Type": "application/json", "Content-Length": str(len(content))})
                self.wfile.write(content)

            def _send(self, status: int, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

        return Handler

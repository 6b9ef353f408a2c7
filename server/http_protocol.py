"""uvicorn's HTTP protocol with limits for what a client may send before and between requests."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10  # checked after each read, so up to one read more (256 KiB) may pass
MAX_HEADERS = 100
HEAD_TIMEOUT = 10.0  # seconds


class LimitedHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 on one connection, which is closed if a request head is too large or does not arrive in time.

    uvicorn has no such limits: it buffers headers until memory is full and keeps connections with half a head.
    """

    head_timeout = HEAD_TIMEOUT
    _head_timer: asyncio.TimerHandle | None = None
    # Bytes received since a head or a piece of a body was parsed. The parser buffers an unfinished header.
    _unparsed = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The request head is larger than {MAX_HEAD_BYTES:,} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) == MAX_HEADERS:
            raise ValueError(f"more than {MAX_HEADERS} headers")  # the parser stops, and uvicorn answers with a 400
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unparsed = 0
        self._stop_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:
            # Any byte stops uvicorn's own timer, also one of a body that no handler reads.
            self._start_head_timer()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout, self.transport.close)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()

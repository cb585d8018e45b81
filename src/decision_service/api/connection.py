"""One HTTP connection, hardened: uvicorn's httptools protocol has no time-out but keep-alive and no bound on headers.

    a request's headers are not complete in `header_timeout_ms`, from the connection or its first byte   closed
    request line and headers exceed `header_bytes_max` or `headers_max` fields                          431, closed
    its body is not complete in `body_timeout_ms` after the headers                                     408, closed
    it is no HTTP request                                                                                400, closed

A request that arrives whole in one read, as nearly all do, costs no timer.
"""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from decision_service.api.problems import problem_of
from decision_service.api.refusals import BodyTimeout, HeadersTooLarge
from decision_service.core.errors import DecisionServiceError, MalformedBody
from decision_service.settings import Settings

HEADERS, BODY, IDLE = range(3)


class HeaderOverflow(Exception):
    """More header bytes or fields than allowed; the parser turns it into its own error."""


class GuardedConnection(HttpToolsProtocol):
    """A connection that cannot be held open or filled for nothing. Its bounds are the gate's settings."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        settings: Settings = config.loaded_app.settings
        self.header_bytes_max = settings.header_bytes_max
        self.headers_max = settings.headers_max
        self.header_timeout_s = settings.header_timeout_ms / 1000
        self.body_timeout_s = settings.body_timeout_ms / 1000
        self._waits_for = HEADERS
        self._header_bytes = 0
        self._parsed_bytes = 0
        self._overflow = False
        self._watch: TimerHandle | None = None
        self._watched = IDLE

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request's headers are awaited from now on."""
        super().connection_made(transport)
        self._rewatch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._waits_for = IDLE
        self._rewatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes from the caller; what is still missing afterwards is watched."""
        if self._waits_for == IDLE:
            self._waits_for = HEADERS  # of the next request on this connection
        if self._waits_for == HEADERS:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._waits_for == HEADERS and self._header_bytes > self.header_bytes_max:
            self._refuse(HeadersTooLarge("the request line and headers are too large"))
        if self._waits_for != self._watched:
            self._rewatch()

    def on_message_begin(self) -> None:
        """A request starts; pipelined ones may follow each other in one read."""
        super().on_message_begin()
        self._waits_for = HEADERS
        self._parsed_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Part of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One whole header field."""
        self._count(len(name) + len(value) + 4)
        if len(self.headers) >= self.headers_max:
            self._overflow = True
            raise HeaderOverflow
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The body is awaited from now on."""
        super().on_headers_complete()
        self._waits_for = BODY
        self._header_bytes = 0

    def on_message_complete(self) -> None:
        """The request is here as a whole."""
        super().on_message_complete()
        self._waits_for = IDLE

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP request, or an oversize one, is told so as a problem."""
        self._refuse(
            HeadersTooLarge("too many headers")
            if self._overflow
            else MalformedBody("", "this is no valid HTTP request")
        )

    def _count(self, size: int) -> None:
        self._parsed_bytes += size
        if self._parsed_bytes > self.header_bytes_max:
            self._overflow = True
            raise HeaderOverflow

    def _rewatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._watched = self._waits_for
        if self._waits_for != IDLE:
            seconds = self.header_timeout_s if self._waits_for == HEADERS else self.body_timeout_s
            self._watch = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        """What was awaited did not come."""
        self._watch = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:  # it is we who do not read: a pipelined request waits for its turn
            self._rewatch()
        elif self._watched == BODY and not self.cycle.response_started:
            self._refuse(BodyTimeout("the body did not arrive in time"))
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        else:
            self.transport.close()

    def _refuse(self, error: DecisionServiceError) -> None:
        if self.transport.is_closing():
            return
        status, body, headers = problem_of(error)
        lines = [STATUS_LINE[status]]
        for name, value in self.server_state.default_headers + headers:
            if name != b"connection":
                lines += [name, b": ", value, b"\r\n"]
        lines += [b"content-length: ", str(len(body)).encode(), b"\r\nconnection: close\r\n\r\n", body]
        self.transport.write(b"".join(lines))
        self.transport.close()

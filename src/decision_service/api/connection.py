"""One HTTP connection, hardened: uvicorn's httptools protocol has no time-out but keep-alive and no bound on headers.

    a request's headers are not complete in `header_timeout_ms`, from the connection or its first byte   closed
    request line and headers exceed `header_bytes_max` or `headers_max` fields                          431, closed
    its body is not complete in `body_timeout_ms` after the headers                                     408, closed
    it is no HTTP request                                                                                400, closed
    its answer is not taken in `write_timeout_ms`, whole or (a large one) as far as it has to be     closed
    there are more connections than `connections_max`, or than one address may have                     503, closed

A request that arrives whole in one read, as nearly all do, costs no timer. One that admission will not let in is
refused as it lies there (`shedding`), and a draw is answered the direct way (`direct`), without what ASGI needs.

Answers have the order of their requests. While a draw is answered the direct way, what its caller sends meanwhile is
not looked at: one read is held, and no further one is made.
"""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from decision_service.api.call import Reply
from decision_service.api.direct import Head, Headers
from decision_service.api.problems import problem_of
from decision_service.api.refusals import BodyTimeout, HeadersTooLarge
from decision_service.api.shedding import Caller
from decision_service.core.errors import DecisionServiceError, MalformedBody
from decision_service.settings import Settings

if TYPE_CHECKING:
    from decision_service.api.gate import Gate

HEADERS, BODY, IDLE = range(3)
HEADS_LEARNT = 8  # on a connection: a caller whose headers differ each time (a trace's id) is not learnt from for ever


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
        self.write_timeout_s = settings.write_timeout_ms / 1000
        self._write_watch: TimerHandle | None = None
        self._shedding = config.loaded_app.shedding
        self._admission = config.loaded_app.shedding.admission
        self._connections = config.loaded_app.connections
        self.caller = Caller()
        self._gate: Gate = config.loaded_app
        self._head: Head | None = None  # the last one that came the direct way
        self._heads_read = 0
        self._direct = not config.access_log and config.limit_concurrency is None and not self.root_path
        self._drawing: asyncio.Task[None] | None = None
        self._held = b""
        self._held_came = 0.0
        self._ending = False
        self._spoke_at = 0.0
        self._came = 0.0
        self._screened = False
        self._running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request's headers are awaited from now on."""
        super().connection_made(transport)
        if self._connections.enter(self, self.client[0] if self.client else ""):
            self._rewatch()
        else:
            transport.write(self._shedding.farewell(self.server_state.default_headers))
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._waits_for = IDLE
        self._rewatch()
        if self._write_watch is not None:
            self._write_watch.cancel()
        self._connections.leave(self)
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True  # uvicorn tells only the last of pipelined requests
            self._running.message_event.set()
        self.pipeline.clear()
        self._held = b""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes from the caller."""
        came = self._admission.look(self.loop.time())
        if self._drawing is None:
            self._came = came
            self._take(data)
        else:
            if not self._held:
                self._held_came = came
            self._held += data
            self.flow.pause_reading()
        self._admission.worked()

    def _take(self, data: bytes) -> None:
        """Bytes that came at `_came`: refused, answered the direct way, or parsed."""
        self._screened = not self._admission.crowded()
        if self._between_requests():
            if not self._screened:
                refusal = self._shedding.refusal(data, self._came, self.caller, self.server_state.default_headers)
                if refusal:
                    self._answer_ready_made(refusal)
                    return
                self._screened = refusal is not None
            if self._direct and self._draws(data):
                return
        self._parse(data)

    def _draws(self, data: bytes) -> bool:
        """Whether a request is answered the direct way; that has begun."""
        head = self._head
        at = head.body_at(data) if head is not None else 0
        if head is None or not at:
            found = self._gate.heads.read(data, self._heads_read < HEADS_LEARNT)
            if found is None:
                return False
            head, at = found
            self._heads_read += 1
            self._head = head if self._heads_read <= HEADS_LEARNT else None
        if self._waits_for != IDLE:
            self._waits_for = IDLE
            self._rewatch()
        self._admission.expect()
        peer = self.client[0] if self.client else None
        answering = self._gate.answer_draw(self, head, peer, data[at:], self._came, self._screened)
        self._drawing = asyncio.Task(answering, loop=self.loop, name="draw")
        self.tasks.add(self._drawing)
        return True

    def answer(self, reply: Reply, more: Headers) -> None:
        """Write the answer to the draw that is under way."""
        if self.transport.is_closing():
            return
        last = self._ending and not self._held
        answer, last = self._gate.answers.bytes_of(reply, more, self.server_state.default_headers, last)
        self.transport.write(answer)
        if last:
            self._close()

    def drawn(self, answered: bool) -> None:
        """The draw that was under way is over: the next request has its turn, unless there was no answer: then another
        one's answer would be taken for it."""
        assert self._drawing is not None
        self.tasks.discard(self._drawing)
        self._drawing = None
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not answered:
            self.transport.abort()
            return
        self._spoke()
        if self._held:
            data, self._held = self._held, b""
            self._came = self._held_came
            self.flow.resume_reading()
            self._take(data)
            if self._ending:
                self.shutdown()

    def _parse(self, data: bytes) -> None:
        """The ordinary way; what is still missing afterwards is watched."""
        if self._waits_for == IDLE:
            self._waits_for = HEADERS  # of the next request on this connection
        if self._waits_for == HEADERS:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._waits_for == HEADERS and self._header_bytes > self.header_bytes_max:
            self._refuse(HeadersTooLarge("the request line and headers are too large"))
        if self._waits_for != self._watched:
            self._rewatch()

    def _between_requests(self) -> bool:
        """Whether what comes now is the beginning of a request, and nothing is under way."""
        if self._header_bytes or self._waits_for == BODY or self.transport.is_closing():
            return False
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    def _answer_ready_made(self, answer: bytes) -> None:
        """Answer without the parser's having seen the request."""
        if self._waits_for != IDLE:
            self._waits_for = IDLE
            self._rewatch()
        self.transport.write(answer)
        self._spoke()

    def _spoke(self) -> None:
        """An answer was given past the parser. The timer is not made anew each time: it looks at when that was."""
        self._spoke_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._keep_alive(self.timeout_keep_alive)

    def _keep_alive(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for long: the connection ends, unless what came was answered past the parser."""
        self.timeout_keep_alive_task = None
        if self._drawing is not None or self.transport.is_closing():
            return
        left_s = self._spoke_at + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._keep_alive(left_s)
        else:
            self._close()

    def pause_writing(self) -> None:
        """The caller takes its answers too slowly: it has some time to take what there is."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """It took nearly all."""
        super().resume_writing()
        if self._write_watch is not None and not self.transport.is_closing():
            self._write_watch.cancel()
            self._write_watch = None

    def on_response_complete(self) -> None:
        """An answer was written; where it is the last one, it must be taken in time."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_writing()

    def shutdown(self) -> None:
        """The server ends; what is being answered, or lies here whole, is answered before."""
        self._ending = True
        if self._drawing is not None:
            return
        super().shutdown()
        if self.transport.is_closing():
            self._watch_writing()

    def _close(self) -> None:
        """Close once what was written is taken, and in any case after a while."""
        self.transport.close()
        self._watch_writing()

    def _watch_writing(self) -> None:
        if self._write_watch is None and self.transport.get_write_buffer_size():
            self._write_watch = self.loop.call_later(self.write_timeout_s, self.transport.abort)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """A request of this connection has its turn."""
        self._admission.expect()
        self._running = cycle
        super()._start_asgi_task(cycle, app)

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
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope.update(came=self._came, caller=self.caller)
        super().on_headers_complete()
        self._waits_for = BODY
        self._header_bytes = 0

    def on_message_complete(self) -> None:
        """The request is here as a whole."""
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope.update(came=self._came, screened=self._screened)
        self._screened = False  # further ones in the same read were not looked at
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
            self._close()

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
        self._close()

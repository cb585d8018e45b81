"""An HTTP server for tests of the load generator: it answers what it is told to, and stands still when it is told to.

Whoever imports this first can import what is in `benchmarks`.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

DECIDED = b'{"decision_id":"d1","decision":"approve","rung":"full"}'
WITH_BODY = b"content-length: "
Answer = Callable[[int], bytes]


def answer(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    """A response."""
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, headers, len(body), body)


class StallingServer(socketserver.ThreadingTCPServer):
    """`reply(n)` is the response to the n-th request, from 0 (b"" closes the connection). Before the `stall_at`-th the
    whole server stands still for `stall_s`; `stalled_ns` is when that began and ended. One request at a time."""

    request_queue_size = 64

    def __init__(self, reply: Answer, stall_at: int = -1, stall_s: float = 0.0, in_pieces: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self._reply, self._stall_at, self._stall_s = reply, stall_at, stall_s
        self._one_at_a_time = threading.Lock()
        self.in_pieces = in_pieces
        self.requests = 0
        self.bodies: list[bytes] = []
        self.stalled_ns = (0, 0)
        self.port: int = self.server_address[1]

    def respond(self, body: bytes) -> bytes:
        """The response to the next request."""
        with self._one_at_a_time:
            self.bodies.append(body)
            number, self.requests = self.requests, self.requests + 1
            if number == self._stall_at:
                began = time.perf_counter_ns()
                time.sleep(self._stall_s)
                self.stalled_ns = (began, time.perf_counter_ns())
            return self._reply(number)


class _Connection(socketserver.StreamRequestHandler):
    server: StallingServer
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with suppress(ConnectionError):
            while (body := self._body()) is not None:
                response = self.server.respond(body)
                if not response:
                    self.request.shutdown(socket.SHUT_RDWR)
                    return
                if self.server.in_pieces:
                    self.wfile.write(response[:30])
                    time.sleep(0.002)
                    response = response[30:]
                self.wfile.write(response)
                if b"Connection: close" in response:
                    return

    def _body(self) -> bytes | None:
        """The body of the next request; None where the connection ended."""
        length = 0
        while (line := self.rfile.readline()) != b"\r\n":
            if not line:
                return None
            if line.lower().startswith(WITH_BODY):
                length = int(line[len(WITH_BODY) :])
        return self.rfile.read(length)


@contextmanager
def running(server: StallingServer) -> Iterator[StallingServer]:
    """Run it in threads of its own."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()  # waits for the connections, whose other ends are closed

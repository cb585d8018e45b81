"""A real uvicorn with guarded connections over a desk of fakes, in a thread; decisions can be held back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from api_fakes import DRAWDOWN, FakeCustomers, FakeDecisions, settings_of

from decision_service.api.access import Access
from decision_service.api.connection import GuardedConnection
from decision_service.api.gate import Gate
from decision_service.api.handlers import Desk
from decision_service.api.routes import LABELS
from decision_service.server import SEND_BUFFER_BYTES
from decision_service.telemetry import Meters

PATIENCE_S = 20.0


class Barrier:
    """What a fake waits for: open from any thread."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    async def wait(self) -> None:
        for _ in range(10_000):
            if self.opened.is_set():
                return
            await asyncio.sleep(0.002)


@dataclass
class Guarded:
    """A running server."""

    port: int
    gate: Gate
    decisions: FakeDecisions
    customers: FakeCustomers
    meters: Meters
    server: uvicorn.Server

    def stop(self) -> None:
        """Begin to end, as SIGTERM would."""
        self.server.should_exit = True

    def caller(self) -> Caller:
        """A new connection."""
        return Caller(self.port)

    def hold(self) -> Barrier:
        """Decisions wait from now on."""
        barrier = Barrier()
        self.decisions.waits_for = barrier  # type: ignore[assignment]
        return barrier

    def page(self) -> str:
        """/metrics."""
        with contextlib.closing(self.caller()) as caller:
            return caller.ask(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")[2].decode()


class Caller:
    """One connection of a caller that sends bytes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._received = b""

    def send(self, request: bytes) -> None:
        """Send."""
        self.socket.sendall(request)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        status, headers, _, body = self._next()
        return status, headers, body

    def answer_raw(self) -> bytes:
        """The bytes of the next answer."""
        return b"\r\n\r\n".join(self._next()[2:])

    def _next(self) -> tuple[int, dict[str, str], bytes, bytes]:
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, rest = self._received.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        length = int(headers["content-length"])
        self._received = rest
        while len(self._received) < length:
            self._more()
        body, self._received = self._received[:length], self._received[length:]
        return int(lines[0].split(" ")[1]), headers, head, body

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send, and the answer."""
        self.send(request)
        return self.answer()

    def ask_raw(self, request: bytes) -> bytes:
        """Send, and the bytes of the answer."""
        self.send(request)
        return self.answer_raw()

    def ended(self) -> bool:
        """Whether the server closes without another word."""
        with contextlib.suppress(ConnectionResetError):
            return self.socket.recv(65_536) == b""
        return True

    def _more(self) -> None:
        more = self.socket.recv(65_536)
        assert more, "the connection ended"
        self._received += more

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


def draw(request_id: str, *headers: bytes, **change: Any) -> bytes:
    """The bytes of a drawdown."""
    return call(b"POST /v1/decisions", orjson.dumps({**DRAWDOWN, "request_id": request_id, **change}), *headers)


def call(line: bytes, body: bytes = b"", *headers: bytes) -> bytes:
    """The bytes of a call."""
    head = [line + b" HTTP/1.1", b"Host: 127.0.0.1", b"Content-Type: application/json", *headers]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])


def until(true: Callable[[], bool]) -> None:
    """Wait until it is true."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@contextmanager
def guarded_server(
    directory: Path, access: Access | None = None, *, keep_alive_s: int = 5, **values: Any
) -> Iterator[Guarded]:
    """A server with these settings."""
    meters = Meters(directory, LABELS)
    settings = settings_of(**values)
    decisions, customers = FakeDecisions(), FakeCustomers()

    @asynccontextmanager
    async def open_desk() -> AsyncIterator[Desk]:
        yield Desk(decisions, customers, settings, meters, decisions.now_ms)  # type: ignore[arg-type]

    gate = Gate(settings, access or Access(), meters, open_desk)
    config = uvicorn.Config(
        gate, loop="uvloop", http=GuardedConnection, ws="none", lifespan="on", log_config=None, interface="asgi3",
        proxy_headers=False, timeout_keep_alive=keep_alive_s, access_log=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listening.bind(("127.0.0.1", 0))
        listening.listen(256)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        until(lambda: server.started)
        try:
            yield Guarded(listening.getsockname()[1], gate, decisions, customers, meters, server)
        finally:
            if decisions.waits_for is not None:
                decisions.waits_for.opened.set()  # type: ignore[attr-defined]
            server.should_exit = True
            thread.join()
    meters.close()

"""A load generator that costs little: a request at a time on each of many connections, about 25 us of CPU a request.

    async with Generator(port, connections) as generator:
        await generator.run(requests, taken)

`requests` yields (key, bytes) and ends when there is nothing more to ask; `taken(key, sent_s, received_s, status,
body)` is called for every answer, with status 0 for a connection that was lost instead. Instants are those of
`perf_counter`, taken just before the bytes are handed to the kernel and just after they were read.

A generator that has no time to read sees late what came early: `gaps` are the times its loop did not come round for
more than GAP_S (from, to, seconds lost), which whoever judges single answers has to look at.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Final

sys.path.append(str(Path(__file__).parents[1]))
from responses import body_at

GAP_S: Final = 0.004
TICK_S: Final = 0.001
RECONNECT_S: Final = 0.02

Taken = Callable[[Any, float, float, int, bytes], None]


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the last one is complete."""

    def __init__(self, generator: Generator, lost: asyncio.Future[None]) -> None:
        self._generator, self._lost = generator, lost
        self._received = b""
        self._key: Any = None
        self._sent = 0.0
        self._waits = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        request = next(self._generator.requests, None)
        if request is None:
            self._transport.close()
            return
        self._key, content = request
        self._waits = True
        self._sent = perf_counter()
        self._transport.write(content)

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        received = self._received = self._received + data if self._received else data
        end = body_at(received)
        if not end:
            return
        self._received = b""
        self._waits = False
        self._generator.taken(self._key, self._sent, now, int(received[9:12]), received[end:])
        if b"\r\nconnection: close" not in received[:end].lower():
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if self._waits:
            self._waits = False
            self._generator.taken(self._key, self._sent, perf_counter(), 0, b"")
        self._lost.set_result(None)


class Generator:
    """Closed loop on so many connections; one that is lost is opened again."""

    def __init__(self, port: int, connections: int) -> None:
        self._port, self._connections = port, connections
        self.requests: Iterator[tuple[Any, bytes]] = iter(())
        self.taken: Taken = _ignore
        self.gaps: list[tuple[float, float, float]] = []
        self._ended = False
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Generator:
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._ticking is not None
        self._ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._ticking

    async def run(self, requests: Iterator[tuple[Any, bytes]], taken: Taken) -> None:
        """Until there are no more requests and every answer is there."""
        self._ended = False
        self.requests, self.taken = self._until_they_end(requests), taken
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._keep())

    def _until_they_end(self, requests: Iterator[tuple[Any, bytes]]) -> Iterator[tuple[Any, bytes]]:
        yield from requests
        self._ended = True

    async def _keep(self) -> None:
        """One connection, opened again whenever it is lost."""
        loop = asyncio.get_running_loop()
        while not self._ended:
            lost: asyncio.Future[None] = loop.create_future()
            try:
                await loop.create_connection(partial(_Connection, self, lost), "127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
                continue
            await lost

    async def _tick(self) -> None:
        last = perf_counter()
        while True:
            await asyncio.sleep(TICK_S)
            now = perf_counter()
            if now - last > GAP_S:
                self.gaps.append((last, now, now - last - TICK_S))
            last = now


def _ignore(key: Any, sent_s: float, received_s: float, status: int, body: bytes) -> None:
    """Answers that nobody wants."""

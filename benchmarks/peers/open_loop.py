"""A fixed rate of requests whatever the answers do, latency counted from the instant each was due (coordinated omission
counted): a server that stalls for a second delays all that were due meanwhile, and all of them say so.

Requests leave on the next free keep-alive connection; while none is free they wait, and the waiting counts. `late_us`
tells how late the generator itself was with those that had a connection: its own share of what was measured.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import uvloop

from responses import body_at

CONNECTIONS: Final = 64
DRAIN_S: Final = 20.0
_EARLY_S: Final = 0.0005  # sleep until so long before a request is due, then yield to the loop only


@dataclass(slots=True)
class Offered:
    """One run at a fixed rate. Latencies in nanoseconds, from the instant a request was due."""

    wanted_per_s: float
    latencies_ns: list[int] = field(default_factory=list)
    late_ns: list[int] = field(default_factory=list)
    failures: int = 0
    first_failure: bytes = b""
    unanswered: int = 0
    seconds: float = 0.0


class _Connection(asyncio.Protocol):
    def __init__(self, free: deque[_Connection], waiting: deque[tuple[int, bytes]], offered: Offered) -> None:
        self._free, self._waiting, self._offered = free, waiting, offered
        self._received = b""
        self._due_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._free.append(self)

    def send(self, due_ns: int, request: bytes) -> None:
        """Send a request that was due at an instant."""
        self._due_ns = due_ns
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        if not body_at(received):
            return
        offered = self._offered
        offered.latencies_ns.append(time.perf_counter_ns() - self._due_ns)
        if received[9:12] != b"200":
            offered.failures += 1
            offered.first_failure = offered.first_failure or received
        self._received = b""
        if self._waiting:
            self.send(*self._waiting.popleft())
        else:
            self._free.append(self)


async def _run(port: int, requests: Iterator[bytes], per_s: float, seconds: float) -> Offered:
    loop = asyncio.get_running_loop()
    offered = Offered(per_s)
    free: deque[_Connection] = deque()
    waiting: deque[tuple[int, bytes]] = deque()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: _Connection(free, waiting, offered), "127.0.0.1", port)
    everyone = list(free)
    started, count = time.perf_counter_ns(), int(per_s * seconds)
    for number in range(count):
        due_ns = started + int(number / per_s * 1e9)
        while (left_s := (due_ns - time.perf_counter_ns()) / 1e9) > 0:  # noqa: ASYNC110  # until an instant
            await asyncio.sleep(left_s - _EARLY_S if left_s > _EARLY_S else 0)
        if free:
            offered.late_ns.append(time.perf_counter_ns() - due_ns)
            free.popleft().send(due_ns, next(requests))
        else:
            waiting.append((due_ns, next(requests)))
    until = time.perf_counter() + DRAIN_S
    while len(offered.latencies_ns) < count and time.perf_counter() < until:  # noqa: ASYNC110  # not on the path of a request
        await asyncio.sleep(0.005)
    offered.unanswered = count - len(offered.latencies_ns)
    offered.seconds = (time.perf_counter_ns() - started) / 1e9
    for connection in everyone:
        connection.transport.close()
    return offered


def open_loop(port: int, requests: Iterator[bytes], per_s: float, seconds: float) -> Offered:
    """Offer a rate to the server on a loopback port."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(port, requests, per_s, seconds))

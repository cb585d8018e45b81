"""A closed-loop HTTP load generator that costs little: `connections` requests are always under way.

Requests are byte strings rendered before the clock starts but for a running number; a response is taken
apart only as far as its length and status. About 25 us of CPU a request, so that one core can drive a
server that answers 12,000 times a second; `cpu_share` says how busy it was, and a run whose generator was
above `BUSY` measured the generator.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import uvloop

from responses import body_at

BUSY = 0.9


@dataclass(slots=True)
class Measured:
    """One run. Latencies in nanoseconds, in order of completion; `failures` counts other statuses than 200."""

    latencies_ns: list[int] = field(default_factory=list)
    failures: int = 0
    first_failure: bytes = b""
    seconds: float = 0.0
    cpu_share: float = 0.0
    last_body: bytes = b""

    @property
    def requests_per_s(self) -> float:
        """Completed requests a second."""
        return len(self.latencies_ns) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the latencies in milliseconds (the value at or above that share of requests)."""
        ordered = sorted(self.latencies_ns)
        return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))] / 1e6


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the last one is complete."""

    def __init__(self, requests: Iterator[bytes], measured: Measured, until: float, done: asyncio.Future[None]) -> None:
        self._requests, self._measured = requests, measured
        self._until, self._done = until, done
        self._received = b""
        self._sent_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        if time.perf_counter() >= self._until:
            self._transport.close()
            return
        self._sent_ns = time.perf_counter_ns()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        end = body_at(received)
        if not end:
            return
        measured = self._measured
        measured.latencies_ns.append(time.perf_counter_ns() - self._sent_ns)
        if received[9:12] != b"200":
            measured.failures += 1
            measured.first_failure = measured.first_failure or received
        measured.last_body = received[end:]
        self._received = b""
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def _run(port: int, requests: Iterator[bytes], connections: int, seconds: float) -> Measured:
    loop = asyncio.get_running_loop()
    measured = Measured()
    cpu, started = time.process_time(), time.perf_counter()
    dones = []
    for _ in range(connections):
        done = loop.create_future()
        dones.append(done)
        await loop.create_connection(
            lambda done=done: _Connection(requests, measured, started + seconds, done), "127.0.0.1", port
        )
    await asyncio.wait(dones, timeout=seconds + 30)
    measured.seconds = time.perf_counter() - started
    measured.cpu_share = (time.process_time() - cpu) / measured.seconds
    return measured


def closed_loop(port: int, requests: Iterator[bytes], connections: int, seconds: float) -> Measured:
    """Drive the server on a loopback port for `seconds`."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(port, requests, connections, seconds))

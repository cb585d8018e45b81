"""Two hundred slow sockets: what do they cost the others?

    header   a request line and headers, a byte now and then, never complete
    body     complete headers, then the body a byte now and then
    read     an answer of more than a megabyte is asked for and never read

Windows with and without them take turns in one run, so that whatever else the machine does falls on both alike. The
others are a closed loop of drawdowns on a few connections, well below what the worker can do. A slow socket that the
service closes is opened again at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import orjson
import uvloop
from callers import AMOUNT, open_lines
from figures import Figure, Result, parser_of, run, say
from generator import Generator
from whole_service import PlainStore, WholeService, halves_of_machine

SLOW: Final = 200
DRIP_S: Final = 0.5
SETTLE_S: Final = 1.5  # of a window, in which nothing is measured: opening two hundred at once is no slow client
CONNECTIONS: Final = 4
CUSTOMERS: Final = 400
LIMIT: Final = 10_000_000
RATIO_MAX: Final = 1.5
RECEIVE_BYTES: Final = 2_048
KINDS: Final = ("header", "body", "read")
STARTS: Final = {
    "header": b"POST /v1/decisions HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ",
    "body": b"POST /v1/decisions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"content-length: 4000\r\n\r\n{",
    "read": b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
}


class SlowSockets:
    """The two hundred, opened and closed together."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []
        self.closed: Counter[str] = Counter()  # by the service

    def open(self) -> None:
        """All of them."""
        self._tasks = [asyncio.create_task(self._slow(KINDS[i % len(KINDS)])) for i in range(SLOW)]

    async def close(self) -> None:
        """None of them any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _slow(self, kind: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            slow = socket.socket()
            try:
                slow.setblocking(False)
                if kind == "read":
                    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
                with contextlib.suppress(OSError):
                    await loop.sock_connect(slow, ("127.0.0.1", self._port))
                    await loop.sock_sendall(slow, STARTS[kind])
                    while not self._ended(slow, kind):
                        await asyncio.sleep(DRIP_S)
                        if kind != "read":
                            await loop.sock_sendall(slow, b"x")
                self.closed[kind] += 1
                await asyncio.sleep(DRIP_S / 5)
            finally:
                slow.close()

    @staticmethod
    def _ended(slow: socket.socket, kind: str) -> bool:
        """Whether the service closed it: an end where nothing, or nothing more than a refusal, is expected."""
        flags = socket.MSG_PEEK if kind == "read" else 0
        try:
            return slow.recv(1 if kind == "read" else RECEIVE_BYTES, flags) == b""
        except BlockingIOError:
            return False


def requests(marks: Iterator[int]) -> Iterator[tuple[int, bytes]]:
    """Drawdowns without end."""
    for number in marks:
        customer = number % CUSTOMERS
        body = orjson.dumps(
            {
                "request_id": f"s-{number}", "customer_id": f"s-{customer}", "facility_id": f"sf-{customer}",
                "amount": AMOUNT, "currency": "CNY", "deadline_ms": 1_000,
            }
        )  # fmt: skip
        yield (
            number,
            (
                b"POST /v1/decisions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            ),
        )


def until(ends: float, asked: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """What is asked before an instant."""
    while perf_counter() < ends:
        yield next(asked)


async def windows(port: int, pairs: int, window_s: float) -> tuple[list[list[float]], list[list[float]], Counter[str]]:
    """Latencies in seconds of each window without and with the slow sockets; what else came back."""
    without: list[list[float]] = []
    with_them: list[list[float]] = []
    odd: Counter[str] = Counter()
    slow = SlowSockets(port)
    asked = requests(count())
    async with Generator(port, CONNECTIONS) as generator:
        await generator.run(until(perf_counter() + 3, asked), lambda *_: None)  # warm
        for number in range(2 * pairs):
            taken: list[float] = []
            if number % 2:
                slow.open()
            counts_from = perf_counter() + SETTLE_S

            def take(
                _key: Any, sent: float, received: float, status: int, body: bytes,
                taken: list[float] = taken, counts_from: float = counts_from,
            ) -> None:  # fmt: skip
                if status != 200:
                    odd[f"{status}"] += 1
                elif sent > counts_from:
                    taken.append(received - sent)

            await generator.run(until(counts_from + window_s, asked), take)
            if number % 2:
                await slow.close()
                with_them.append(taken)
            else:
                without.append(taken)
    odd.update({f"slow {kind} closed by the service": closed for kind, closed in slow.closed.items()})
    return without, with_them, odd


def p99_ms(taken: list[float]) -> float:
    """The 99th percentile, in milliseconds; endless where nothing was answered."""
    return sorted(taken)[int(0.99 * (len(taken) - 1))] * 1_000 if taken else math.inf


def measure(result: Result, args: Any) -> None:
    """One run of alternating windows."""
    service_cores, other_cores = halves_of_machine()
    with (
        tempfile.TemporaryDirectory() as name,
        PlainStore(Path(name) / "store", other_cores) as store,
        WholeService(Path(name) / "service", store_url=store.url, cores=service_cores, log_level="error") as service,
    ):
        asyncio.run(open_lines(service.url, "s", CUSTOMERS, LIMIT))
        if other_cores is not None:
            os.sched_setaffinity(0, other_cores)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            without, with_them, odd = runner.run(windows(service.port, args.pairs, args.window_s))
    say(f"what else came back: {dict(odd)}")
    alone = [p99_ms(taken) for taken in without]
    beside = [p99_ms(taken) for taken in with_them]
    say(f"p99 without, ms: {[round(p, 2) for p in alone]}; with: {[round(p, 2) for p in beside]}")
    ratio = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    found = [value if math.isfinite(value) else None for value in (ratio, *map(statistics.median, (alone, beside)))]
    failures = sum(number for status, number in odd.items() if not status.startswith("slow"))
    result.figures += [
        Figure(f"p99 of others beside {SLOW} slow sockets, to without", found[0], RATIO_MAX, "at most", "times"),
        Figure("... p99 without", found[1], sense="told", unit="ms"),
        Figure("... p99 with", found[2], sense="told", unit="ms"),
        Figure("... others not answered 200", failures, 0),
    ]
    result.notes |= {
        "pairs": args.pairs, "window_s": args.window_s, "connections": CONNECTIONS, "other": dict(odd),
        "requests": [sum(map(len, without)), sum(map(len, with_them))],
    }  # fmt: skip


def main() -> int:
    """Parse options, run, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--pairs", type=int, help="of windows (15, or 4 with --quick)")
    parser.add_argument("--window-s", type=float, help="length of a window (8, or 3 with --quick)")
    args = parser.parse_args()
    args.pairs = args.pairs or (4 if args.quick else 15)
    args.window_s = args.window_s or (3.0 if args.quick else 8.0)
    return run("slowloris", args, lambda result: measure(result, args))


if __name__ == "__main__":
    sys.exit(main())

"""Overload: what one worker does when twice as many drawdowns arrive as it can decide.

    core 0   the worker
    core 1   this generator and Valkey, every write fsynced before it is answered

First the peak, closed loop with few connections; then the open loop: requests leave at random instants (Poisson) of a
given rate, whatever became of those before, each on a connection that is free. Latencies count from the instant at
which a request was due, so a late generator counts against the service. Goodput is full decisions in time: a 200 that
is late or was decided without the store (`static`) is none, and neither refusals nor static answers make the peak.
Where the worker did not have its core, or the generator was late, the machine was measured: `valid` tells.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from figures import Figure, Result, parser_of, say  # noqa: E402
from figures import run as run_and_tell  # noqa: E402

from closed_loop import closed_loop  # noqa: E402
from customers import Requests, load  # noqa: E402
from responses import body_at  # noqa: E402
from servers import free_port, service_command, serving, valkey  # noqa: E402

SERVER_CORES, LOAD_CORES = {0}, {1}
PEAK_CONNECTIONS = 24
CONNECTIONS_MAX = 2_000
CORE_SHARE_MIN = 0.9  # of a core that the overloaded worker must have had
LATE_SENDS_MAX = 0.01  # share of requests that may have left more than 5 ms late
SPIN_S = 0.0005  # between looks at what is due


@dataclass(slots=True)
class Answers:
    """What came back: latencies in seconds by status; what never did."""

    by_status: dict[int, list[float]] = field(default_factory=dict)
    kinds: Counter[bytes] = field(default_factory=Counter)
    full_in_time: int = 0
    sent: int = 0
    late_sends: int = 0
    seconds: float = 0.0
    cpu_share: float = 0.0


class Hasty(Requests):
    """The same requests, in more of a hurry."""

    def __init__(self, customers: int, deadline_ms: int) -> None:
        super().__init__(customers)
        slow, hasty = b'"deadline_ms":5000', b'"deadline_ms":%d' % deadline_ms
        self._halves = [[half.replace(slow, hasty) for half in halves] for halves in self._halves]


class _Connection(asyncio.Protocol):
    def __init__(self, generator: OpenLoop) -> None:
        self._generator = generator
        self._received = b""
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        end = body_at(received)
        if not end:
            return
        answers = self._generator.answers
        status = int(received[9:12])
        took_s = time.perf_counter() - self.due
        answers.by_status.setdefault(status, []).append(took_s)
        if status == 200 and b'"rung":"full"' in received:
            answers.full_in_time += took_s <= self._generator.deadline_s
        if status != 200:
            at = received.find(b"problem:", end) + 8
            answers.kinds[received[at : received.find(b'"', at)]] += 1
        elif b'"rung":"full"' not in received:
            answers.kinds[b"rung not full"] += 1
        self._received = b""
        self._generator.free.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._generator.answers.kinds[b"connection lost"] += 1


class OpenLoop:
    """Sends at given instants, on whichever connection is free."""

    def __init__(self, port: int, requests: Iterator[bytes], deadline_s: float) -> None:
        self._port, self._requests, self.deadline_s = port, requests, deadline_s
        self.answers = Answers()
        self.free: list[_Connection] = []
        self._made = 0

    async def _open(self) -> _Connection:
        self._made += 1
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self), "127.0.0.1", self._port
        )
        return connection

    async def run(self, rate: float, seconds: float, connections: int, seed: int) -> Answers:
        """So many requests a second for so long."""
        self.free = [await self._open() for _ in range(connections)]
        dice = random.Random(seed)
        answers, cpu, began = self.answers, time.process_time(), time.perf_counter()
        due = began
        while due < began + seconds:
            now = time.perf_counter()
            if due > now:
                await asyncio.sleep(SPIN_S if due - now < 0.002 else due - now - 0.001)
                continue
            if now - due > 0.005:
                answers.late_sends += 1
            connection = self.free.pop(0) if self.free else await self._open()
            connection.send(next(self._requests), due)
            answers.sent += 1
            due += dice.expovariate(rate)
        answers.seconds = time.perf_counter() - began
        answers.cpu_share = (time.process_time() - cpu) / answers.seconds
        for _ in range(200):  # the last answers
            if len(self.free) == self._made:
                break
            await asyncio.sleep(0.01)
        return answers


def percentile_ms(latencies: list[float], percent: float) -> float:
    """A percentile in ms; 0 of nothing."""
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))] * 1e3 if ordered else 0.0


def figures(answers: Answers, deadline_ms: float) -> dict[str, Any]:
    """What a run amounts to."""
    taken, shed = answers.by_status.get(200, []), answers.by_status.get(503, [])
    answered = sum(map(len, answers.by_status.values()))
    return {
        "sent_per_s": answers.sent / answers.seconds,
        "goodput_per_s": answers.full_in_time / answers.seconds,
        "let_in": len(taken), "late": sum(s * 1e3 > deadline_ms for s in taken), "shed": len(shed),
        "unanswered": answers.sent - answered,
        "let_in_ms": [round(percentile_ms(taken, p), 2) for p in (50, 99, 99.9, 100)],
        "shed_ms": [round(percentile_ms(shed, p), 2) for p in (50, 99, 99.9, 100)],
        "other": {k.decode(): n for k, n in answers.kinds.items()},
        "statuses": {k: len(v) for k, v in answers.by_status.items()},
        "generator_late": answers.late_sends, "generator_core_share": round(answers.cpu_share, 2),
    }  # fmt: skip


def full_decisions(url: str) -> float:
    """How many the service has made so far, by its own count."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("decision_service_decisions_total{") and 'rung="full"' in line
    )


def open_loop(port: int, requests: Iterator[bytes], rate: float, args: argparse.Namespace, seed: int) -> Answers:
    """Drive the server on a loopback port."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        generator = OpenLoop(port, requests, args.deadline_ms / 1e3)
        return runner.run(generator.run(rate, args.seconds, args.connections, seed))


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rounds of peak and overload."""
    os.sched_setaffinity(0, LOAD_CORES)
    port = free_port()
    environment = {
        "DECISION_SERVICE_RATE_LIMIT_PER_S": "0", "DECISION_SERVICE_LOG_LEVEL": "warning",
        "DECISION_SERVICE_DEADLINE_MS_DEFAULT": str(args.deadline_ms),
    }  # fmt: skip
    with (
        tempfile.TemporaryDirectory() as name,
        valkey(Path(name), LOAD_CORES) as store,
        serving(
            service_command(args, port), port, SERVER_CORES, "/readyz", Path(name) / "service.log",
            environment | {
                "DECISION_SERVICE_REDIS_URL": f"redis://127.0.0.1:{store.port}/0", "DECISION_SERVICE_DATA_DIR": name,
            },
        ) as service,
    ):  # fmt: skip
        load(service.url, args.customers, args.events, time.time_ns() // 1_000_000)
        requests = iter(Hasty(args.customers, args.deadline_ms))
        closed_loop(port, requests, PEAK_CONNECTIONS, 2)
        rounds = []
        for number in range(args.rounds):
            before = full_decisions(service.url)
            peak = closed_loop(port, requests, PEAK_CONNECTIONS, args.seconds)
            peak_per_s = (full_decisions(service.url) - before) / peak.seconds
            cpu, began = service.cpu_s(), time.perf_counter()
            over = open_loop(port, requests, peak_per_s * args.factor, args, number)
            share = (service.cpu_s() - cpu) / (time.perf_counter() - began)
            told = figures(over, args.deadline_ms)
            told |= {
                "peak_per_s": peak_per_s, "peak_failures": peak.failures,
                "peak_p99_ms": peak.percentile_ms(99), "service_core_share": round(share, 2),
                "goodput_of_peak": told["goodput_per_s"] / peak_per_s if peak_per_s else 0.0,
                "valid": share >= CORE_SHARE_MIN and over.late_sends <= LATE_SENDS_MAX * over.sent,
            }  # fmt: skip
            rounds.append(told)
            say(json.dumps(told))
        if args.log:
            say((Path(name) / "service.log").read_text()[-3000:])
        return rounds


def measure(result: Result, args: argparse.Namespace) -> None:
    """Medians over the rounds, each with its own peak."""
    rounds = run(args)
    late, let_in = (sum(one[name] for one in rounds) for name in ("late", "let_in"))

    def median(name: str, place: int | None = None) -> float:
        return statistics.median(one[name] if place is None else one[name][place] for one in rounds)

    result.figures += [
        Figure(
            f"goodput at {args.factor:g} times the peak, of the peak", 100 * median("goodput_of_peak"), 90, "at least",
            "%",
        ),
        Figure("... p99 of those let in", median("let_in_ms", 1), args.deadline_ms, "at most", "ms"),
        Figure("... requests without any answer", sum(one["unanswered"] for one in rounds), 0),
        Figure("... p99 of those refused, 503", median("shed_ms", 1), sense="told", unit="ms"),
        Figure("... let in and late", 100 * late / let_in, sense="told", unit="%"),
        Figure("... rounds that say nothing, for the machine was busy", sum(not one["valid"] for one in rounds), 0),
        Figure("... peak, closed loop", median("peak_per_s"), sense="told", unit="decisions/s"),
    ]  # fmt: skip
    result.notes |= {
        "deadline_ms": args.deadline_ms, "connections": args.connections, "rounds": rounds,
        "generator_core_share": median("generator_core_share"), "service_core_share": median("service_core_share"),
    }  # fmt: skip


def main() -> int:
    """Parse, run, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, help="of peak and overload (9, or 3 with --quick)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each half of a round")
    parser.add_argument("--factor", type=float, default=2.0, help="offered load, as a multiple of the peak")
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--customers", type=int, help="(1,000, or 200 with --quick)")
    parser.add_argument("--events", type=int, default=200, help="events a customer starts with")
    parser.add_argument("--deadline-ms", type=int, default=20)
    parser.add_argument("--rules", type=Path, default=ROOT / "rules")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--log", action="store_true", help="show the end of the service's log")
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 9)
    args.customers = args.customers or (200 if args.quick else 1_000)
    return run_and_tell("overload", args, lambda result: measure(result, args))


if __name__ == "__main__":
    sys.exit(main())

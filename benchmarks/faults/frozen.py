"""A million requests with the store frozen at random moments: is any answer late?

    core 0   one worker, its journal
    core 1   this generator (closed loop), Valkey, which is stopped and continued (SIGSTOP, SIGCONT) at random

Every request has DEADLINE_MS. Late is what the caller got later than that and GRACE_MS after the bytes of the request
were handed to the kernel. Beside it runs a control (`control.py`): an answer that is no later than the time in
which service and generator were kept from running while it was made is the machine's; both are told.

While the store stands still nothing may be approved. Afterwards every static answer is asked for again, of the store by
then, and must be the same bytes; whatever had no answer in time gets one.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import orjson
import uvloop
from callers import AMOUNT, open_lines
from checking import wait_delivered
from control import Control, lost_s
from figures import Figure, Result, parser_of, run, say
from generator import Generator
from whole_service import PlainStore, WholeService, halves_of_machine

DEADLINE_MS: Final = 50
GRACE_MS: Final = 5
PATIENT_MS: Final = 2_000  # the deadline of what is asked again afterwards
CONNECTIONS: Final = 24
CUSTOMERS: Final = 400
LIMIT: Final = 10_000_000
FROZEN_S: Final = ((0.5, 0.005, 0.2), (0.35, 0.2, 1.0), (0.15, 1.0, 3.0))  # share, from, to
THAWED_S: Final = (0.2, 2.5)
DELIVERED_S: Final = 300.0
HEAD: Final = b"POST /v1/decisions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: "
KIND: Final = re.compile(rb'"type":"([^"]+)"')


@dataclass(slots=True)
class Seen:
    """What came back, over all rounds. Instants by `perf_counter`."""

    answers: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    late: list[tuple[float, float]] = field(default_factory=list)  # sent, received
    static: dict[str, bytes] = field(default_factory=dict)  # of this round, by request id
    undecided: list[str] = field(default_factory=list)  # of this round
    approved: list[tuple[float, float]] = field(default_factory=list)  # of this round: sent, received
    latencies_ms: Counter[int] = field(default_factory=Counter)
    changed: int = 0
    unanswered: int = 0
    approved_frozen: int = 0
    freezes: int = 0
    frozen_s: float = 0.0
    seconds: float = 0.0

    def take(self, key: str, sent: float, received: float, status: int, body: bytes) -> None:
        """One answer."""
        self.answers += 1
        took_ms = (received - sent) * 1_000
        self.latencies_ms[int(took_ms)] += 1
        if took_ms > DEADLINE_MS + GRACE_MS:
            self.late.append((sent, received))
        if status != 200:
            kind = KIND.search(body)
            self.outcomes[f"{status} {kind[1].decode() if kind else ''}"] += 1
            self.undecided.append(key)
        elif b'"rung":"static"' in body:
            self.outcomes["static"] += 1
            self.static[key] = body
            if b'"decision":"approve"' in body:
                self.approved_frozen += 1
        else:
            self.outcomes["full"] += 1
            if b'"decision":"approve"' in body:
                self.approved.append((sent, received))

    def percentile_ms(self, percent: float) -> float:
        """The whole millisecond at or below which that share of answers came."""
        wanted, so_far = percent / 100 * self.answers, 0
        for took_ms, number in sorted(self.latencies_ms.items()):
            so_far += number
            if so_far >= wanted:
                return took_ms + 1
        return 0.0


def content(key: str, deadline_ms: int) -> bytes:
    """The request with an id `<round>-<number>`, whole."""
    customer = int(key.rpartition("-")[2]) % CUSTOMERS
    body = orjson.dumps(
        {
            "request_id": key, "customer_id": f"z-{customer}", "facility_id": f"zf-{customer}", "amount": AMOUNT,
            "currency": "CNY", "deadline_ms": deadline_ms,
        }
    )  # fmt: skip
    return b"%b%d\r\n\r\n%b" % (HEAD, len(body), body)


def asked(keys: Iterator[str], deadline_ms: int = DEADLINE_MS) -> Iterator[tuple[str, bytes]]:
    """The requests with these ids."""
    return ((key, content(key, deadline_ms)) for key in keys)


async def freeze_at_random(store: PlainStore, rng: random.Random, spans: list[tuple[float, float]]) -> None:
    """Until cancelled; `spans` are the times during which it surely stood still."""
    try:
        while True:
            await asyncio.sleep(rng.uniform(*THAWED_S))
            _, least, most = rng.choices(FROZEN_S, [share for share, *_ in FROZEN_S])[0]
            store.freeze(True)
            since = perf_counter()
            await asyncio.sleep(rng.uniform(least, most))
            spans.append((since, perf_counter()))
            store.freeze(False)
    finally:
        store.freeze(False)


async def one_round(
    service: WholeService, store: PlainStore, name: str, requests: int, seen: Seen, rng: Any
) -> list[Any]:
    """So many requests while the store freezes and thaws, then what is to be true afterwards; the generator's gaps."""
    seen.static, seen.undecided, seen.approved = {}, [], []
    spans: list[tuple[float, float]] = []
    async with Generator(service.port, CONNECTIONS) as generator:
        await generator.run(asked(f"{name}w-{i}" for i in range(2_000)), lambda *_: None)  # warm
        began = perf_counter()
        freezing = asyncio.create_task(freeze_at_random(store, rng, spans))
        await generator.run(asked(f"{name}-{i}" for i in range(requests)), seen.take)
        freezing.cancel()
        await asyncio.gather(freezing, return_exceptions=True)
        seen.seconds += perf_counter() - began
        gaps = list(generator.gaps)
        seen.freezes += len(spans)
        seen.frozen_s += sum(until - since for since, until in spans)
        seen.approved_frozen += sum(
            any(since < sent and received < until for since, until in spans) for sent, received in seen.approved
        )
    async with Generator(service.port, CONNECTIONS // 4) as generator:
        await afterwards(service, generator, seen)
    return gaps


async def afterwards(service: WholeService, generator: Generator, seen: Seen) -> None:
    """Everything static is delivered and told again as it was; everything undecided gets its answer."""
    if left := await asyncio.to_thread(wait_delivered, service, DELIVERED_S):
        seen.outcomes["never delivered"] += left

    def same(key: str, _sent: float, _received: float, status: int, body: bytes) -> None:
        if status != 200:
            again.append(key)
        elif body != seen.static.get(key, body):
            seen.changed += 1

    left_keys = [*seen.static, *seen.undecided]
    for _ in range(20):
        again: list[str] = []
        await generator.run(asked(iter(left_keys), PATIENT_MS), same)
        left_keys = again
    seen.unanswered += len(left_keys)


def measure(result: Result, args: Any) -> None:
    """All rounds, each on a fresh store and journal."""
    service_cores, other_cores = halves_of_machine()
    seen, by_machine, lost, steal = Seen(), 0, [0.0, 0.0, 0.0], stolen_s()
    rng = random.Random(args.seed)
    rounds = -(-args.requests // args.requests_per_round)
    late_before, server_late = 0, 0.0
    for number in range(rounds):
        with (
            tempfile.TemporaryDirectory() as name,
            PlainStore(Path(name) / "store", other_cores) as store,
            WholeService(
                Path(name) / "service", store_url=store.url, cores=service_cores, log_level="error"
            ) as service,
            Control(Path(name), (service.pid, os.getpid())) as control,
        ):  # fmt: skip
            asyncio.run(open_lines(service.url, "z", CUSTOMERS, LIMIT))
            if other_cores is not None:
                os.sched_setaffinity(0, other_cores)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                gaps = runner.run(
                    one_round(service, store, f"z{number}", min(args.requests, args.requests_per_round), seen, rng)
                )
            server_late += late_by_server(service.metrics())
            sorts = (control.spans("gaps"), control.spans("waits"), gaps)
            for sent, received in seen.late[late_before:]:
                late_s = received - sent - (DEADLINE_MS + GRACE_MS) / 1_000
                by_machine += max(lost_s(sent, received, spans) for spans in sorts) >= late_s
            lost = [so_far + sum(s for *_, s in spans) for so_far, spans in zip(lost, sorts, strict=True)]
            say(f"round {number + 1} of {rounds}: {len(seen.late) - late_before} late, {dict(seen.outcomes)}")
            late_before = len(seen.late)
            if service_cores is not None and other_cores is not None:
                os.sched_setaffinity(0, service_cores | other_cores)
    worst_ms = max((received - sent for sent, received in seen.late), default=0.0) * 1_000
    result.figures += [
        Figure("requests with the store frozen at random", seen.answers, args.requests, "at least"),
        Figure(f"... answered later than the deadline + {GRACE_MS} ms", len(seen.late), 0),
        Figure("... of them not by waiting for the machine", len(seen.late) - by_machine, 0),
        Figure("... approved while it stood still", seen.approved_frozen, 0),
        Figure("... static answers that changed afterwards", seen.changed, 0),
        Figure("... never answered, or never delivered", seen.unanswered + seen.outcomes["never delivered"], 0),
        Figure("... static answers", seen.outcomes["static"], sense="told"),
        Figure("... p99.99 as the caller sees it", seen.percentile_ms(99.99), sense="told", unit="ms"),
    ]
    result.notes |= {
        "deadline_ms": DEADLINE_MS, "connections": CONNECTIONS, "outcomes": dict(seen.outcomes),
        "freezes": seen.freezes, "frozen_s": round(seen.frozen_s, 1), "seconds": round(seen.seconds, 1),
        "requests_per_s": round(seen.answers / seen.seconds), "p99_ms": seen.percentile_ms(99),
        "latest_ms": round(worst_ms, 1), "late_by_server_s_histogram": server_late,
        "machine_s": dict(zip(("control_gaps", "service_and_generator_waited", "generator_gaps"), lost, strict=True)),
        "stolen_by_host_s": round(stolen_s() - steal, 2),
    }  # fmt: skip


def late_by_server(metrics: str) -> float:
    """Decisions that took longer than the deadline by the server's own clock, as far as its buckets tell."""
    counts = {
        float(bound): float(count)
        for bound, count in re.findall(r'stage_seconds_bucket\{le="([^"]+)",stage="total"\} (\S+)', metrics)
        if bound != "+Inf"
    }
    total = re.search(r'stage_seconds_count\{stage="total"\} (\S+)', metrics)
    at_most = [count for bound, count in sorted(counts.items()) if bound >= DEADLINE_MS / 1_000]
    return float(total[1]) - at_most[0] if total and at_most else 0.0


def stolen_s() -> float:
    """CPU seconds the host gave to others so far."""
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Parse options, run, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--requests", type=int, help="how many (1,000,000, or 20,000 with --quick)")
    parser.add_argument("--requests-per-round", type=int, default=100_000, help="after so many a new store")
    args = parser.parse_args()
    args.requests = args.requests or (20_000 if args.quick else 1_000_000)
    return run("frozen", args, lambda result: measure(result, args))


if __name__ == "__main__":
    sys.exit(main())

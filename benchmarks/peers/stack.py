"""(a) The stack a team would otherwise assemble, beside this service: same policy, same customers, answers compared.

    core 0   the servers: this service (one worker), the stack (one worker) in two variants of reading
    core 1   the load generator, and a Valkey for each server, every write fsynced before it is answered

First both answer the same requests (`same_answers`); a difference ends the run. Then closed-loop rounds in turns give
requests a second and CPU a request; then both get the same fixed rate, half of what that variant of the stack can do,
latency counted from the instant each request was due.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

import peer_paths  # noqa: F401
from closed_loop import BUSY, Measured, closed_loop
from decision_service.http_client import Client
from open_loop import Offered, open_loop
from peer_histories import Customer, draw, plain
from peer_report import Part, Ratio, say
from same_answers import Checked, DifferentAnswers, check, prepare
from servers import Server, valkey
from stack_app import EventIn, Line, kept_line, stored
from stack_features import Histories, features, line_values
from stack_rules import decide, facts_of, load_rules
from stack_score import StackScorecard
from stack_servers import MODEL, our_service, stack
from stack_store import LOOKED_AT, WINDOWS_MS, Events

OURS: Final = "this service"
VARIANTS: Final = ("pipelined", "per-feature")
SERVER_CORES, OTHER_CORES = {0}, {1}
WANTED: Final = 10.0
AMOUNTS: Final = (120.0, 260.5, 480.0, 735.25)
COLUMNS: Final = ("", "requests/s", "CPU us", "store CPU us", "p50 ms", "p99 ms", "p99.9 ms", "at /s")
NOTES: Final = [
    "the stack is written as a team that cares would: uvloop and httptools, one process, hiredis, frames built from "
    "NumPy arrays, windows cut by searchsorted, rules parsed once, contributions asked for only when an answer rests "
    "on the score. NumPy instead of pandas, or plain Python instead of a rule library, would be faster.",
    "`pipelined` is the fairer variant: one round trip reads all sets of a customer, pandas works on them. "
    "`per-feature` asks the store once for each kind and window, as feature functions do that know nothing of each "
    "other.",
    "both are as durable (every write fsynced before it is answered), keep the answer under its idempotency key and "
    "append the drawdown with it. The stack gives less: two drawdowns of a customer at once do not see each other, a "
    "crash in the middle leaves the request pending, no deadline, no trace, no decision record, no authentication, no "
    "metrics. Nothing was added to it for that.",
    "in the closed loop a saturated server answers each customer many times, so the faster one soon works on longer "
    "histories than the slower one; this is against this service. Same customers and bodies otherwise.",
    "latencies: open loop, the same rate for both, half of what that variant of the stack can do; counted from when "
    "each request was due. Two cores: the servers share one, the generator and the stores the other.",
]


@dataclass(slots=True)
class Sizes:
    """How much is done."""

    checked: int = 1_000
    customers: int = 200
    rounds: int = 3
    seconds: float = 4.0
    open_rounds: int = 2
    open_seconds: float = 8.0
    connections: int = 32


QUICK: Final = Sizes(60, 20, 1, 1.5, 1, 2.0, 16)


@dataclass(slots=True)
class Contender:
    """A server with its store, and what was measured of it."""

    name: str
    server: Server
    store: Server
    closed: list[Measured] = field(default_factory=list)
    cpu_s: float = 0.0
    store_cpu_s: float = 0.0
    offered: dict[float, list[Offered]] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        """Requests a second, the median of the rounds."""
        return statistics.median(measured.requests_per_s for measured in self.closed)

    @property
    def cpu_us(self) -> float:
        """CPU of the server a request."""
        return self.cpu_s / self.answered * 1e6

    @property
    def store_cpu_us(self) -> float:
        """CPU of its Valkey a request."""
        return self.store_cpu_s / self.answered * 1e6

    @property
    def answered(self) -> int:
        """Requests of the closed loop."""
        return sum(len(measured.latencies_ns) for measured in self.closed)

    def ms(self, rate: float, percent: float) -> float:
        """A percentile of the latencies at a rate, in milliseconds."""
        together = [ns for offered in self.offered[rate] for ns in offered.latencies_ns]
        return float(np.percentile(together, percent)) / 1e6


class Requests:
    """Rendered decision requests without end, customers in turn, never one id twice in a process."""

    _numbers = count()

    def __init__(self, customers: list[Customer]) -> None:
        mark = b"#" * 10
        self._parts = []
        for i, customer in enumerate(customers):
            body = orjson.dumps(draw(customer, f"peer-{mark.decode()}", AMOUNTS[i % len(AMOUNTS)]))
            head, tail = body.split(mark)
            http = (
                b"POST /v1/decisions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), head)
            )
            self._parts.append((http, tail))

    def __iter__(self) -> Iterator[bytes]:
        while True:
            for head, tail in self._parts:
                yield b"%b%010d%b" % (head, next(self._numbers), tail)


def run(quick: bool) -> Part:
    """Start everything, check, measure, stop everything."""
    sizes = QUICK if quick else Sizes()
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, OTHER_CORES & affinity or affinity)
    try:
        with tempfile.TemporaryDirectory() as name, ExitStack() as open_:
            contenders = start(Path(name), open_)
            return measure(contenders, sizes)
    finally:
        os.sched_setaffinity(0, affinity)


def start(folder: Path, open_: ExitStack) -> list[Contender]:
    """This service and both variants of the stack, each with a store of its own."""
    say("stack: starting this service and two variants of the stack")
    contenders = [Contender(OURS, *open_.enter_context(our_service(folder / "ours", SERVER_CORES, OTHER_CORES)))]
    for variant in VARIANTS:
        (folder / variant).mkdir()
        store = open_.enter_context(valkey(folder / variant, OTHER_CORES))
        server = open_.enter_context(stack(folder, variant, SERVER_CORES, store))
        contenders.append(Contender(f"stack, {variant}", server, store))
    return contenders


def measure(contenders: list[Contender], sizes: Sizes) -> Part:
    """Same answers first, then rounds in turns."""
    part = Part("stack", "(a) The stack a team would otherwise assemble, end to end over HTTP", list(NOTES), COLUMNS)
    ours, *stacks = contenders
    say(f"stack: comparing {sizes.checked:,} answers")
    urls = {contender.name: contender.server.url for contender in stacks}
    try:
        checked = asyncio.run(check(ours.server.url, urls, sizes.checked, time.time_ns() // 1_000_000))
    except DifferentAnswers as error:
        sys.exit(f"stack: different answers, nothing is measured\n{error}")
    part.checked = told(checked, len(stacks))
    customers = loaded(contenders, sizes)
    closed_rounds(contenders, customers, sizes)
    for stack_ in stacks:
        open_rounds(ours, stack_, customers, sizes)
    fill(part, ours, stacks)
    parts = parts_us(customers[0])
    part.details["parts_us"] = parts
    told_parts = ", ".join(f"{name} {us:,.0f}" for name, us in parts.items())
    part.notes.append(
        f"CPU of the stack's own parts for one of these customers, us: {told_parts}; the rest of a request "
        "is HTTP, models and the store. So anybody can see what another choice of a part would come to."
    )
    return part


def told(checked: Checked, stacks: int) -> str:
    """What was compared, as a sentence."""
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in checked.outcomes.most_common())
    return (
        f"{checked.requests:,} requests ({outcomes}; {len(checked.reasons)} different causes) with {stacks} variants "
        f"of the stack: outcome, approved amount, reasons, points and grade equal; {checked.values:,} values of "
        f"{len(checked.features)} features equal to {checked.worst:.0e}"
    )


def loaded(contenders: list[Contender], sizes: Sizes) -> list[Customer]:
    """Customers that everybody knows."""
    now_ms = time.time_ns() // 1_000_000
    customers = [plain(number, now_ms) for number in range(sizes.customers)]

    async def load(contender: Contender) -> None:
        async with Client(contender.server.url) as client:
            await prepare(client, customers)

    for contender in contenders:
        say(f"stack: loading {sizes.customers} customers of 200 events into {contender.name}")
        asyncio.run(load(contender))
    return customers


def closed_rounds(contenders: list[Contender], customers: list[Customer], sizes: Sizes) -> None:
    """Saturation, in turns."""
    requests = iter(Requests(customers))
    for contender in contenders:
        closed_loop(contender.server.port, requests, sizes.connections, min(1.0, sizes.seconds))
    for number in range(sizes.rounds):
        for contender in contenders:
            cpu, store_cpu = contender.server.cpu_s(), contender.store.cpu_s()
            measured = closed_loop(contender.server.port, requests, sizes.connections, sizes.seconds)
            contender.cpu_s += contender.server.cpu_s() - cpu
            contender.store_cpu_s += contender.store.cpu_s() - store_cpu
            contender.closed.append(measured)
            if measured.failures:
                sys.exit(
                    f"{contender.name} failed {measured.failures} times, first:\n{measured.first_failure.decode()}"
                )
            say(f"stack: round {number + 1}, {contender.name}: {measured.requests_per_s:,.0f}/s")


def open_rounds(ours: Contender, stack_: Contender, customers: list[Customer], sizes: Sizes) -> None:
    """The same rate for both, half of the stack's own peak, in turns."""
    requests, rate = iter(Requests(customers)), max(1.0, round(stack_.per_s / 2))
    for _ in range(sizes.open_rounds):
        for contender in (ours, stack_):
            offered = open_loop(contender.server.port, requests, rate, sizes.open_seconds)
            if offered.failures or offered.unanswered:
                sys.exit(f"{contender.name} failed {offered.failures}, left {offered.unanswered} unanswered, {rate}/s\n"
                         f"{offered.first_failure.decode()}")  # fmt: skip
            contender.offered.setdefault(rate, []).append(offered)
            say(f"stack: {contender.name} at {rate:.0f}/s: p99 {contender.ms(rate, 99):.2f} ms")


def parts_us(customer: Customer, calls: int = 100) -> dict[str, float]:
    """CPU microseconds of the stack's parts for a customer, the median of calls in this process."""
    now_ms = time.time_ns() // 1_000_000
    read = as_read(customer, now_ms)
    texts = orjson.dumps(list(read.values()))
    line = kept_line(Line(**customer.line))
    histories, scorecard, rules = Histories(read, now_ms), StackScorecard(MODEL), load_rules()
    of_line = line_values(line, *histories.position(line, customer.facility_id), now_ms)
    values = features(histories, of_line, 300.0, None, now_ms)
    row = scorecard.row(values)
    scored = {"line_status": "active", "score_points": 600.0, "score_grade": "C"}
    facts = facts_of(values, of_line, {"request_amount": 300.0, "request_local_hour": 12.0}, scored)
    return {
        "events from JSON": cpu_us(lambda: orjson.loads(texts), calls),
        "frames": cpu_us(lambda: Histories(read, now_ms), calls),
        "frames and features": cpu_us(lambda: features(Histories(read, now_ms), of_line, 300.0, None, now_ms), calls),
        "score": cpu_us(lambda: scorecard.score(row), calls),
        "rules": cpu_us(lambda: decide(rules, facts, 30_000), calls),
    }


def as_read(customer: Customer, t_ms: int) -> dict[tuple[str, str], Events]:
    """What the pipelined variant reads of a customer, without a store."""
    read: dict[tuple[str, str], Events] = {(kind, windows[-1]): [] for kind, windows in LOOKED_AT.items()}
    kept = [stored(EventIn(**event))[1:] for event in customer.events]
    for kind, event in sorted(kept, key=lambda pair: pair[1]["at"]):
        if kind in LOOKED_AT and t_ms - WINDOWS_MS[LOOKED_AT[kind][-1]] < event["at"] <= t_ms:
            read[kind, LOOKED_AT[kind][-1]].append(event)
    return read


def cpu_us(call: Callable[[], object], calls: int) -> float:
    """Median CPU microseconds of a call."""
    spent = []
    for _ in range(calls):
        began = time.thread_time_ns()
        call()
        spent.append(time.thread_time_ns() - began)
    return statistics.median(spent) / 1e3


def fill(part: Part, ours: Contender, stacks: list[Contender]) -> None:
    """Rows, ratios, details."""
    for stack_ in stacks:
        (rate,) = stack_.offered
        for contender in (ours, stack_):
            part.rows.append((
                contender.name, contender.per_s, contender.cpu_us, contender.store_cpu_us, contender.ms(rate, 50),
                contender.ms(rate, 99), contender.ms(rate, 99.9), rate,
            ))  # fmt: skip
        part.ratios += [
            Ratio(f"throughput, this service / {stack_.name}", ours.per_s / stack_.per_s, WANTED),
            Ratio(f"CPU of the server, {stack_.name} / this service", stack_.cpu_us / ours.cpu_us),
            Ratio(f"p99 at {rate:.0f}/s, {stack_.name} / {OURS}", stack_.ms(rate, 99) / ours.ms(rate, 99), WANTED),
        ]  # fmt: skip
    part.details = {contender.name: details(contender) for contender in (ours, *stacks)}
    if max(measured.cpu_share for contender in (ours, *stacks) for measured in contender.closed) > BUSY:
        part.problem = "the load generator was the bottleneck of a round: figures are its own"


def details(contender: Contender) -> dict[str, Any]:
    """Everything that was measured of one."""
    return {
        "rounds_per_s": [measured.requests_per_s for measured in contender.closed],
        "closed_p50_ms": statistics.median(measured.percentile_ms(50) for measured in contender.closed),
        "closed_p99_ms": statistics.median(measured.percentile_ms(99) for measured in contender.closed),
        "cpu_us": contender.cpu_us, "store_cpu_us": contender.store_cpu_us,
        "core_share": contender.cpu_s / sum(measured.seconds for measured in contender.closed),
        "generator_core_share": max(measured.cpu_share for measured in contender.closed),
        "open": {
            f"{rate:g}": {
                "requests": sum(len(one.latencies_ns) for one in offered),
                **{f"p{percent:g}_ms": contender.ms(rate, percent) for percent in (50, 90, 99, 99.9, 100)},
                "generator_late_p99_us": float(np.percentile([ns for one in offered for ns in one.late_ns], 99)) / 1e3,
            }
            for rate, offered in contender.offered.items()
        },
    }  # fmt: skip

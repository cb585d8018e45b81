"""Decisions per second of one worker beside a bare ASGI app, in alternating rounds of the same run (`make
bench`).

    core 0   the server: the bare app, or one worker of the service
    core 1   this load generator, and Valkey with every write fsynced before it is answered

Both servers get the same decision requests over the same number of keep-alive connections, closed loop.
Every decision is a new one: read, features, scorecard, rules, atomic commit. Each customer starts with a
history of `--events` events.

What to look at: the ratio (machines differ, ratios less so); that the generator's share of its core stayed
below 90 % (else it measured itself); that every answer was on rung `full`; that the server had its core to
itself (its core share is near 100 %; if other work runs on the machine, only the ratio of CPU times says
something). Latencies here are those of a saturated server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from closed_loop import BUSY, Measured, closed_loop
from customers import drawdown, load
from decision_service.http_client import Client
from servers import Server, free_port, serving, valkey

SERVER_CORES, LOAD_CORES = {0}, {1}
LOOKED_AT = 100  # decisions whose traces are read
ROOT = Path(__file__).parents[1]


class Requests:
    """An endless stream of rendered decision requests, a new request_id each, customers in turn."""

    def __init__(self, customers: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        mark = "#" * 10
        self._halves = [
            orjson.dumps(drawdown(number, f"bench-{mark}", now_ms)).split(mark.encode()) for number in range(customers)
        ]
        self._numbers = count()

    def __iter__(self) -> Iterator[bytes]:
        heads = [
            b"POST /v1/decisions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(head) + 10 + len(tail), head)
            for head, tail in self._halves
        ]
        tails = [tail for _, tail in self._halves]
        for number in self._numbers:
            customer = number % len(heads)
            yield b"%b%010d%b" % (heads[customer], number, tails[customer])


def service_command(args: argparse.Namespace, port: int) -> list[str]:
    """The command that serves the shipped policy with one worker."""
    return [
        str(Path(sys.executable).with_name("decision-service")), "serve", "--port", str(port), "--workers", "1",
        "--rules", str(args.rules), "--models", str(args.models),
    ]  # fmt: skip


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds; the report."""
    os.sched_setaffinity(0, LOAD_CORES)
    bare_port, port = free_port(), free_port()
    with (
        tempfile.TemporaryDirectory() as name,
        valkey(Path(name), LOAD_CORES) as store,
        serving(
            [sys.executable, str(ROOT / "benchmarks" / "bare_app.py"), str(bare_port)], bare_port, SERVER_CORES, "/",
            Path(name) / "bare.log",
        ) as bare,
        serving(
            service_command(args, port), port, SERVER_CORES, "/readyz", Path(name) / "service.log",
            {
                "DECISION_SERVICE_REDIS_URL": f"redis://127.0.0.1:{store.port}/0",
                "DECISION_SERVICE_RATE_LIMIT_PER_S": "0",
                "DECISION_SERVICE_DATA_DIR": name,
                "DECISION_SERVICE_LOG_LEVEL": "warning",
            },
        ) as service,
    ):  # fmt: skip
        say(f"loading {args.customers:,} customers with {args.events} events each")
        load(service.url, args.customers, args.events, time.time_ns() // 1_000_000)
        return measure(args, bare, service, store)


def measure(args: argparse.Namespace, bare: Server, service: Server, store: Server) -> dict[str, Any]:
    """Alternate rounds of both servers and put the figures together."""
    requests = iter(Requests(args.customers))
    closed_loop(bare.port, requests, args.connections, 1)
    warm_up = closed_loop(service.port, requests, args.connections, 2)
    check_answer(warm_up)
    rounds: list[tuple[Measured, Measured]] = []
    before = {"bare": bare.cpu_s(), "service": service.cpu_s(), "store": store.cpu_s()}
    for number in range(args.rounds):
        bare_round = closed_loop(bare.port, requests, args.connections, args.seconds)
        service_round = closed_loop(service.port, requests, args.connections, args.seconds)
        rounds.append((bare_round, service_round))
        check_answer(service_round)
        say(
            f"round {number + 1}: bare {bare_round.requests_per_s:,.0f}/s, "
            f"service {service_round.requests_per_s:,.0f}/s"
        )
    now = {"bare": bare.cpu_s(), "service": service.cpu_s(), "store": store.cpu_s()}
    cpu_s = {name: now[name] - before[name] for name in before}
    seconds = sum(r.seconds for _, r in rounds)
    decided = sum(len(r.latencies_ns) for _, r in rounds)
    answered = sum(len(r.latencies_ns) for r, _ in rounds)
    policy = policy_of(service)
    return {
        "connections": args.connections,
        "events_per_customer": [args.events, args.events + round(decided / args.customers)],
        **policy,
        "bare": figures([b for b, _ in rounds]),
        "service": figures([s for _, s in rounds]),
        "ratio": statistics.median(s.requests_per_s / b.requests_per_s for b, s in rounds),
        "cpu_us": {"bare": cpu_s["bare"] / answered * 1e6, "service": cpu_s["service"] / decided * 1e6},
        "cpu_ratio": cpu_s["bare"] / answered / (cpu_s["service"] / decided),
        "core_share": {name: cpu_s[name] / seconds for name in cpu_s},
        "start_to_ready_s": service.ready_s,
        "resident_mb": service.resident_mb(),
    }


def figures(rounds: list[Measured]) -> dict[str, float]:
    """Median rate of the rounds; percentiles over all their requests."""
    together = Measured([ns for r in rounds for ns in r.latencies_ns])
    return {
        "requests_per_s": statistics.median(r.requests_per_s for r in rounds),
        "p50_ms": together.percentile_ms(50),
        "p99_ms": together.percentile_ms(99),
        "failures": sum(r.failures for r in rounds),
        "generator_core_share": max(r.cpu_share for r in rounds),
    }


def check_answer(measured: Measured) -> None:
    """Stop if the service did not answer every request with a full decision."""
    if measured.failures:
        sys.exit(f"{measured.failures} requests failed, the first with\n{measured.first_failure.decode()}")
    answer = orjson.loads(measured.last_body)
    if answer["rung"] != "full":
        sys.exit(f"not a full decision: {measured.last_body.decode()}")


def policy_of(service: Server) -> dict[str, Any]:
    """What one decision used, and where its time went: medians over decisions made one at a time, from their traces."""
    traces = asyncio.run(look(service))
    last = traces[-1]
    return {
        "features": len(last["features"]), "rules": len(last["rules"]), "scorecards": sorted(last["scorecards"]),
        "stages_us": {
            stage: statistics.median(trace["stages_us"][stage] for trace in traces) for stage in last["stages_us"]
        },
    }  # fmt: skip


async def look(service: Server) -> list[dict[str, Any]]:
    """The traces of a few new decisions."""
    traces = []
    async with Client(service.url) as client:
        for number in range(LOOKED_AT):
            asked = drawdown(number, f"look-{number}", time.time_ns() // 1_000_000)
            answer = (await client.call("POST", "/v1/decisions", asked)).json()
            stored = (await client.call("GET", f"/v1/decisions/{answer['decision_id']}")).json()
            traces.append(stored["trace"])
    return traces


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def show(report: dict[str, Any]) -> None:
    """The report for people."""
    first, last = report["events_per_customer"]
    cards = ", ".join(report["scorecards"]) or "none"
    print(f"{report['connections']} connections, {first} to {last} events a customer")
    print(f"{report['features']} features, {report['rules']} rules, scorecards: {cards}")
    print(f"{'':10}{'requests/s':>12}{'p50 ms':>10}{'p99 ms':>10}{'generator':>11}")
    for name in ("bare", "service"):
        row = report[name]
        latencies = f"{row['p50_ms']:>10.2f}{row['p99_ms']:>10.2f}"
        print(f"{name:10}{row['requests_per_s']:>12,.0f}{latencies}{row['generator_core_share']:>11.0%}")
    print(f"ratio {report['ratio']:.3f} of the bare app")
    cpu, share = report["cpu_us"], report["core_share"]
    print(f"CPU: bare {cpu['bare']:.0f} us a request, service {cpu['service']:.0f} us, ratio {report['cpu_ratio']:.3f}")
    print(f"core shares: bare {share['bare']:.0%}, service {share['service']:.0%}, Valkey {share['store']:.0%}")
    print(f"start to ready {report['start_to_ready_s']:.2f} s")
    stages = ", ".join(f"{name} {micros:.0f}" for name, micros in report["stages_us"].items())
    print(f"one decision at a time, median us: {stages}")
    for command, megabytes in report["resident_mb"].items():
        print(f"resident {megabytes:.0f} MB: {command}")
    if max(report[name]["generator_core_share"] for name in ("bare", "service")) > BUSY:
        print("the generator was the bottleneck: these figures are its own")


def main() -> int:
    """Parse options, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=200, help="events a customer starts with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each server in each round")
    parser.add_argument("--rules", type=Path, default=ROOT / "rules")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = run(args)
    if args.json:
        print(json.dumps(report))
    else:
        show(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a decision costs without HTTP, and on which side: CPU of the service's process and of Valkey, in one process
with N concurrent callers of `DecisionService.decide`, on a Valkey of its own (fsync always).

    python benchmarks/decide_in_process.py [--callers 16] [--decisions 4000] [--rounds 5] [--json]

CPU times, not wall times: `evaluate` is the pure decision with its answer and frame; `rest` everything else this
process does for a decision (read, turns, marks, commit, links, drift counts); `store` what Valkey spends, its fsyncs
included. The median of the rounds, and Valkey's own account of its commands. Requests are parsed before they are
counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import redis
import uvloop

from customers import drawdown, facility, history
from decision_service.api.parse import Clock, parse_decision, parse_event, parse_facility, read_events
from decision_service.bootstrap import Running, running_service
from decision_service.core.limits import DAY_MS
from decision_service.core.request import DecisionRequest
from decision_service.settings import Settings
from decision_service.telemetry import Meters
from servers import Server, valkey

BUDGET_MS = 5_000
SETTLE_S = 0.6  # for links and drift counts of a round, which belong to its cost


class Evaluating:
    """CPU seconds of a service's pure decisions."""

    def __init__(self, running: Running) -> None:
        self.cpu_s = 0.0
        evaluate = running.decisions._evaluate

        def timed(*args: Any) -> Any:
            began = time.thread_time()
            found = evaluate(*args)
            self.cpu_s += time.thread_time() - began
            return found

        running.decisions._evaluate = timed  # type: ignore[method-assign]


async def load(running: Running, customers: int, events: int, now_ms: int) -> None:
    """A facility and a history each."""
    clock = Clock(now_ms, DAY_MS, 800 * DAY_MS)
    for number in range(customers):
        line = parse_facility(orjson.dumps(facility(number, now_ms)), f"bf-{number}", clock)
        await running.customers.put_facility(line)
        sent = read_events(orjson.dumps({"events": history(number, events, now_ms)}))
        posted = [parse_event(event, i, clock) for i, event in enumerate(sent)]
        await running.customers.record_events(posted)


def requests(round_number: int, decisions: int, customers: int, now_ms: int) -> list[DecisionRequest]:
    """New drawdowns of all customers in turn."""
    clock = Clock(now_ms, DAY_MS, DAY_MS)
    bodies = (drawdown(i % customers, f"r-{round_number}-{i}", now_ms) for i in range(decisions))
    return [parse_decision(orjson.dumps(body), clock)[0] for body in bodies]


async def decide_all(running: Running, asked: Sequence[DecisionRequest], callers: int) -> None:
    """Every request decided, by so many callers at once."""
    todo = iter(asked)

    async def caller() -> None:
        for request in todo:
            answer = await running.decisions.decide(request, BUDGET_MS, time.perf_counter())
            assert answer.rung == "full", answer

    await asyncio.gather(*(caller() for _ in range(callers)))


def commands(url: str) -> Mapping[str, tuple[int, int]]:
    """Calls and microseconds by command, as Valkey counts them."""
    with redis.Redis.from_url(url) as client:
        told = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): (one["calls"], one["usec"]) for name, one in told.items()}


async def run(args: argparse.Namespace, store: Server, directory: Path) -> dict[str, Any]:
    """Load, warm up, measure."""
    url = f"redis://127.0.0.1:{store.port}/0"
    settings = Settings(
        redis_url=url, data_dir=directory, rules=args.rules, models=args.models, time_zone="Asia/Shanghai"
    )
    now_ms = time.time_ns() // 1_000_000
    rows: list[dict[str, float]] = []
    async with running_service(settings, Meters(directory)) as running:
        await load(running, args.customers, args.events, now_ms)
        await asyncio.sleep(2 * SETTLE_S)
        await decide_all(running, requests(-1, args.decisions, args.customers, now_ms), args.callers)
        evaluating = Evaluating(running)
        await asyncio.sleep(SETTLE_S)
        before = commands(url)
        for number in range(args.rounds):
            asked = requests(number, args.decisions, args.customers, now_ms)
            evaluating.cpu_s, cpu_s, store_s = 0.0, time.process_time(), store.cpu_s()
            began = time.perf_counter()
            await decide_all(running, asked, args.callers)
            wall_s = time.perf_counter() - began
            await asyncio.sleep(SETTLE_S)
            cpu_s, store_s = time.process_time() - cpu_s, store.cpu_s() - store_s
            per = 1e6 / args.decisions
            rows.append(
                {"evaluate": evaluating.cpu_s * per, "rest": (cpu_s - evaluating.cpu_s) * per, "store": store_s * per,
                 "wall": wall_s * per}
            )  # fmt: skip
            print({k: round(v, 1) for k, v in rows[-1].items()}, file=sys.stderr)
        after = commands(url)
    decided = args.decisions * args.rounds
    spent = {
        name: {
            "calls": (calls - before.get(name, (0, 0))[0]) / decided,
            "us": (us - before.get(name, (0, 0))[1]) / decided,
        }
        for name, (calls, us) in after.items()
    }
    return {
        "cpu_us": {name: round(statistics.median(row[name] for row in rows), 1) for name in rows[0]},
        "commands": dict(sorted(((n, s) for n, s in spent.items() if s["us"] > 0.1), key=lambda one: -one[1]["us"])),
    }


def main() -> None:
    """Measure and print."""
    root = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--decisions", type=int, default=4_000, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--customers", type=int, default=200)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--rules", type=Path, default=root / "rules")
    parser.add_argument("--models", type=Path, default=root / "models")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, valkey(Path(name), {0, 1}) as store:
        found = uvloop.run(run(args, store, Path(name)))
    if args.json:
        print(json.dumps(found))
        return
    print("CPU us a decision:", "  ".join(f"{name} {us}" for name, us in found["cpu_us"].items()))
    for name, spent in found["commands"].items():
        print(f"  {name:20}{spent['calls']:>8.2f} calls{spent['us']:>8.2f} us")


if __name__ == "__main__":
    main()

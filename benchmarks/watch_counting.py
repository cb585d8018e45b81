"""What counting drift costs: decisions a second and CPU of one process that decides, with and without it.

    python benchmarks/watch_counting.py [--decisions 2000] [--rounds 5] [--json]

One process runs the service (shipped policy and scorecard, no HTTP) on an embedded server (fsync always), CALLERS
decisions at a time on CUSTOMERS customers; rounds with and without counting alternate, each until everything is
counted and flushed. The least and the median of the rounds are told, of CPU (user and system, counting and flushing
included) and of the time until the last answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from decision_service.afterwards import Afterwards
from decision_service.bootstrap import linker_of, retention_of, wall_clock_ms
from decision_service.policies.active_policy import ActivePolicy
from decision_service.service import DecisionService
from decision_service.settings import Settings
from decision_service.store.embedded import EmbeddedServer
from decision_service.store.open import open_store
from decision_service.telemetry import Meters
from decision_service.warm import warm
from decision_service.watch.counting import DriftCounting
from links import BUDGET_MS, CALLERS, request

WAYS = ("without", "with")


async def spent(
    service: DecisionService, afterwards: Afterwards, counting: DriftCounting, first: int, decisions: int
) -> tuple[float, float]:
    """CPU of the process in us a decision until everything is flushed, and answers a second."""
    numbers = iter(range(first, first + decisions))

    async def caller() -> None:
        for number in numbers:
            await service.decide(request("none", number, wall_clock_ms()), BUDGET_MS, time.perf_counter())

    began, began_s = time.process_time(), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    answered_s = time.perf_counter() - began_s
    await afterwards.flush()
    await counting.flush()
    return (time.process_time() - began) / decisions * 1e6, decisions / answered_s


async def measure(url: str, settings: Settings, decisions: int, rounds: int, say: Callable[[str], None]) -> Any:
    """CPU and rates of both ways, a list of rounds each."""
    store = open_store(url)
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as directory:
        meters = Meters(Path(directory))
        active = ActivePolicy(
            settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms, store, wall_clock_ms,
            lambda *_: None,
        )  # fmt: skip
        await active.start()
        warm(active.policy)
        linker = linker_of(settings, store, meters)
        counting = DriftCounting(store, meters)
        services = {}
        for way in WAYS:
            afterwards = Afterwards(meters)
            if way == "with":
                afterwards.register("drift", counting.take)
            afterwards.start()
            services[way] = afterwards, DecisionService(
                store, active, meters, settings.partitions, retention_of(settings), linker, BUDGET_MS, wall_clock_ms,
                afterwards,
            )  # fmt: skip
        for round_ in range(rounds + 1):
            for way in WAYS:
                afterwards, service = services[way]
                first = (2 * round_ + WAYS.index(way)) * decisions
                cpu_us, rate = await spent(service, afterwards, counting, first, decisions)
                if round_:  # the first warms caches
                    found[way].append((cpu_us, rate))
                say(f"round {round_} {way:>7}: {cpu_us:.0f} us, {rate:,.0f}/s")
        for afterwards, _ in services.values():
            await afterwards.close()
        await linker.close()
        await active.close()
        await store.close()
        meters.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=2_000, help="of each round and way")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    say = (lambda _: None) if args.json else print
    with tempfile.TemporaryDirectory() as directory, EmbeddedServer(Path(directory)) as server:
        found = uvloop.run(measure(server.url, Settings(), args.decisions, args.rounds, say))
    table = {
        way: {
            "cpu_us_min": min(cpu for cpu, _ in rounds), "cpu_us_median": statistics.median(cpu for cpu, _ in rounds),
            "answers_s_median": statistics.median(rate for _, rate in rounds),
        }
        for way, rounds in found.items()
    }  # fmt: skip
    if args.json:
        print(json.dumps(table))
        return
    for way, row in table.items():
        cpu = f"min {row['cpu_us_min']:.0f} us  median {row['cpu_us_median']:.0f} us of CPU a decision"
        print(f"{way:>7}  {cpu}, {row['answers_s_median']:,.0f} answers a second")


if __name__ == "__main__":
    main()

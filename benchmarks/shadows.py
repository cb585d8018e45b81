"""What two shadow scorecards cost an answer: latency and CPU of decisions with them beside the same decisions without.

    python benchmarks/shadows.py [--decisions 2000] [--rounds 5] [--callers 8 | --rate 800] [--json]

One process runs the service (shipped policy and scorecard, no HTTP) on an embedded server (fsync always): CALLERS
decisions always under way on CUSTOMERS customers, or with --rate so many begun a second whatever becomes of them, and
timed from when they were due. The first shows what shadows cost a worker at its limit, the second what they cost an
answer on one that has time to spare. Latency is that of the answer, over all rounds; CPU is the user and
system time of the process per decision, shadows scored and recorded included. Rounds of the ways alternate, so that a
busy machine slows all of them; without HTTP the shares of the shadows are larger than a caller would see.

    none      the shipped policy
    shadows   two copies of the shipped model as shadows: no further feature, two more scores after every answer
    features  two shadows on other features of the catalogue, as many as the champion has
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import uvloop

from decision_service.afterwards import Afterwards
from decision_service.bootstrap import linker_of, retention_of, wall_clock_ms
from decision_service.core.policy import Policy
from decision_service.policies.active_policy import ActivePolicy
from decision_service.policies.loading import load_policy
from decision_service.scorecards.shadows import ShadowScoring
from decision_service.service import DecisionService
from decision_service.settings import Settings
from decision_service.store.embedded import EmbeddedServer
from decision_service.store.open import open_store
from decision_service.telemetry import Meters
from decision_service.warm import warm
from links import BUDGET_MS, CUSTOMERS, request

CARD = "behaviour"
ROLES = "\nscorecards:\n  behaviour: {{champion: {champion}, shadows: [{shadows}]}}\n"
Found = dict[str, dict[str, list[float]]]


def policies(settings: Settings, folder: Path) -> dict[str, Policy]:
    """A policy for each way, from copies of the shipped rules and of the shipped model under other versions."""
    plain, _ = load_policy(settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms)
    champion = plain.scorecards[CARD]
    models = folder / "models"
    shutil.copytree(settings.models, models)
    shipped = models / CARD / champion.version
    specs = (spec for spec in plain.catalogue.specs if not spec.internal)
    others = [spec.name for spec in specs if spec.name not in plain.feature_names][::7][: len(champion.names)]
    found = {"none": plain}
    for way, renamed in (("shadows", {}), ("features", dict(zip(champion.names, others, strict=True)))):
        versions = [f"{champion.version}.{way}.{number}" for number in (1, 2)]
        for version in versions:
            _copy(shipped, version, champion.version, renamed)
        rules = folder / way
        shutil.copytree(settings.rules, rules)
        head = rules / "policy.yaml"
        head.write_text(head.read_text() + ROLES.format(champion=champion.version, shadows=", ".join(versions)))
        found[way], _ = load_policy(rules, models, settings.time_zone, settings.reservation_timeout_ms)
    return found


def _copy(shipped: Path, version: str, old: str, renamed: dict[str, str]) -> None:
    """The shipped model under another version, its features renamed."""
    target = shipped.parent / version
    target.mkdir()
    model, manifest = (shipped / "model.txt").read_text(), (shipped / "manifest.yaml").read_text()
    before = sha256(model.encode()).hexdigest()
    head, rest = model.split("\nfeature_names=", 1)
    names, rest = rest.split("\n", 1)
    new = " ".join(renamed.get(name, name) for name in names.split(" "))
    model = f"{head}\nfeature_names={new}\n{rest}"
    for name, other in renamed.items():
        manifest = manifest.replace(f"name: {name},", f"name: {other},").replace(f"name: {name}\n", f"name: {other}\n")
    manifest = manifest.replace(before, sha256(model.encode()).hexdigest())
    manifest = manifest.replace(f"version: '{old}'\n", f"version: '{version}'\n")
    (target / "model.txt").write_text(model)
    (target / "manifest.yaml").write_text(manifest)


async def round_of(
    service: DecisionService, after: Afterwards, first: int, args: argparse.Namespace
) -> tuple[list[float], float]:
    """Latencies in ms of some decisions, and the CPU of the process per decision in us, shadows recorded."""
    numbers = iter(range(first, first + args.decisions))
    latencies: list[float] = []

    async def one(number: int, due: float) -> None:
        await service.decide(request("none", number, wall_clock_ms()), BUDGET_MS, due)
        latencies.append((time.perf_counter() - due) * 1e3)

    async def caller() -> None:
        for number in numbers:
            await one(number, time.perf_counter())

    async def paced() -> None:
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in numbers:
                due = begin + (number - first) / args.rate
                await asyncio.sleep(max(due - time.perf_counter(), 0.0))
                group.create_task(one(number, due))

    began = time.process_time()
    await (paced() if args.rate else asyncio.gather(*(caller() for _ in range(args.callers))))
    await after.flush()
    return latencies, (time.process_time() - began) / args.decisions * 1e6


async def measure(url: str, args: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> Found:
    """Latencies of all decisions and CPU of every round, by way."""
    settings, store = Settings(), open_store(url)
    meters = Meters(folder)
    ways = policies(settings, folder)
    active = ActivePolicy(
        settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms, store, wall_clock_ms,
        lambda *_: None,
    )  # fmt: skip
    await active.start()
    await active.stop_watching()
    for policy in ways.values():
        warm(policy)
    linker, after = linker_of(settings, store, meters), Afterwards(meters)
    after.register("shadows", ShadowScoring(store).take)
    after.start()
    service = DecisionService(
        store, active, meters, settings.partitions, retention_of(settings), linker, BUDGET_MS, wall_clock_ms, after
    )
    found: Found = {way: {"ms": [], "cpu_us": []} for way in ways}
    gc.collect()
    gc.freeze()  # as a worker does once it is ready
    number = 0
    for round_ in range(args.rounds + 1):
        for way in [*ways][:: 1 if round_ % 2 else -1]:
            active.policy = ways[way]
            latencies, cpu_us = await round_of(service, after, number, args)
            number += args.decisions
            if round_:  # the first warms caches
                found[way]["ms"] += latencies
                found[way]["cpu_us"].append(cpu_us)
            say(f"round {round_} {way:>8}: p50 {statistics.median(latencies):.2f} ms, CPU {cpu_us:.0f} us")
    await after.close()
    await active.close()
    await store.close()
    meters.close()
    return found


def told(found: Found) -> dict[str, dict[str, float]]:
    """Percentiles and CPU by way, and their ratios to `none`."""
    table = {
        way: {
            "p50_ms": statistics.quantiles(one["ms"], n=100)[49],
            "p99_ms": statistics.quantiles(one["ms"], n=100)[98],
            "cpu_us": statistics.median(one["cpu_us"]),
        }
        for way, one in found.items()
    }
    base = dict(table["none"])
    return {way: row | {f"{key}_ratio": row[key] / base[key] for key in base} for way, row in table.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=2_000, help="of each round and way")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--callers", type=int, default=8, help="decisions under way")
    parser.add_argument("--rate", type=float, default=0.0, help="decisions begun a second, instead of --callers")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    assert 16 * args.callers < CUSTOMERS, "customers would queue up behind each other"
    say: Callable[[Any], None] = (lambda _: None) if args.json else print
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "bench").mkdir()
        with EmbeddedServer(Path(directory)) as server:
            table = told(uvloop.run(measure(server.url, args, Path(directory) / "bench", say)))
    if args.json:
        print(json.dumps(table))
        return
    for way, row in table.items():
        print(
            f"{way:>8}  p50 {row['p50_ms']:.2f} ms ({row['p50_ms_ratio']:.3f})  p99 {row['p99_ms']:.2f} ms "
            f"({row['p99_ms_ratio']:.3f})  CPU {row['cpu_us']:.0f} us a decision ({row['cpu_us_ratio']:.3f})"
        )


if __name__ == "__main__":
    main()

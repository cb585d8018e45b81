"""Workloads that compare one thing in several sizes: customers, history, rules, workers. Each is a function of a bench;
it gives runs and ratios of what a decision costs.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import orjson

from load import policies
from load.bed import Round, Target
from load.bench import Bench, Contender, Told, alternate, by_round, cost_us
from load.document import ratio
from load.population import Population
from load.zipf import EXPONENT, shares
from servers import Server

LEAST_BUSY: Final = 0.3  # of the work: two workers of whom one does less are not two
BALANCE: Final = "CPU time of the less busy worker / of both"
ONE_WORKER: Final = "one worker"
A_CORE_EACH: Final = "two workers, a core each"
ON_ONE_CORE: Final = "two workers on one core"


def customers(bench: Bench) -> Told:
    """1 k, 100 k and 1 M customers, each in a store of its own, asked about by a zipf law and all alike.

    The fewer customers there are, the more draws and the longer a log each one gets in a run. So the policy is one that
    holds nobody for drawing often, and `events_after` says what the mean decision saw at the end; by the zipf law that
    differs much, with all customers alike it hardly does.
    """
    options = bench.options
    sizes = options.sizes or ((1_000, 10_000) if options.quick else (1_000, 100_000, 1_000_000))
    rules = policies.calm(options.rules, bench.bed.directory / "calm")
    laws = {"zipf": EXPONENT if options.skew is None else options.skew, "alike": 0.0}
    contenders = []
    for size in sizes:
        population = Population(f"z{size}", size, options.events or 20)
        service = bench.service(f"{size:,} customers", population, rules=rules)
        contenders += [
            Contender(f"{size:,} customers, {law}", service, population, {"skew": skew}) for law, skew in laws.items()
        ]
    found = alternate(bench, contenders, options.counted(4, 2), options.timed(4.0, 1.5))
    runs = [bench.run(one.name, found[one.name], notes=_grown(one, found[one.name])) for one in contenders]
    times = sizes[-1] // sizes[0]
    ratios = []
    for law in laws:
        few, many = f"{sizes[0]:,} customers, {law}", f"{sizes[-1]:,} customers, {law}"
        cost, store = by_round(found, many, few, cost_us), by_round(found, many, few, _store_us)
        ratios += [
            ratio(f"customers x {times:,}, {law}: CPU a decision", cost, "<= 1.05"),
            ratio(f"customers x {times:,}, {law}: CPU of the store", store),
        ]
    return runs, ratios


def _grown(one: Contender, rounds: Sequence[Round]) -> dict[str, Any]:
    """How large the store is, and how many events the mean decision of these rounds saw at their end."""
    assert one.target.store is not None
    decided = sum(len(round_.raw.due_ns) for round_ in rounds)
    seen = one.population.events + decided * float((shares(one.population.customers, one.how["skew"]) ** 2).sum())
    return {"store_mb": round(sum(one.target.store.resident_mb().values()), 1), "events_after": round(seen, 1)}


def _store_us(round_: Round) -> float:
    return max(round_.raw.cpu_s["store"], 1e-9) / max(len(round_.raw.due_ns), 1) * 1e6


def history(bench: Bench) -> Told:
    """Customers with 20, 200 and 2,000 events, all in one store, one service."""
    options = bench.options
    sizes = options.sizes or (20, 200, 2_000)
    number = options.population(customers=10_000).customers
    several = [Population(f"h{events}", number, events) for events in sizes]
    service = bench.service("service", *several)
    contenders = [Contender(f"{one.events:,} events", service, one) for one in several]
    found = alternate(bench, contenders, options.counted(6, 2), options.timed(4.0, 1.5))
    decided = {name: sum(len(one.raw.due_ns) for one in rounds) for name, rounds in found.items()}
    runs = [
        bench.run(one.name, found[one.name], notes={
            "events_before": one.population.events,
            "events_after": round(one.population.events + decided[one.name] / one.population.customers, 1),
        })
        for one in contenders
    ]  # fmt: skip
    wanted = {(200, 2_000): "<= 1.4"}
    return runs, [
        ratio(
            f"history {a:,} to {b:,}: CPU a decision",
            by_round(found, f"{b:,} events", f"{a:,} events", cost_us), wanted.get((a, b), ""),
        )
        for a, b in pairwise(sizes)
    ]  # fmt: skip


def rules(bench: Bench) -> Told:
    """Policies of 40 and 400 drawdown rules over the same features."""
    options = bench.options
    sizes = options.sizes or (40, 400)
    population = options.population()
    contenders = []
    for size in sizes:
        made = policies.with_rules(options.rules, bench.bed.directory / f"rules-{size}", size)
        name = f"{size} rules"
        contenders.append(Contender(name, bench.service(name, population, rules=made), population))
    used = [_policy(one.target) for one in contenders]
    found = alternate(bench, contenders, options.counted(6, 2), options.timed(5.0, 1.5))
    runs = [
        bench.run(one.name, found[one.name], notes={"rules": told["rules"], "features": told["features_used"]})
        for one, told in zip(contenders, used, strict=True)
    ]
    if len({told["features_used"] for told in used}) > 1:
        runs[-1]["why_not"].append(f"{runs[-1]['name']}: the policies do not compute the same features")
    cost = by_round(found, contenders[-1].name, contenders[0].name, cost_us)
    return runs, [ratio(f"rules x {sizes[-1] // sizes[0]}: CPU a decision", cost, "<= 1.1")]


def _policy(service: Target) -> dict[str, Any]:
    with urllib.request.urlopen(f"{service.server.url}/v1/policy", timeout=30) as answer:
        told: dict[str, Any] = orjson.loads(answer.read())
    return told


def workers(bench: Bench) -> Told:
    """One worker and two, by what a decision costs: capacity is workers / CPU time of a decision, all processes of the
    service counted. Both workers must have had their part of the work.

    Two workers are measured with a core each, one of which store and generator use as well, and both on the one core
    that one worker has: there they put each other's data out of its caches, which workers with cores of their own
    do not.
    """
    options, population = bench.options, bench.options.population()
    contenders = [
        Contender(name, bench.service(name, population, workers=number), population)
        for name, number in ((ONE_WORKER, 1), (A_CORE_EACH, 2), (ON_ONE_CORE, 2))
    ]
    each = contenders[1].target
    bench.warm(each, population)
    for pid, core in zip(busiest(each.server, dict.fromkeys(each.server.family(), 0.0)), options.cores, strict=True):
        keep_on(pid, core)
    before = [{pid: one.target.server.cpu_s([pid]) for pid in one.target.server.family()} for one in contenders]
    found = alternate(bench, contenders, options.counted(6, 2), options.timed(5.0, 1.5))
    runs = [bench.run(one.name, found[one.name]) for one in contenders]
    ratios = [
        ratio(f"{A_CORE_EACH} / one, server-side capacity", 2 * by_round(found, ONE_WORKER, A_CORE_EACH, cost_us),
              ">= 1.8"),
        ratio(f"{ON_ONE_CORE} / one, server-side capacity", 2 * by_round(found, ONE_WORKER, ON_ONE_CORE, cost_us)),
    ]  # fmt: skip
    for run, one, spent in zip(runs[1:], contenders[1:], before[1:], strict=True):
        server = one.target.server
        used = [server.cpu_s([pid]) - spent[pid] for pid in busiest(server, spent)]
        least = min(used) / sum(used)
        if least < LEAST_BUSY:
            run["why_not"].append(f"{one.name}: one of them did {least:.0%} of the work")
        ratios.append(ratio(f"{one.name}: {BALANCE}", least))
    return runs, ratios


def busiest(server: Server, spent: Mapping[int, float]) -> list[int]:
    """The two processes of a server that used the most CPU time since each had spent that much."""
    return sorted(spent, key=lambda pid: server.cpu_s([pid]) - spent[pid])[-2:]


def keep_on(pid: int, core: int) -> None:
    """Let all threads of a process run on this core alone."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})

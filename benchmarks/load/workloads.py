"""The workloads: what each one starts, drives and compares. Each is a function of a bed and options; it gives runs and
ratios.

Comparisons alternate within one run (A B A B, every other time B A), and a ratio is the median over the rounds of the
ratio within a round, so that what drifts on a machine drifts for both. `costs` compares CPU time of the server for each
request, which a busy store or a slow disk does not change.
"""

from __future__ import annotations

import os
import statistics
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from load import figures, policies, schedule
from load.bed import ROOT, Bed, Round, Target, say
from load.document import Run, ratio, run_of
from load.plan import Plan
from load.population import Population
from load.traffic import DEADLINE_MS, MIXED, Traffic
from load.zipf import EXPONENT, shares
from servers import Server

WARM_S: Final = 2.0
KNEE_SLOWER: Final = 10.0
KNEE_ANSWERED: Final = 0.98
KNEE_FAILED: Final = 0.001
RAMP: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
AFTER_RELOAD_S: Final = 0.5  # that still count as "during"
LEAST_BUSY: Final = 0.3  # of the work: two workers of whom one does less are not two
BALANCE: Final = "CPU time of the less busy worker / of both"
ONE_WORKER: Final = "one worker"
A_CORE_EACH: Final = "two workers, a core each"
ON_ONE_CORE: Final = "two workers on one core"
Told = tuple[list[Run], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; None is the workload's own."""

    quick: bool = False
    seconds: float | None = None
    rounds: int | None = None
    rate: float | None = None
    share: float = 0.5
    connections: int | None = None
    customers: int | None = None
    events: int | None = None
    told: bool = False  # customers in the outbox, too, so that an archive can rebuild what decisions saw
    skew: float | None = None
    arrivals: str = "even"
    deadline_ms: int = DEADLINE_MS
    sizes: tuple[int, ...] = ()
    rules: Path = ROOT / "rules"
    models: Path = ROOT / "models"
    server_core: int = 0
    load_core: int = 1
    json: Path | None = None
    html: Path | None = None
    only: tuple[str, ...] = ()
    earlier: Path | None = None

    def timed(self, full: float, quick: float) -> float:
        """Seconds of one run."""
        return self.seconds or (quick if self.quick else full)

    def counted(self, full: int, quick: int) -> int:
        """Rounds."""
        return self.rounds or (quick if self.quick else full)

    def population(self, name: str = "b", customers: int = 20_000, events: int = 200) -> Population:
        """Customers, fewer in a quick run: so many that hardly one draws often enough to be held for that alone."""
        customers = self.customers or (customers // 10 if self.quick else customers)
        return Population(name, customers, self.events or events, told=self.told)

    @property
    def cores(self) -> tuple[int, int]:
        """Of server and generator."""
        return self.server_core, self.load_core


@dataclass(slots=True)
class Bench:
    """A bed with its options, and the traffic that went over it."""

    bed: Bed
    options: Options
    _streams: int = 0
    rates: dict[str, float] = field(default_factory=dict)  # last requests/s in a closed loop, by target

    def service(self, name: str, *populations: Population, **how: Any) -> Target:
        """The service on a store of its own."""
        rules, models = how.pop("rules", self.options.rules), self.options.models
        return self.bed.service(name, self.bed.store(*populations), rules=rules, models=models, **how)

    def traffic(self, population: Population, **how: Any) -> Traffic:
        """A stream that no other equals."""
        self._streams += 1
        told = {"skew": self.options.skew or 0.0, "deadline_ms": self.options.deadline_ms} | how
        return Traffic(f"{population.name}-{self._streams}", population, seed=self._streams, **told)

    def closed(self, target: Target, traffic: Traffic, seconds: float) -> Round:
        """As many requests as it answers."""
        prepared = min(300_000, max(5_000, int(1.3 * seconds * self.rates.get(target.name, 1_000))))
        plan = Plan(target.server.port, traffic, seconds, None, self.options.connections or 32, prepared)
        found = self.bed.end(target, self.bed.begin(target, plan))
        self.rates[target.name] = figures.per_s(found.raw)
        return found

    def open_plan(self, target: Target, traffic: Traffic, due_ns: Any, seconds: float) -> Plan:
        """Requests at these instants."""
        connections = self.options.connections or 64
        return Plan(target.server.port, traffic, seconds, due_ns, connections)

    def open(self, target: Target, traffic: Traffic, per_s: float, seconds: float) -> Round:
        """Requests at a rate."""
        due = schedule.arriving(self.options.arrivals, per_s, seconds)
        return self.bed.end(target, self.bed.begin(target, self.open_plan(target, traffic, due, seconds)))

    def warm(self, target: Target, population: Population, **how: Any) -> float:
        """Let it get warm; requests/s meanwhile."""
        seconds = 1.0 if self.options.quick else WARM_S
        self.closed(target, self.traffic(population, **how), seconds)
        return self.rates[target.name]

    def peak(self, target: Target, population: Population, **how: Any) -> tuple[float, Run]:
        """Requests/s it answers in a closed loop, and that run."""
        self.warm(target, population, **how)
        seconds = min(self.options.timed(6.0, 2.0), 6.0)
        found = self.closed(target, self.traffic(population, **how), seconds)
        run = self.run("peak (closed loop)", [found])
        say(f"peak {run['per_s']:,.0f} a second")
        return run["per_s"], run

    def run(self, name: str, rounds: Sequence[Round], **more: Any) -> Run:
        """The figures of a run."""
        return run_of(name, rounds, cores=self.options.cores, **more)


@dataclass(frozen=True, slots=True)
class Contender:
    """One of several things that are compared: a target, and whose requests it gets."""

    name: str
    target: Target
    population: Population
    how: Mapping[str, Any] = field(default_factory=dict)


def alternate(bench: Bench, contenders: Sequence[Contender], rounds: int, seconds: float) -> dict[str, list[Round]]:
    """Closed loops in turn, forwards and backwards."""
    for one in contenders:
        bench.warm(one.target, one.population, **one.how)
    found: dict[str, list[Round]] = {one.name: [] for one in contenders}
    for number in range(rounds):
        for one in contenders if number % 2 == 0 else reversed(contenders):
            done = bench.closed(one.target, bench.traffic(one.population, **one.how), seconds)
            found[one.name].append(done)
            say(f"round {number + 1} of {rounds}: {one.name} {figures.per_s(done.raw):,.0f}/s, {cost_us(done):,.0f} us")
    return found


def cost_us(round_: Round) -> float:
    """CPU time of the server for each request."""
    return round_.raw.cpu_s["server"] / max(len(round_.raw.due_ns), 1) * 1e6


def by_round(found: Mapping[str, Sequence[Round]], above: str, below: str, figure: Callable[[Round], float]) -> float:
    """The median of the ratios within the rounds."""
    pairs = zip(found[above], found[below], strict=True)
    return statistics.median(figure(a) / figure(b) for a, b in pairs)


# --- one service ------------------------------------------------------------------------------------------------------


def steady(bench: Bench) -> Told:
    """Open loop at a fixed rate, or at half of the peak it finds itself.

    In turn with it the bare app gets the same requests at the same rate: what that takes is the machine's (a host that
    takes a core away for milliseconds, a generator that is sent off), no service's.
    """
    options, population = bench.options, bench.options.population()
    service = bench.service("service", population)
    runs: list[Run] = []
    rate = options.rate
    if rate is None:
        peak, run = bench.peak(service, population)
        runs.append(run)
        rate = round(peak * options.share, 1)
    else:
        bench.warm(service, population)
    bare = bench.bed.bare()
    bench.warm(bare, population)
    rounds, seconds = options.counted(2, 1), options.timed(20.0, 5.0)
    say(f"{rounds} times {seconds:g} s at {rate:,.0f} a second, and as long the bare app")
    found: dict[str, list[Round]] = {"service": [], "bare app": []}
    for _ in range(rounds):
        for target in (service, bare):
            found[target.name].append(bench.open(target, bench.traffic(population), rate, seconds))
    name = f"{options.share:g} of the peak" if options.rate is None else "given rate"
    runs.append(bench.run(name, found["service"], wanted_per_s=rate))
    control = bench.run("bare app", found["bare app"], wanted_per_s=rate)
    told, floor = runs[-1]["latency_us"], control["latency_us"]
    wanted = {"p50": "<= 1", "p99": "<= 5", "p99.9": "<= 15"} if options.rate is None and options.share == 0.5 else {}
    which = ("p50", "p99", "p99.9")
    return [*runs, control], [
        *(ratio(f"{one} at {name}, ms", told[one] / 1e3, wanted.get(one, "")) for one in which),
        *(ratio(f"{one} of the bare app at the same rate, ms", floor[one] / 1e3) for one in which),
    ]


def saturation(bench: Bench) -> Told:
    """Closed loop: one worker beside the bare app in alternating rounds."""
    population = bench.options.population()
    bare, service = bench.bed.bare(), bench.service("one worker", population)
    both = [Contender("bare app", bare, population), Contender("one worker", service, population)]
    found = alternate(bench, both, bench.options.counted(3, 2), bench.options.timed(5.0, 1.5))
    runs = [bench.run(name, rounds) for name, rounds in found.items()]
    runs[1] |= {"start_to_ready_s": round(service.server.ready_s, 2), "resident_mb": service.server.resident_mb()}
    share = runs[1]["core_share"]["server"]
    if share < 0.85 and not bench.options.quick:
        runs[1]["why_not"].append(f"one worker: it used {share:.0%} of its core: more --connections would saturate it")
    return runs, [
        ratio("one worker / bare app, requests/s", by_round(found, "one worker", "bare app", _rate), ">= 0.40"),
        ratio("bare app / one worker, CPU a request", by_round(found, "bare app", "one worker", cost_us)),
    ]


def _rate(round_: Round) -> float:
    return figures.per_s(round_.raw)


def ramp(bench: Bench) -> Told:
    """Open loop at rates from a tenth of the peak upwards; the knee is the last rate before the first that is too much.

    A rate is too much if less than KNEE_ANSWERED of it was answered within its step, if more than KNEE_FAILED of it
    failed, or if its p99 is more than KNEE_SLOWER times that of the first step. The ramp ends after two such rates.
    """
    population = bench.options.population()
    service = bench.service("service", population)
    peak, run = bench.peak(service, population)
    seconds = bench.options.timed(8.0, 1.5)
    steps: list[Run] = []
    for share in RAMP if not bench.options.quick else RAMP[1::3]:
        rate = round(peak * share, 1)
        found = bench.open(service, bench.traffic(population), rate, seconds)
        step = bench.run(f"{rate:,.0f}/s", [found], wanted_per_s=rate, may_fail=True)
        step["too_much"] = is_too_much(step, (steps or [step])[0])
        steps.append(step)
        say(f"{rate:,.0f}/s: p99 {step['latency_us']['p99'] / 1e3:,.2f} ms{', too much' if step['too_much'] else ''}")
        if [one["too_much"] for one in steps[-2:]] == [True, True]:
            break
    knee = knee_of(steps)
    return [run, *steps], [
        ratio("knee, requests/s", knee), ratio("knee / peak", None if knee is None else knee / peak),
    ]  # fmt: skip


def is_too_much(step: Run, first: Run) -> bool:
    """The rule of the knee."""
    return bool(
        step["per_s"] < KNEE_ANSWERED * step["wanted_per_s"]
        or sum(step["failures"].values()) > KNEE_FAILED * step["requests"]
        or step["latency_us"]["p99"] > KNEE_SLOWER * first["latency_us"]["p99"]
    )


def knee_of(steps: Sequence[Run]) -> float | None:
    """The last rate before the first that is too much; None if the first already is."""
    kept = list(takewhile(lambda step: not step["too_much"], steps))
    return kept[-1]["wanted_per_s"] if kept else None


def mixed(bench: Bench) -> Told:
    """Decisions 60, previews 20, events 15, reads 5: closed loop, then open loop at half of that."""
    population = bench.options.population()
    service = bench.service("service", population)
    peak, run = bench.peak(service, population, mix=MIXED)
    rate = bench.options.rate or round(peak * bench.options.share, 1)
    found = bench.open(service, bench.traffic(population, mix=MIXED), rate, bench.options.timed(40.0, 5.0))
    return [run, bench.run("mixed", [found], wanted_per_s=rate)], []


def reload(bench: Bench) -> Told:
    """Policy reloads in the middle of an open loop at half of the peak: failures, and p99 during beside before."""
    population, options = bench.options.population(), bench.options
    rules = policies.copied(options.rules, bench.bed.directory / "rules")
    service = bench.service("service", population, rules=rules)
    peak, run = bench.peak(service, population)
    rate = options.rate or round(peak * options.share, 1)
    times, every_s = options.counted(5, 1), options.timed(8.0, 4.0)
    seconds = (times + 0.5) * every_s
    due = schedule.arriving(options.arrivals, rate, seconds)
    before = bench.bed.begin(service, bench.open_plan(service, bench.traffic(population), due, seconds))
    began, windows = time.perf_counter_ns(), []
    for number in range(times):
        time.sleep(max(0.0, began / 1e9 + (number + 0.5) * every_s - time.perf_counter()))
        windows.append(_reload(service, rules, number))
        say(f"reload {number + 1} of {times}: active after {(windows[-1][1] - windows[-1][0]) / 1e9:.2f} s")
    found = bench.bed.end(service, before)
    quiet_ns, during_ns = reload_latencies(found, windows)
    marks = [
        {"t_s": round((at - found.raw.began_ns) / 1e9, 3), "text": text}
        for window in windows for at, text in zip(window, ("reload", "active"), strict=True)
    ]  # fmt: skip
    parts = {"before": figures.latencies(quiet_ns), "during": figures.latencies(during_ns)}
    notes = {"reload_us": parts, "reload_s": [round((end - start) / 1e9, 3) for start, end in windows]}
    told = bench.run("reload", [found], wanted_per_s=rate, marks=marks, may_fail=True, notes=notes)
    return [run, told], [
        ratio("failures with reloads under way", float(sum(told["failures"].values())), "<= 0"),
        ratio("p99 during reloads / before them", parts["during"]["p99"] / max(parts["before"]["p99"], 1.0), "<= 1.5"),
    ]


def _reload(service: Target, rules: Path, number: int) -> tuple[int, int]:
    """Edit the policy and have it reloaded; when that began, and when the new one was active."""
    label = f"load-{number}"
    began = time.perf_counter_ns()
    policies.edit(rules, number)
    request = urllib.request.Request(f"{service.server.url}/v1/policy/reload?force=true", method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = orjson.loads(answer.read())
    if found["label"] != label:
        raise RuntimeError(f"the policy in force is {found['label']}, not {label}")
    return began, time.perf_counter_ns()


def reload_latencies(found: Round, windows: Sequence[tuple[int, int]]) -> tuple[Any, Any]:
    """Latencies of the requests that were due just before reloads, as long as each took, and of those due during."""
    raw = found.raw
    times, used = figures.ends_ns(raw) - raw.due_ns, figures.counted(raw)
    quiet, during = np.zeros(len(times), bool), np.zeros(len(times), bool)
    for start, active in windows:
        end = active + int(AFTER_RELOAD_S * 1e9)
        during |= (raw.due_ns >= start) & (raw.due_ns < end)
        quiet |= (raw.due_ns >= 2 * start - end) & (raw.due_ns < start)
    return times[quiet & ~during & used], times[during & used]


# --- comparisons ------------------------------------------------------------------------------------------------------


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


WORKLOADS: Final[dict[str, Callable[[Bench], Told]]] = {
    "steady": steady, "saturation": saturation, "ramp": ramp, "mixed": mixed, "customers": customers,
    "history": history, "rules": rules, "reload": reload, "workers": workers,
}  # fmt: skip

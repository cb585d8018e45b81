"""What every workload works with: the options, a bench that drives traffic over a bed, and contenders in turn.

Comparisons alternate within one run (A B A B, every other time B A), and a ratio is the median over the rounds of the
ratio within a round, so that what drifts on a machine drifts for both. `cost_us` is CPU time of the server for each
request, which a busy store or a slow disk does not change.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from load import figures, schedule
from load.bed import ROOT, Bed, Round, Target, say
from load.document import Run, run_of
from load.plan import Plan
from load.population import Population
from load.traffic import DEADLINE_MS, Traffic

WARM_S: Final = 2.0
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

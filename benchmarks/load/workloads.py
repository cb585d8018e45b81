"""The workloads of one service: steady, saturation, ramp, mixed, reload; and the names of all there are. Each is a
function of a bench; it gives runs and ratios.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from load import figures, policies, schedule
from load.bed import Round, Target, say
from load.bench import Bench, Contender, Told, alternate, by_round, cost_us
from load.comparisons import customers, history, rules, workers
from load.document import Run, ratio
from load.traffic import MIXED

KNEE_SLOWER: Final = 10.0
KNEE_ANSWERED: Final = 0.98
KNEE_FAILED: Final = 0.001
RAMP: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)
AFTER_RELOAD_S: Final = 0.5  # that still count as "during"


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


WORKLOADS: Final[dict[str, Callable[[Bench], Told]]] = {
    "steady": steady, "saturation": saturation, "ramp": ramp, "mixed": mixed, "customers": customers,
    "history": history, "rules": rules, "reload": reload, "workers": workers,
}  # fmt: skip

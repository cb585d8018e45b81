"""The workload `shadow`: what a policy in shadow costs an answer.

One service, an open loop at half of the peak it finds itself, in rounds with a policy in shadow and without (on off off
on ...): it is published to be in shadow and stopped again between the rounds, so both sides are the same worker on the
same store. The policy in shadow is the shipped one with another threshold. The shadow's process has the service's core,
as the service's processes do on a bed of two cores, and uses what the worker leaves of it; on a machine with cores to
spare it has one of those.

What is compared is the latency of answers as callers see it, and the CPU time of the worker alone for each request.
Told beside it: how many of the decisions were evaluated.
"""

from __future__ import annotations

import re
import statistics
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

import orjson

from load import figures, policies
from load.bed import Round, Target, say
from load.bench import Bench, Told
from load.document import ratio

READY_S: Final = 120.0
SETTLE_S: Final = 2.0  # after the shadow stands, or has gone: pages it touched, connections it opened
_COUNTED: Final = re.compile(r'^decision_service_shadow_policy_decisions_total\{result="(\w+)"\} (\S+)$', re.MULTILINE)
ON, OFF = "with a policy in shadow", "without"


def shadow(bench: Bench) -> Told:
    """Rounds of an open loop with a policy in shadow and without."""
    options, population = bench.options, bench.options.population()
    service = bench.service("service", population)
    peak, run = bench.peak(service, population)
    rate = options.rate or round(peak * options.share, 1)
    candidate = policies.copied(options.rules, bench.bed.directory / "candidate")
    policies.edit(candidate, 1)
    rounds, seconds = options.counted(8, 2), options.timed(8.0, 1.5)
    found: dict[str, list[Round]] = {ON: [], OFF: []}
    worker_us: dict[str, list[float]] = {ON: [], OFF: []}
    for number in range(rounds):
        for name in (ON, OFF) if number % 2 == 0 else (OFF, ON):
            _put(service, candidate) if name == ON else _stop(service)
            time.sleep(SETTLE_S)
            spent_s = _worker_s(service)
            done = bench.open(service, bench.traffic(population), rate, seconds)
            worker_us[name].append((_worker_s(service) - spent_s) / max(len(done.raw.due_ns), 1) * 1e6)
            found[name].append(done)
            told = figures.latencies(figures.latency_ns(done.raw))
            latency = f"p50 {told['p50'] / 1e3:.3f} ms, p99 {told['p99'] / 1e3:.3f} ms"
            say(f"round {number + 1} of {rounds}, {name}: {latency}, worker {worker_us[name][-1]:.0f} us")
    counted = _counted(service)
    notes = {"evaluated": counted, "worker_us": statistics.median(worker_us[ON])}
    runs = [
        run, bench.run(ON, found[ON], wanted_per_s=rate, notes=notes),
        bench.run(OFF, found[OFF], wanted_per_s=rate, notes={"worker_us": statistics.median(worker_us[OFF])}),
    ]  # fmt: skip
    evaluated = (counted["agreed"] + counted["differed"]) / max(sum(counted.values()), 1.0)
    cpu = statistics.median(on / off for on, off in zip(worker_us[ON], worker_us[OFF], strict=True))
    return runs, [
        *(ratio(f"{which} with a shadow / without", _latency(found, which), "<= 1.05") for which in ("p50", "p99")),
        ratio("CPU of the worker a request, with a shadow / without", cpu),
        ratio("decisions evaluated in shadow / made", evaluated),
    ]


def _latency(found: dict[str, list[Round]], which: str) -> float:
    """The median of the ratios within the rounds."""
    pairs = zip(found[ON], found[OFF], strict=True)
    told = [[figures.latencies(figures.latency_ns(one.raw))[which] for one in pair] for pair in pairs]
    return statistics.median(on / max(off, 1.0) for on, off in told)


def _put(service: Target, candidate: Path) -> None:
    """Put a policy in shadow and wait until it stands."""
    paths = (path for path in candidate.rglob("*") if path.suffix in (".yaml", ".yml"))
    files = {path.relative_to(candidate).as_posix(): path.read_text() for path in paths}
    _ask(service, "PUT", "/v1/policy/shadow", {"files": files})
    _wait(service, "shadowing")


def _stop(service: Target) -> None:
    """Take it away, and wait until it has gone."""
    _ask(service, "DELETE", "/v1/policy/shadow")
    _wait(service, "off")


def _wait(service: Target, state: str) -> None:
    until = time.monotonic() + READY_S
    while (standing := _ask(service, "GET", "/v1/policy")["shadow"])["state"] != state:
        if time.monotonic() > until:
            raise RuntimeError(f"the shadow is {standing['state']}, not {state}: {standing['problem']}")
        time.sleep(0.1)


def _ask(service: Target, method: str, path: str, body: object = None) -> Any:
    data = None if body is None else orjson.dumps(body)
    headers = {} if body is None else {"content-type": "application/json"}
    request = urllib.request.Request(f"{service.server.url}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return orjson.loads(answer.read())


def _counted(service: Target) -> dict[str, float]:
    """Decisions in shadow, by what became of them."""
    time.sleep(SETTLE_S)
    with urllib.request.urlopen(f"{service.server.url}/metrics", timeout=30) as answer:
        return {name: float(count) for name, count in _COUNTED.findall(answer.read().decode())}


def _worker_s(service: Target) -> float:
    """CPU time of the worker alone, which is the first of its family."""
    return service.server.cpu_s(service.server.family()[:1])

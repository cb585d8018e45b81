"""The result document: what a load run writes, and `load_report` reads.

`valid` is false, with reasons, where a figure is not what its name says: the generator was the bottleneck (or shared
its core with a store that was), something else used the server's core, the host took a core away while percentiles were
measured, decisions were not whole. A document that is not valid may still be looked at, but nothing follows from it.

How it is known that the generator was not the bottleneck: it never used more than GENERATOR_SHARE_MAX of its core, it
and the store together left some of theirs, and it sent what was due within LAG_P99_US_MAX of the instant.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from load import figures, stages
from load.bed import ROOT, Round

FORMAT: Final = "decision-service-load/1"
GENERATOR_SHARE_MAX: Final = 0.9
CORE_SHARE_MAX: Final = 0.98  # of generator and store together, on one core
LAG_P99_US_MAX: Final = 1_000.0
OTHERS_SHARE_MAX: Final = 0.10  # of the server's core, used by what is no part of the run
STOLEN_SHARE_MAX: Final = 0.05  # of a core, taken away by the host while percentiles were measured
FAILED_SHARE_MAX: Final = 0.001
HEAD: Final = (
    "run", "per s", "wanted", "p50", "p90", "p99", "p99.9", "max", "failed", "not full", "CPU us", "core", "gen.",
)  # fmt: skip
Document = dict[str, Any]
Run = dict[str, Any]


def run_of(
    name: str, rounds: Sequence[Round], *, wanted_per_s: float | None = None, cores: tuple[int, int] = (0, 1),
    marks: Sequence[Mapping[str, Any]] = (), may_fail: bool = False, notes: Mapping[str, Any] | None = None,
) -> Run:  # fmt: skip
    """One run, of one round or several that alternated with other runs. `cores`: of server and generator. `may_fail`:
    failures are what it looks for."""
    raws = [one.raw for one in rounds]
    requests = sum(len(raw.due_ns) for raw in raws)
    wall_s = sum(raw.wall_s for raw in raws)
    cpu_s = figures.together([raw.cpu_s for raw in raws])
    busy_s = {core: sum(raw.core_busy_s.get(core, 0.0) for raw in raws) for core in cores}
    latency = np.concatenate([figures.latency_ns(raw) for raw in raws])
    run: Run = {
        "name": name,
        "kind": "closed" if wanted_per_s is None else "open",
        "wanted_per_s": wanted_per_s,
        "seconds": round(sum(raw.seconds for raw in raws), 3),
        "requests": requests,
        "failures": figures.together([raw.failures for raw in raws]),
        "rungs": {name: n for name, n in figures.together([raw.rungs for raw in raws]).items() if name},
        "outcomes": {name: n for name, n in figures.together([raw.outcomes for raw in raws]).items() if name},
        "per_s": round(statistics.median(figures.per_s(raw) for raw in raws), 1),
        "latency_us": figures.latencies(latency),
        "service_time_us": figures.latencies(np.concatenate([figures.service_time_ns(raw) for raw in raws])),
        "histogram": figures.histogram(latency),
        "timeline": figures.timeline(raws),
        "operations": figures.operations(raws),
        "stages_us": stages.told(stages.summed([one.stages for one in rounds])),
        "cpu_us": {name: round(used / max(requests, 1) * 1e6, 2) for name, used in cpu_s.items() if name != "idle"},
        "core_share": {name: round(used / wall_s, 4) for name, used in cpu_s.items()},
        "others_share": round(max(0.0, busy_s[cores[0]] - cpu_s["server"] - cpu_s.get("idle", 0.0)) / wall_s, 4),
        "stolen_share": round(sum(sum(raw.core_stolen_s.values()) for raw in raws) / wall_s, 4),
        "send_lag_us": figures.lag(raws),
        "marks": [dict(mark) for mark in marks],
        "first_failure": next((raw.first_failure for raw in raws if raw.first_failure), ""),
        "replayed": sum(raw.replayed for raw in raws),
        **(notes or {}),
    }
    run["why_not"] = problems(run, may_fail=may_fail)
    return run


def problems(run: Run, *, may_fail: bool = False) -> list[str]:
    """Why the figures of a run are not what their names say."""
    share, found = run["core_share"], []
    if share["generator"] > GENERATOR_SHARE_MAX:
        found.append(f"the generator used {share['generator']:.0%} of its core: it measured itself")
    both = share["generator"] + share.get("store", 0.0)
    if both > CORE_SHARE_MAX:
        found.append(f"generator and store used {both:.0%} of the core they share: the server waited for them")
    if run["kind"] == "open" and run["send_lag_us"]["p99"] > LAG_P99_US_MAX:
        found.append(f"one request in a hundred was sent {run['send_lag_us']['p99']:,.0f} us late by the generator")
    if run["kind"] == "open" and run["stolen_share"] > STOLEN_SHARE_MAX:
        found.append(f"the host took {run['stolen_share']:.0%} of a core away: its latencies are the host's as well")
    if run["others_share"] > OTHERS_SHARE_MAX:
        found.append(f"other work used {run['others_share']:.0%} of the server's core")
    failed = sum(run["failures"].values())
    if failed > FAILED_SHARE_MAX * run["requests"] and not may_fail:
        found.append(f"{failed:,} of {run['requests']:,} requests failed: {run['failures']}")
    other = {rung: count for rung, count in run["rungs"].items() if rung != "full"}
    if sum(other.values()) > FAILED_SHARE_MAX * run["requests"]:
        found.append(f"decisions on other rungs than full: {other}")
    if run["replayed"]:
        found.append(f"{run['replayed']:,} answers were stored ones: request ids were used before")
    return [f"{run['name']}: {problem}" for problem in found]


def ratio(name: str, got: float | None, wanted: str = "") -> dict[str, Any]:
    """A figure within one run beside what is wanted of it (`>= 0.40`, `<= 1.4`); "": nothing is."""
    met = None
    if wanted and got is not None:
        sign, _, bound = wanted.partition(" ")
        met = got >= float(bound) if sign == ">=" else got <= float(bound)
    return {"name": name, "wanted": wanted, "got": None if got is None else round(got, 4), "met": met}


def document(
    workload: str, options: Mapping[str, Any], machine: Mapping[str, Any], runs: Sequence[Run],
    ratios: Sequence[Mapping[str, Any]], broken: Sequence[str] = (),
) -> Document:  # fmt: skip
    """The whole document; `broken` says what broke off."""
    why_not = [*broken, *(problem for run in runs for problem in run["why_not"])]
    if not any(run["requests"] for run in runs):
        why_not.append("nothing was measured")
    return {
        "format": FORMAT, "workload": workload, "commit": commit(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": dict(machine),
        "options": {name: str(v) if isinstance(v, Path) else v for name, v in options.items()}, "runs": list(runs),
        "ratios": [dict(one) for one in ratios], "valid": not why_not, "why_not": why_not,
    }  # fmt: skip


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was before."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.machine(), "cores": os.cpu_count(),
        "python": platform.python_version(), "load_before": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def commit() -> str:
    """The commit of the working tree, with `+` if it has changes; "" where there is no repository."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except OSError:  # no git here
        return ""


def table(told: Document) -> str:
    """The document for people."""
    lines = [f"{told['workload']}, commit {told['commit'] or 'unknown'}, {told['machine']['cpu']}", ""]
    rows = [HEAD]
    for run in told["runs"]:
        latency = run["latency_us"]
        rows.append((
            run["name"], f"{run['per_s']:,.0f}", "" if run["wanted_per_s"] is None else f"{run['wanted_per_s']:,.0f}",
            *(f"{latency[name] / 1e3:,.2f}" for name in ("p50", "p90", "p99", "p99.9", "max")),
            f"{sum(run['failures'].values()):,}", f"{sum(n for r, n in run['rungs'].items() if r != 'full'):,}",
            f"{run['cpu_us']['server']:,.0f}", f"{run['core_share']['server']:.0%}",
            f"{run['core_share']['generator']:.0%}",
        ))  # fmt: skip
    lines += aligned(rows)
    lines += ["latencies in ms from the instant a request was due; CPU us: of the server for each request", ""]
    for run in told["runs"]:
        lines += _details(run)
    if told["ratios"]:
        mark = {True: "met", False: "NOT MET", None: ""}
        ratios = [("ratio", "wanted", "got", "")]
        ratios += [
            (one["name"], one["wanted"], "not measured" if one["got"] is None else f"{one['got']:g}",
             mark[one["met"]])
            for one in told["ratios"]
        ]  # fmt: skip
        lines += ["", *aligned(ratios)]
    if not told["valid"]:
        lines += ["", "NOT VALID:", *(f"  {why}" for why in told["why_not"])]
    return "\n".join(lines)


def _details(run: Run) -> list[str]:
    share, lag = run["core_share"], run["send_lag_us"]
    whose = ", ".join(f"{name} {share[name]:.1%} of a core" for name in ("generator", "store") if name in share)
    if run["kind"] == "open":
        whose += f"; sent {lag['p99']:,.0f} us after the instant (p99; at most {lag['max']:,.0f})"
    whose += f"; the host took {run['stolen_share']:.1%} of a core away"
    lines = [f"{run['name']}: {whose}"]
    if run["stages_us"]:
        means = ", ".join(f"{name} {one['mean']:,.0f}" for name, one in run["stages_us"].items())
        lines.append(f"{run['name']}: mean us by stage: {means}")
    if len(run["operations"]) > 1:
        told = (
            f"{name} {one['requests']:,} (p50 {one['latency_us']['p50'] / 1e3:,.2f} ms, "
            f"p99 {one['latency_us']['p99'] / 1e3:,.2f} ms)" for name, one in run["operations"].items()
        )  # fmt: skip
        lines.append(f"{run['name']}: {', '.join(told)}")
    if run["outcomes"]:
        lines.append(f"{run['name']}: " + ", ".join(f"{n:,} {name}" for name, n in run["outcomes"].items()))
    if run["failures"]:
        lines.append(f"{run['name']}: failures {run['failures']}, the first: {run['first_failure'][:200]!r}")
    return lines


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as columns, the first left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]

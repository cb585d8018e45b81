"""Load-run documents as a generator would write them: a simulated server behind a queue, seeded.

Requests are sent at a rate; one server takes `service_us` for each with some spread; latencies count from the intended
send time. So what a report shows can be compared with what was drawn. Whoever imports this first can import what is
in `benchmarks`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

SHARES = {"parse": 0.06, "read": 0.22, "features": 0.24, "score": 0.1, "rules": 0.12, "commit": 0.2, "serialise": 0.06}
NAMES = ("p50", "p90", "p99", "p99.9", "p99.99", "max")


def percentiles(values: Any) -> dict[str, float]:
    """The figures of some latencies."""
    named = {n: float(np.percentile(values, float(n[1:]))) for n in NAMES[:-1]}
    return named | {"max": float(values.max()), "mean": float(values.mean())}


def _interval(t_s: float, latency: Any) -> dict[str, float]:
    p50, p99 = np.percentile(latency, (50, 99)).tolist()
    most = float(latency.max())
    return {"t_s": t_s, "requests": len(latency), "failures": 0, "p50_us": p50, "p99_us": p99, "max_us": most}


def run(
    name: str, rate: float | None, service_us: float, seed: int, seconds: float = 20.0, stall_at: float | None = None
) -> dict[str, Any]:
    """One run: at a rate (open), or as fast as the server goes (closed)."""
    rng = np.random.default_rng(seed)
    per_s = rate or 1e6 / service_us
    n = int(per_s * seconds)
    intended = np.arange(n) / per_s * 1e6
    takes = service_us * rng.gamma(6.0, 1.0 / 6.0, n)
    if stall_at is not None:
        takes[int(stall_at * per_s)] += 60_000.0
    done = np.empty(n)
    free = 0.0
    for i in range(n):
        free = max(free, intended[i]) + takes[i]
        done[i] = free
    latency = done - intended + 120.0
    service_time = takes + 120.0
    histogram = HdrHistogram(1, 3_600_000_000, 3)
    for value in latency:
        histogram.record_value(int(value))
    bins = np.minimum((done / 5e5).astype(int), int(seconds * 2) - 1)
    kinds = rng.choice(4, n, p=(0.6, 0.2, 0.15, 0.05))
    operations = {
        operation: {"requests": int((kinds == k).sum()), "latency_us": percentiles(latency[kinds == k] * (1 + k / 5))}
        for k, operation in enumerate(("decision", "preview", "event", "read"))
    }
    took = max(seconds, float(done[-1]) / 1e6)
    return {
        "name": name, "kind": "open" if rate else "closed", "wanted_per_s": rate, "seconds": took, "requests": n,
        "failures": {"503 too-busy": 0}, "rungs": {"full": n}, "per_s": n / took, "latency_us": percentiles(latency),
        "service_time_us": percentiles(service_time), "histogram": histogram.encode().decode(),
        "timeline": [
            _interval((b + 1) / 2, latency[bins == b]) for b in range(int(seconds * 2)) if (bins == b).any()
        ],
        "operations": operations if rate else {"decision": operations["decision"]},
        "stages_us": {
            stage: {"p50": service_us * share, "p99": service_us * share * 2.4, "mean": service_us * share * 1.05}
            for stage, share in SHARES.items()
        },
        "cpu_us": {"server": service_us * 0.9, "store": 110.0, "generator": 40.0},
        "core_share": {"server": 0.9 * per_s * service_us / 1e6, "store": 0.2, "generator": 0.1},
        "stolen_share": 0.01,
        "send_lag_us": {"p99": 140.0, "max": 900.0},
        "marks": [] if stall_at is None else [{"t_s": stall_at, "text": "reload"}],
    }  # fmt: skip


def document(commit: str, service_us: float = 900.0, seed: int = 1, seconds: float = 20.0) -> dict[str, Any]:
    """A closed run, a reload under load, and a ramp of six steps through the knee."""
    runs = [
        run("one worker, saturated", None, service_us, seed, seconds),
        run("reload", 500.0, service_us, seed + 1, seconds, stall_at=seconds / 2),
        *(run(f"ramp {rate}/s", float(rate), service_us, seed + rate, seconds / 2) for rate in range(300, 1_500, 200)),
    ]
    return {
        "format": "decision-service-load/1", "workload": "everything", "commit": commit, "at": "2026-11-22T17:00:00Z",
        "machine": {"cpu": "a processor", "cores": 2, "python": "3.11.7", "load_before": 0.3},
        "options": {"customers": 2000, "events": 200}, "runs": runs,
        "ratios": [
            {"name": "one worker / bare app", "wanted": ">= 0.40", "got": 0.12, "met": False},
            {"name": "reload, failures", "wanted": "0", "got": 0, "met": True},
        ],
        "valid": True, "why_not": [],
    }  # fmt: skip

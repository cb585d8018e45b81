"""Rows a second and core of `features build`: 100 features over histories of 200 events; and its memory as files grow.

    python benchmarks/features_build.py                  # one core, then ten times the file in the same memory
    python benchmarks/features_build.py --customers 500  # a quick look

Every customer has 200 events in the 400 days before the questions and is asked about at random instants of the month
after, so every row sees them all. Each size runs in a process of its own, one worker, files read and written included.
Rows are counted per second of CPU, since a machine that does something else as well says nothing by its clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from decision_service.api.parse import Clock
from decision_service.build import Build, build
from decision_service.build.history import Keeping
from decision_service.build.table import Table, read_spec
from decision_service.core.features.grains import CUSTOMER
from decision_service.core.limits import DAY_MS

RULES = Path(__file__).parents[1] / "rules"
T0_MS = 1_750_000_000_000
EVENTS, FEATURES = 200, 100
KINDS = ("drawdown", "drawdown", "repayment", "purchase", "login")
GROUP_CUSTOMERS = 250


@dataclass(frozen=True, slots=True)
class Measured:
    """One build. `cpu_s` is of the whole process from the first file to the last; `stages_s` are parts of it."""

    customers: int
    events: int
    rows: int
    cpu_s: float
    wall_s: float
    rows_per_cpu_s: float
    peak_mb: float
    partitions: int
    stages_s: dict[str, float]


def write_files(directory: Path, customers: int, asked: int) -> None:
    """Events and questions in groups of rows, customers mixed within each."""
    rng = np.random.default_rng(7)
    events = questions = None
    for first in range(0, customers, GROUP_CUSTOMERS):
        who = np.repeat(np.arange(first, min(first + GROUP_CUSTOMERS, customers)), EVENTS)
        table = _events(rng, who)
        events = events or parquet.ParquetWriter(directory / "events.parquet", table.schema)
        events.write_table(table)
        who = np.repeat(np.unique(who), asked)
        at = pa.array(T0_MS + rng.integers(0, 30 * DAY_MS, len(who)))
        amounts = pa.array(rng.integers(1, 500, len(who)) * 10.0)
        table = pa.table({"customer_id": _ids("c", who), "at": at, "amount": amounts})
        questions = questions or parquet.ParquetWriter(directory / "questions.parquet", table.schema)
        questions.write_table(table)
    assert events is not None
    assert questions is not None
    events.close()
    questions.close()


def _events(rng: np.random.Generator, who: np.ndarray) -> pa.Table:
    n = len(who)
    order = rng.permutation(n)
    at = T0_MS - rng.integers(0, 400 * DAY_MS, n)
    kinds = pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, len(KINDS), n), pa.int8()), list(KINDS))
    return pa.table(
        {
            "customer_id": _ids("c", who[order]), "event_id": _ids("e", who[order] * EVENTS + order % EVENTS),
            "kind": kinds, "occurred_at": pa.array(at, pa.timestamp("ms", "UTC")),
            "amount": pa.array(rng.integers(1, 50_000, n) / 100), "facility_id": _ids("f", who[order]),
            "device_id": _ids("d", who[order]), "counterparty_id": _ids("m", rng.integers(0, 300, n)),
            "category": _ids("k", rng.integers(0, 5, n)),
        }
    )  # fmt: skip


def _ids(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pa.array([f"{prefix}-{number}" for number in numbers.tolist()])


def measure(customers: int, asked: int, memory_mb: int, rules: str) -> Measured:
    """Write the files, warm up with a small part, build, in a process of its own."""
    with get_context("spawn").Pool(1) as writers, tempfile.TemporaryDirectory() as name:
        for size, folder in ((10, "small"), (customers, "large")):
            (Path(name) / folder).mkdir()
            writers.apply(write_files, (Path(name) / folder, size, asked))
        with get_context("spawn").Pool(1) as builders:
            return builders.apply(_measure, (Path(name), customers, memory_mb << 20, Path(rules)))


def _measure(directory: Path, customers: int, memory_bytes: int, rules: Path) -> Measured:
    every = read_spec(rules, None, "Asia/Shanghai")
    own = [name for name in every.names if _of_customer(every, rules).get(name)]
    names = [own[int(i * len(own) / FEATURES)] for i in range(FEATURES)]
    spec = read_spec(rules, names, "Asia/Shanghai")

    def plan(folder: str) -> Build:
        files = {name: directory / folder / f"{name}.parquet" for name in ("events", "questions")}
        return Build(
            **files, out=directory / folder / "out.parquet", table=spec, clock=Clock(T0_MS + 60 * DAY_MS, 0, 0),
            keeping=Keeping(500 * DAY_MS, 4_096, 256), links_max=1_024, reservation_timeout_ms=2 * DAY_MS, workers=1,
            memory_bytes=memory_bytes,
        )  # fmt: skip

    build(plan("small"))  # compiles what is not compiled yet
    cpu, wall = time.process_time(), time.monotonic()
    done = build(plan("large"))
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(
        customers, done.events, done.rows, cpu, wall, done.rows / cpu, peak_mb, done.partitions,
        {name: round(seconds, 2) for name, seconds in done.seconds.items()},
    )  # fmt: skip


_OWN: dict[str, bool] = {}


def _of_customer(every, rules: Path) -> dict[str, bool]:  # type: ignore[no-untyped-def]
    """Which features need no entity's log."""
    if not _OWN:
        table = Table(every)
        linked = {name for grain, plan in table.plans.items() if grain != CUSTOMER for name in plan.names}
        for name in every.names:
            _OWN[name] = name not in linked
    return _OWN


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--customers", type=int, default=1_000, help="of the smaller file (%(default)s)")
    parser.add_argument("--asked", type=int, default=100, help="rows a customer (%(default)s)")
    parser.add_argument("--memory-mb", type=int, default=512, help="given to the build (%(default)s)")
    parser.add_argument("--times", type=int, default=10, help="how much larger the second file is; 1: none")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    sizes = [args.customers] + ([args.customers * args.times] if args.times > 1 else [])
    found = [measure(size, args.asked, args.memory_mb, str(RULES)) for size in sizes]
    if args.json:
        print(json.dumps([asdict(one) for one in found]))
        return 0
    for one in found:
        print(
            f"{one.rows:,} rows of {FEATURES} features over {EVENTS}-event histories ({one.events:,} events): "
            f"{one.cpu_s:.1f} s of CPU, {one.rows_per_cpu_s:,.0f} rows a second of one core, "
            f"peak {one.peak_mb:,.0f} MB, {one.partitions} partitions"
        )
        print("  " + "  ".join(f"{name} {seconds:.2f} s" for name, seconds in one.stages_s.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

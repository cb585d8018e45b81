"""How fast histories of events are imported: events per second, CPU of client and server, peak memory.

    python benchmarks/import_history.py [--events 1000000] [--customers 5000] [--json]

Writes a Parquet file of generated events (device and payee on each, so that entity logs are written, too) and runs
`decision-service import` on it, into an embedded server, for each durability profile and for customers of equal and of
very unequal activity (Zipf, exponent 1.2: the first customers have far more events than a log keeps, so retention is at
work). The rate counts from the start of the command to its end, interpreter and imports included. Each server is new.
CPU is user and system time; memory is the largest resident size of the client.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from decision_service.core.limits import DAY_MS
from decision_service.store.embedded import EmbeddedServer

KINDS = ("drawdown", "repayment", "purchase", "login", "transfer_out")
PAYEES = 10_000
HISTORY_MS = 300 * DAY_MS
SHAPES = ("equal", "zipf")
PROFILES = {"safe": "always", "fast": "everysec"}


def write_events(path: Path, events: int, customers: int, shape: str) -> None:
    """A file of events in the order of time."""
    rng = np.random.default_rng(7)
    who = rng.integers(0, customers, events) if shape == "equal" else (rng.zipf(1.2, events) - 1) % customers
    now_ms = time.time_ns() // 1_000_000
    kind = np.array(KINDS)[rng.integers(0, len(KINDS), events)]
    amount = np.where(kind == "login", np.nan, np.round(rng.gamma(2.0, 300.0, events) + 1.0, 2))
    device = rng.integers(0, 2, events)
    columns = {
        "customer_id": [f"c-{n}" for n in who], "event_id": [f"e-{i}" for i in range(events)], "kind": kind,
        "occurred_at": pa.array(np.sort(rng.integers(now_ms - HISTORY_MS, now_ms, events)), pa.timestamp("ms", "UTC")),
        "amount": amount, "facility_id": [f"f-{n}" for n in who], "channel": ["app"] * events,
        "device_id": [f"d-{n}-{k}" for n, k in zip(who, device, strict=True)],
        "counterparty_id": [f"m-{n}" for n in rng.integers(0, PAYEES, events)],
    }  # fmt: skip
    parquet.write_table(pa.table(columns), path, row_group_size=131_072)


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(path: Path, profile: str, directory: Path) -> dict[str, Any]:
    """One import into a new server."""
    with EmbeddedServer(directory, fsync=PROFILES[profile]) as server:  # type: ignore[arg-type]
        command = [sys.executable, "-m", "decision_service", "import", "--events", str(path), "--json"]
        environment = os.environ | {"DECISION_SERVICE_DURABILITY": profile, "DECISION_SERVICE_REDIS_URL": server.url}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        summary = json.loads(done.stdout)
        return {
            "profile": profile, "accepted": summary["accepted"], "trimmed": summary["trimmed"],
            "seconds": round(seconds, 1), "events_per_s": round(summary["rows"] / seconds),
            "client_cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
            "server_cpu_s": round(cpu_s(server.pid), 1), "peak_mb": round(after.ru_maxrss * 1_024 / 1e6),
        }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as directory:
        for shape in SHAPES:
            path = Path(directory) / f"{shape}.parquet"
            write_events(path, args.events, args.customers, shape)
            for profile in PROFILES:
                result = {"customers": shape} | measure(path, profile, Path(directory) / f"{shape}-{profile}")
                results.append(result)
                if not args.json:
                    print("  ".join(f"{name} {value}" for name, value in result.items()), flush=True)
    if args.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()

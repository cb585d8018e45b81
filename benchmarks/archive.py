"""How many decisions a second one consumer archives: a real server, real frames, a local folder, files fsynced.

    python benchmarks/archive.py                          # 20,000 decisions, segments of 10,000 and of 100 rows
    python benchmarks/archive.py --decisions 100000 --partitions 256 --rows 10000
    python benchmarks/archive.py --json FILE

Decisions of the shipped rules on customers of 200 events are committed to a server of its own; then `archive run
--once` brings them into an archive, in a process of its own. Told are decisions a second by the processor time of that
process and by the wall, without what it takes to start, the processor time of the server, and bytes a row. Processor
time is what a busy machine spoils least. Each customer's decisions are alike, so real ones compress less.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from decide_parts import ROOT, Case, cases
from decision_service.answer import answer_bytes
from decision_service.archive.files import Archive
from decision_service.core.decide import decide
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import Policy
from decision_service.decision_log import encode
from decision_service.decision_records import drawdown_record
from decision_service.policies.loading import load_policy
from decision_service.store import Commit, Store
from decision_service.store.embedded import EmbeddedServer
from decision_service.store.keys import decision_id_of
from decision_service.store.open import open_store

CUSTOMERS: Final = 400
TIMEOUT_S: Final = 60.0
AT_ONCE: Final = 64
TICKS: Final = os.sysconf("SC_CLK_TCK")


def commits_of(case: Case, policy: Policy, partitions: int, rounds: range) -> Iterator[Commit]:
    """The commits of a customer's decisions, one a round."""
    request, customer_id = case.request, case.request.customer_id
    facilities = dict(case.state.facilities)
    for n in rounds:
        request_id = f"{request.request_id}-{n}"
        decision_id = decision_id_of(customer_id, request_id, partitions)
        decision = decide(request, case.state, policy, case.now_ms, decision_id)._replace(request_id=request_id)
        assert decision.trace is not None
        frame = encode(decision, decision.trace, request, answer_bytes(decision, 1_500), {"features": 80, "rules": 30})
        record = drawdown_record(request, decision, case.now_ms)
        yield Commit(
            customer_id, n - rounds.start, records=record, decision=(decision_id, frame),
            facilities=facilities if n == rounds.start else {},
        )  # fmt: skip


async def fill(store: Store, policy: Policy, partitions: int, decisions: int) -> int:
    """Commit so many decisions; how many there are."""
    rounds = range(max(1, decisions // CUSTOMERS))
    gate = asyncio.Semaphore(AT_ONCE)

    async def customer(case: Case) -> None:
        async with gate:
            await store.read(case.request.customer_id, None, TIMEOUT_S)
            for commit in commits_of(case, policy, partitions, rounds):
                await store.commit(commit, TIMEOUT_S)

    await asyncio.gather(*(customer(case) for case in cases(CUSTOMERS, 200)))
    description = policy.describe()
    await store.save_policy(policy.id, orjson.dumps(description), TIMEOUT_S)
    return len(rounds) * CUSTOMERS


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(url: str, folder: Path, partitions: int, rows: int, server_pid: int) -> dict[str, Any]:
    """One `archive run --once`."""
    settings = {"PARTITIONS": partitions, "ARCHIVE_SEGMENT_ROWS": rows}
    environment = os.environ | {f"DECISION_SERVICE_{name}": str(value) for name, value in settings.items()}
    command = [
        sys.executable, "-m", "decision_service", "archive", "run", "--once", "--json", "--redis-url", url, "--archive",
        str(folder),
    ]  # fmt: skip
    server_before, before = cpu_s(server_pid), os.times()
    began = time.monotonic()
    told = orjson.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "rows": told["rows"], "wall_s": time.monotonic() - began, "cpu_s": cpu,
        "server_cpu_s": cpu_s(server_pid) - server_before,
    }  # fmt: skip


@contextlib.contextmanager
def filled(directory: Path, policy: Policy, partitions: int, decisions: int) -> Iterator[tuple[str, int]]:
    """The URL and process id of a server that holds decisions nobody archived."""
    with EmbeddedServer(directory, fsync="everysec") as server:
        store = open_store(server.url, partitions=partitions, profile="fast")

        async def load() -> None:
            try:
                await fill(store, policy, partitions, decisions)
            finally:
                await store.close()

        asyncio.run(load())
        yield server.url, server.pid


def case_of(policy: Policy, partitions: int, rows: int, decisions: int) -> dict[str, Any]:
    """What archiving came to, with the cost of starting and of an archive of nothing taken out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with filled(folder / "data", policy, partitions, decisions) as (url, pid):
            found = measure(url, folder / "archive", partitions, rows, pid)
            idle = measure(url, folder / "archive", partitions, rows, pid)
        archive = Archive(folder / "archive")
        segments = archive.segments()
        size = sum(archive.size(segment.path) for segment in segments)
    spent = {name: found[name] - idle[name] for name in ("wall_s", "cpu_s", "server_cpu_s")}
    return {
        "partitions": partitions, "segment_rows": rows, "rows": found["rows"], "segments": len(segments),
        "bytes_a_row": size / found["rows"], "start_cpu_s": idle["cpu_s"],
        "rows_a_cpu_s": found["rows"] / spent["cpu_s"], "rows_a_s": found["rows"] / spent["wall_s"],
        "server_us_a_row": spent["server_cpu_s"] / found["rows"] * 1e6,
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=20_000)
    parser.add_argument("--partitions", type=int, nargs="+", default=[8, 256])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100], help="rows a segment has at most")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    policy, _ = load_policy(ROOT / "rules", ROOT / "models", "Asia/Shanghai", DAY_MS)
    found = []
    print("partitions  rows a segment  segments  rows/s of processor  rows/s by the wall  bytes/row  server us/row")
    for partitions in args.partitions:
        for rows in args.rows:
            one = case_of(policy, partitions, rows, args.decisions)
            found.append(one)
            print(
                f"{partitions:>10} {rows:>15,} {one['segments']:>9,} {one['rows_a_cpu_s']:>20,.0f} "
                f"{one['rows_a_s']:>19,.0f} {one['bytes_a_row']:>10,.0f} {one['server_us_a_row']:>14.0f}", flush=True,
            )  # fmt: skip
    if args.json:
        args.json.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()

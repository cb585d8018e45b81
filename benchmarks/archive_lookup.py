"""A decision by its id from an archive of 100 M rows, and a search in it: milliseconds, and what a service feels of it.

    python benchmarks/archive_lookup.py [--days 100] [--rows 100000000] [--files 3] [--asked 200] [--json] [--keep DIR]

The layout of ROWS rows over DAYS days and 256 partitions is made as the archive makes it, FILES files a day and
partition, with rows of the size that the shipped policy makes (VALUES numbers a decision). Only the partition that is
asked has its rows: a look-up opens nothing of the others, whose folders are there and empty.

    before    no compaction has been: the column `decision_id` of every file may have to be read
    after     every day compacted, with its index: as it is after a night

Told: whole decisions (with their frame), answers alone (what a retry needs), ids that nobody has, a customer's
decisions; as the median and the largest of ASKED drawn ids, each asked once, of the wall and of this process's CPU. The
first of each is told apart: nothing is in memory then. `loop` is how late an event loop that ticks every millisecond is
at most while the threads of `ArchivedDecisions` answer, beside how late it is at rest.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from decision_service.answer import answer_bytes
from decision_service.archive.archived_decisions import ArchivedDecisions
from decision_service.archive.chain import chained
from decision_service.archive.compaction import compact
from decision_service.archive.days import instant_of
from decision_service.archive.files import Archive
from decision_service.archive.lookup import Lookup
from decision_service.archive.rows import read_entry, row_of
from decision_service.archive.schema import Row
from decision_service.archive.search import Question, search
from decision_service.archive.segments import place_name, segment_path
from decision_service.archive.tables import parquet_of, table_of
from decision_service.core.decision import Decision, Score, Trace
from decision_service.core.event import Event
from decision_service.core.limits import DAY_MS
from decision_service.core.reasons import Reason
from decision_service.core.request import DecisionRequest
from decision_service.decision_log import encode
from decision_service.store.changes import Change, pack
from decision_service.store.keys import partition_of

PARTITIONS: Final = 256
VALUES: Final = 240  # numbers of a decision of the shipped policy's drawdown scene
CUSTOMERS: Final = 1_000  # of the partition
FIRST_DAY: Final = "2026-08-15"
CUSTOMER: Final = "c-1001"
PLACE: Final = partition_of(CUSTOMER, PARTITIONS)
TICK_S: Final = 0.001


def template(drawn: random.Random) -> Row:
    """The row of a decision as the service writes them."""
    body = orjson.dumps({
        "request_id": "dd-20261121-000017", "customer_id": CUSTOMER, "facility_id": "f-1001", "amount": 4990.00,
        "currency": "CNY", "occurred_at": "2026-11-21T03:12:09+08:00", "channel": "app", "device_id": "d-77",
        "counterparty_id": "m-310", "purpose": "consumption", "geo": {"lat": 31.23, "lon": 121.47, "accuracy_m": 20},
    })  # fmt: skip
    decision = Decision(
        f"d{PLACE:03x}" + "0" * 32, "dd-20261121-000017", CUSTOMER, "f-1001", "hold", 0, "CNY", "step_up",
        instant_of(FIRST_DAY), None, None, (), (), (), (Reason("RC10", "rule:odd_hour"), Reason("RC11", "rule:burst")),
        {"behaviour": Score(612, 0.0135, "C", "2026.11.1")}, "9f2c51d07a3b", "2026.11.1", "full", (),
        instant_of(FIRST_DAY),
    )  # fmt: skip
    request = DecisionRequest(
        "dd-20261121-000017", CUSTOMER, "f-1001", 499_000, "CNY", None, "app", "d-77", "m-310", None, None, None, None,
        b"f" * 16, body,
    )  # fmt: skip
    numbers = np.array([drawn.random() * 1_000 for _ in range(VALUES)]).tobytes()
    trace = Trace(numbers, ("app", "consumption", None), bytes(60), ("m:C/0.5",), 41, 6)
    frame = encode(decision, trace, request, answer_bytes(decision, 1_800), {"features": 120, "score": 40, "rules": 9})
    record = Event(key=7, kind=1, status=1, occurred_at_ms=1, amount_minor=499_000).pack()
    change = Change(CUSTOMER, 7, records=record, decision_id=decision.decision_id)
    return row_of(PLACE, read_entry(b"1-0", pack(change)), frame, lambda *_: ["odd_hour", "burst"])


class Layout:
    """The files of one partition, and the ids in them. Rows differ in id, customer, instant and numbers."""

    def __init__(self, archive: Archive, days: int, rows_a_file: int, files: int) -> None:
        self.archive = archive
        self.ids: list[str] = []
        self._rng = np.random.default_rng(7)
        drawn = random.Random(7)
        keys = [int(key) for key in self._rng.integers(-(2**62), 2**62, CUSTOMERS)]
        row = template(drawn)
        keys[0] = row.customer_key or 0
        rows = [row._replace(customer_key=keys[drawn.randrange(CUSTOMERS)]) for _ in range(rows_a_file)]
        self._table = table_of(chained(rows, 0, bytes(32)))
        self._hash, self._position = bytes(32), 0
        for day in range(days):
            for file in range(files):
                self._write(instant_of(FIRST_DAY) + day * DAY_MS + file * DAY_MS // files, DAY_MS // files)
            for place in range(PARTITIONS):
                folder = Path(archive.full(f"records/day={self.day(day)}/p={place_name(place)}"))
                folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def day(number: int) -> str:
        """A day as its folder has it."""
        from decision_service.archive.segments import day_of

        return day_of(instant_of(FIRST_DAY) + number * DAY_MS)

    def _write(self, at_ms: int, span_ms: int) -> None:
        count, rng = len(self._table), self._rng
        drawn = rng.bytes(32 * count)
        ids = [f"d{PLACE:03x}{drawn[16 * n : 16 * n + 16].hex()}" for n in range(count)]
        hashes = [drawn[32 * n : 32 * n + 32] for n in range(count)]
        numbers = rng.normal(1_000, 500, (count, VALUES)).round(2)
        first = self._position + 1
        columns: dict[str, Any] = {
            "position": np.arange(first, first + count), "decision_id": ids, "hash": hashes,
            "at_ms": at_ms + np.sort(rng.integers(0, span_ms, count)), "numbers": [one.tobytes() for one in numbers],
            "personal_sha": hashes[::-1], "salt": [one[:16] for one in hashes],
        }  # fmt: skip
        table = self._table
        for name, values in columns.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
        day = self.day((at_ms - instant_of(FIRST_DAY)) // DAY_MS)
        path = segment_path(PLACE, day, first, first + count - 1, "1", hashes[-1])
        self.archive.write(path, parquet_of(table, self._hash))
        self.ids += ids
        self._hash, self._position = hashes[-1], first + count - 1


def timed(work: Callable[[Any], object], asked: Sequence[Any], expected: bool) -> dict[str, float]:
    """Milliseconds of the first, and median and largest of the others; CPU of the median one."""
    wall, cpu = [], []
    for one in asked:
        began, began_cpu = time.perf_counter(), time.process_time()
        found = work(one)
        wall.append((time.perf_counter() - began) * 1e3)
        cpu.append((time.process_time() - began_cpu) * 1e3)
        if (found is not None) != expected:
            raise SystemExit(f"{one} was {'not ' if expected else ''}found")
    rest = sorted(wall[1:])
    return {
        "first_ms": wall[0], "p50_ms": statistics.median(rest), "p99_ms": rest[int(len(rest) * 0.99)],
        "max_ms": rest[-1], "cpu_ms": statistics.median(cpu[1:]),
    }  # fmt: skip


def measured(layout: Layout, asked: int, name: str) -> dict[str, dict[str, float]]:
    """Everything that is told of a layout in one state."""
    drawn = random.Random(11)
    ids = drawn.sample(layout.ids, asked)
    nobody = [f"d{PLACE:03x}{drawn.getrandbits(128):032x}" for _ in range(max(3, asked // 10))]
    lookup = Lookup(layout.archive)
    told = {
        f"decision, {name}": timed(lookup.decision, ids, expected=True),
        f"answer, {name}": timed(lookup.answer, ids, expected=True),
        f"unknown id, {name}": timed(lookup.answer, nobody, expected=False),
        f"a new worker, {name}": timed(lambda one: Lookup(layout.archive).decision(one), ids[:20], expected=True),
    }  # fmt: skip
    question = Question(customer_id=CUSTOMER, limit=50)
    told[f"search of a customer, {name}"] = timed(
        lambda _: search(layout.archive, question, PARTITIONS), range(5), expected=True
    )
    return told


async def lateness(archived: ArchivedDecisions | None, ids: Sequence[str]) -> dict[str, float]:
    """How late a loop that ticks is while decisions are looked up one after the other, two at a time."""
    late: list[float] = []
    stop = False

    async def tick() -> None:
        while not stop:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            late.append((time.perf_counter() - due) * 1e3)

    ticking = asyncio.create_task(tick())
    if archived is None:
        await asyncio.sleep(1.0)
    else:
        waiting = iter(ids)

        async def ask() -> None:
            for one in waiting:
                await archived.decision(one, 10.0)

        await asyncio.gather(ask(), ask())
    stop = True
    await ticking
    late.sort()
    return {"p50_ms": statistics.median(late), "p99_ms": late[int(len(late) * 0.99)], "max_ms": late[-1]}


def main() -> None:
    """Make, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--files", type=int, default=3)
    parser.add_argument("--asked", type=int, default=200)
    parser.add_argument("--before", type=int, default=10, help="ids asked before there is an index, which takes long")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp())
    try:
        rows_a_file = max(1, args.rows // PARTITIONS // args.days // args.files)
        print(f"making {args.days * args.files} files of {rows_a_file} rows", file=sys.stderr)
        layout = Layout(Archive(folder / "archive"), args.days, rows_a_file, args.files)
        told = measured(layout, args.before, "before")
        began, began_cpu = time.perf_counter(), time.process_time()
        now_ms = instant_of(FIRST_DAY) + args.days * DAY_MS
        (done,) = compact(layout.archive, [PLACE], now_ms, grace_ms=0)
        compacted = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - began_cpu}
        told |= measured(layout, args.asked, "after")
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(0.0005)  # as the service has it
        archived = ArchivedDecisions(lambda: layout.archive, PARTITIONS)
        archived.start()
        ids = random.Random(13).sample(layout.ids, args.asked)
        loop = {"rest": asyncio.run(lateness(None, ())), "looking up": asyncio.run(lateness(archived, ids))}
        archived.close()
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        summary = {
            "rows": len(layout.ids), "of_layout": args.rows, "days": args.days, "files": args.files,
            "bytes_a_row": size / len(layout.ids), "told": told, "compaction": compacted | done._asdict(), "loop": loop,
        }  # fmt: skip
        if args.json:
            print(json.dumps(summary))
            return
        print(f"{len(layout.ids):,} rows of the partition in {args.days} days, {size / len(layout.ids):.0f} bytes each")
        for name, one in told.items():
            print(f"{name:32} " + "  ".join(f"{key[:-3]} {value:8.2f}" for key, value in one.items()) + "  ms")
        print(f"compaction of the partition      {compacted['cpu_s']:.1f} s of CPU, {compacted['wall_s']:.1f} s")
        for name, late in loop.items():
            print(f"loop, {name:26} " + "  ".join(f"{key[:-3]} {value:8.2f}" for key, value in late.items()) + "  late")
    finally:
        if args.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

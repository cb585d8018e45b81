"""Files to import, and what stands in a store afterwards."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from decision_service.api.instants import format_instant
from decision_service.api.parse import Clock
from decision_service.core.limits import DAY_MS
from decision_service.imports.account import Account
from decision_service.imports.events import import_events
from decision_service.imports.links import LinksKept
from decision_service.imports.refused import RefusedRows
from decision_service.imports.terms import MEMORY_BYTES_MAX, Terms
from decision_service.recording import Retention
from decision_service.store import Store
from decision_service.store.memory import MemoryStore

NOW_MS = 1_795_000_000_000
CLOCK = Clock(NOW_MS, 300_000, 30 * DAY_MS)
KEEP = Retention(400 * DAY_MS, 4_096, 256)
LINKS = LinksKept(1_024, 400 * DAY_MS)
T = 30.0


def quiet(stage: str, done: int, total: int | None) -> None:
    """A watch that nobody looks at."""


def terms(store: Store, **changed: Any) -> Terms:
    """Terms of an import into a store."""
    given = {
        "clock": CLOCK, "retention": KEEP, "links_kept": LINKS, "watch": quiet, "again": False,
        "memory_bytes_max": MEMORY_BYTES_MAX,
    }  # fmt: skip
    return Terms(store, **(given | changed))


def event(number: int, customer: str = "c-1", *, at_ms: int | None = None, **more: Any) -> dict[str, Any]:
    """A row: a purchase, or what `more` makes of it."""
    row = {
        "customer_id": customer, "event_id": f"e-{number}", "kind": "purchase", "amount": "12.50",
        "occurred_at": format_instant(NOW_MS - DAY_MS + number if at_ms is None else at_ms),
    }  # fmt: skip
    return row | more


def history(rng: np.random.Generator, rows: int, customers: int, *, good: bool = False) -> list[dict[str, Any]]:
    """Events of many customers with devices and payees, among them repeated and labelling ones, and unless they are to
    be good, settlements of nothing and repetitions with another amount."""
    found: list[dict[str, Any]] = []
    for i in range(rows):
        customer = f"c-{int(rng.integers(customers)) ** 2 // customers}"  # a few have most of them
        at_ms = NOW_MS - 90 * DAY_MS + i * 1_000 - int(rng.integers(5_000))
        row = event(
            i, customer, at_ms=at_ms, recorded_at=format_instant(NOW_MS - 90 * DAY_MS + i * 1_000),
            device_id=f"d-{int(rng.integers(9))}", counterparty_id=f"m-{int(rng.integers(30))}",
        )  # fmt: skip
        draw = int(rng.integers(20))
        if draw == 0:
            row |= {"kind": "drawdown", "status": "approved", "decision_id": decision_id(i), "facility_id": "f-1"}
        elif draw == 1 and i > 40 and not good:
            row |= {"kind": "drawdown", "status": "booked", "decision_id": decision_id(i - 40), "amount": None}
        elif draw == 2 and found:
            about = found[int(rng.integers(len(found)))]
            row |= {"kind": "label", "category": "fraud", "amount": None, "about_event_id": about["event_id"],
                    "customer_id": about["customer_id"], "device_id": None, "counterparty_id": None}  # fmt: skip
        elif draw == 3 and found:
            row = dict(found[int(rng.integers(len(found)))])
        elif draw == 4 and found and not good:
            row = found[int(rng.integers(len(found)))] | {"amount": "99.99"}
        found.append(row)
    return found


def decision_id(number: int) -> str:
    """The id of a decision."""
    return f"d000{number:032x}"


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A file of rows, all cells texts."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    else:
        table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
        parquet.write_table(table, path, row_group_size=1_000)
    return path


async def imported(path: Path, store: Store, **changed: Any) -> Account:
    """Import a file of events."""
    with RefusedRows(None, shown_max=-1) as refused:
        return await import_events(path, terms(store, **changed), refused)


async def logs_of(store: Store, rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """The log of every customer of a file."""
    return {name: (await store.read(name, None, T)).log for name in sorted({row["customer_id"] for row in rows})}


def outbox_records(store: MemoryStore) -> dict[str, bytes]:
    """The records that went to the outbox, by customer."""
    found: dict[str, bytes] = {}
    for partition in range(store.partitions):
        for entry in store.outbox(partition):
            assert (entry[b"kind"], entry[b"origin"]) == (b"change", b"import")
            customer = entry[b"customer"].decode()
            found[customer] = found.get(customer, b"") + entry[b"records"]
    return found

"""What sample design needs of the recorded files: snapshots of credit lines, and the events that tell outcomes.

Drawdowns, repayments, overdue notices and labels of customers who have a facility are kept in memory, about 60 bytes
each; all other events are read past, for features are computed elsewhere (`asking`). Customers and facilities are
numbered from 0 in the order in which the file of facilities first names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.api.parse import Clock
from decision_service.build.reported import open_snapshots, read_lines
from decision_service.core.event import KINDS
from decision_service.core.limits import DAY_MS
from decision_service.tables.events import EventRows, open_events, read_events
from decision_service.tables.file import TableFile
from decision_service.train.fitted import NothingToLearn

Ints = npt.NDArray[np.int64]
Records = npt.NDArray[Any]

STATUSES: Final = ("active", "frozen", "closed")
DPD_UNKNOWN: Final = -1
NOBODY: Final = -1
_KINDS: Final = tuple(KINDS[name] for name in ("drawdown", "repayment", "overdue", "label"))
_AHEAD_MS: Final = 3_650 * DAY_MS  # files may reach beyond `until`; who is observed does not

SNAPSHOT: Final = np.dtype(
    [
        ("facility", "<i8"), ("customer", "<i8"), ("recorded_at_ms", "<i8"), ("as_of_ms", "<i8"),
        ("granted_at_ms", "<i8"), ("days_past_due", "<i8"), ("status", "<i8"), ("currency", "<i8"),
    ]
)  # fmt: skip
TOLD: Final = np.dtype(
    [
        ("customer", "<i8"), ("facility", "<i8"), ("at_ms", "<i8"), ("row", "<i8"), ("key", "<u8"), ("about", "<u8"),
        ("value", "<f8"), ("code", "<u4"), ("kind", "u1"), ("status", "u1"), ("flags", "u1"),
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recorded:
    """The files as far as sample design needs them. `events` are by customer and time; `facility` NOBODY is an event
    that names none. `from_ms` and `upto_ms` are the first and the last instant of any event."""

    customers: tuple[str, ...]
    facilities: tuple[str, ...]
    currencies: tuple[str, ...]
    owner: Ints  # of each facility, a customer
    snapshots: Records  # by facility and when they were recorded
    events: Records
    from_ms: int
    upto_ms: int
    left_out: dict[str, int]


def wide_clock(until_ms: int) -> Clock:
    """The clock that reads files: it depends on the training file, never on today."""
    return Clock(until_ms, _AHEAD_MS, 0)


def read_recorded(events: Path, facilities: Path, until_ms: int, say: Callable[[str], None]) -> Recorded:
    """Read both files. Raises InvalidInput for files, NothingToLearn for empty ones."""
    reading = _Reading(wide_clock(until_ms))
    reading.read_snapshots(open_snapshots(facilities))
    parts = list(reading.read_events(open_events(events)))
    if not reading.snapshots or reading.from_ms is None:
        raise NothingToLearn(f"{(facilities if not reading.snapshots else events).name} has no rows that can be read")
    snapshots = np.array(reading.snapshots, SNAPSHOT)
    told = np.concatenate(parts) if parts else np.zeros(0, TOLD)
    say(f"{len(reading.customers):,} customers, {reading.events:,} events, {len(snapshots):,} snapshots of facilities")
    return Recorded(
        tuple(reading.customers), tuple(reading.facilities), tuple(reading.currencies),
        np.array(list(reading.owner.values()), np.int64),
        snapshots[np.lexsort((snapshots["as_of_ms"], snapshots["recorded_at_ms"], snapshots["facility"]))],
        told[np.lexsort((told["row"], told["at_ms"], told["customer"]))], reading.from_ms, reading.upto_ms,
        {name: count for name, count in reading.left_out.items() if count},
    )  # fmt: skip


class _Reading:
    """Both files on their way into numbers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.customers: dict[str, int] = {}
        self.facilities: dict[str, int] = {}
        self.currencies: dict[str, int] = {}
        self.owner: dict[int, int] = {}
        self.snapshots: list[tuple[int, ...]] = []
        self.events = 0
        self.from_ms: int | None = None
        self.upto_ms = 0
        self.left_out = {"events": 0, "facilities": 0}

    def read_snapshots(self, file: TableFile) -> None:
        for lines, bad in read_lines(file, self._clock):
            self.left_out["facilities"] += len(bad)
            for _, line, recorded_at_ms in lines:
                facility = self.facilities.setdefault(line.facility_id, len(self.facilities))
                customer = self.customers.setdefault(line.customer_id, len(self.customers))
                dpd = DPD_UNKNOWN if line.days_past_due is None else line.days_past_due
                currency = self.currencies.setdefault(line.currency, len(self.currencies))
                self.owner[facility] = customer
                self.snapshots.append(
                    (facility, customer, recorded_at_ms, line.as_of_ms, line.granted_at_ms, dpd,
                     STATUSES.index(line.status), currency)
                )  # fmt: skip

    def read_events(self, file: TableFile) -> Iterator[Records]:
        for batch in read_events(file, self._clock, decided=True):
            rows = batch.events
            self.events += len(rows)
            self.left_out["events"] += len(batch.bad)
            if len(rows):
                at_ms = rows.records["occurred_at_ms"]
                first = int(at_ms.min())
                self.from_ms = first if self.from_ms is None else min(first, self.from_ms)
                self.upto_ms = max(self.upto_ms, int(at_ms.max()))
            yield self._told(rows)

    def _told(self, rows: EventRows) -> Records:
        customer = rows.customer.mapped(lambda text: self.customers.get(text, NOBODY), np.int64)
        kept = np.isin(rows.records["kind"], _KINDS) & (customer != NOBODY)
        records, told = rows.records[kept], np.zeros(int(kept.sum()), TOLD)
        facility = rows.facility.mapped(lambda text: self.facilities.get(text, NOBODY), np.int64)
        told["customer"], told["row"] = customer[kept], rows.row[kept]
        told["facility"] = np.where(rows.facility.present, facility, NOBODY)[kept]
        told["at_ms"], told["about"] = records["occurred_at_ms"], records["counterparty"]
        for name in ("key", "value", "code", "kind", "status", "flags"):
            told[name] = records[name]
        return told

"""What became of the customers: outcomes from a file, or from the events in the archive itself.

A file is Parquet with `decision_id`, or with `customer_id` and `date` (the UTC day of the decision), and beside it
`bad` (true or 1, false or 0, null for unknown) and perhaps `loss` in major units of the decision's currency.

In the archive an outcome is what `watch.outcomes` calls one, told of the customer: within a target's window after the
decision instant an `overdue` event of so many days, or a `label`, makes it bad; a window that is over without one makes
it good; all others are unknown, early bad ones too: among decisions that have not matured only bad ones are known.

What was never paid out has no outcome of its own: what the customer did otherwise stands in for it. A report says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from decision_service.backtest.batch import Ints
from decision_service.backtest.facts import UNKNOWN_OUTCOME
from decision_service.core.errors import InvalidInput
from decision_service.core.event import CANCELLED, FAILED, KINDS, LABEL, RECORD, code_key
from decision_service.core.expressions.columns import Floats
from decision_service.core.limits import DAY_MS, RECORD_BYTES
from decision_service.core.links import customer_key
from decision_service.core.scorecards.manifest import Target

if TYPE_CHECKING:
    import pyarrow as pa

_OVERDUE: Final = KINDS["overdue"]
_SPAN_MS: Final = 1 << 44  # more than any instant: customers' events stand so far apart on one line
Bad = npt.NDArray[np.int8]


class Asked(NamedTuple):
    """Whose outcome is asked for."""

    ids: Any
    customer_keys: Ints
    t_ms: Ints


class Outcomes(Protocol):
    """Where outcomes come from."""

    def of(self, asked: Asked) -> tuple[Bad, Floats]:
        """`(bad, loss)` of each decision; UNKNOWN_OUTCOME and NaN where nothing is known."""


class NoOutcomes:
    """Nothing is known."""

    def of(self, asked: Asked) -> tuple[Bad, Floats]:
        """See `Outcomes`."""
        n = len(asked.t_ms)
        return np.full(n, UNKNOWN_OUTCOME, np.int8), np.full(n, np.nan)


class OutcomesFile:
    """Outcomes of a Parquet file. InvalidInput naming the column."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise InvalidInput("outcomes", f"{path.name} cannot be read: {str(error).splitlines()[0]}") from None
        self._by_id = "decision_id" in table.column_names
        needed = ("decision_id",) if self._by_id else ("customer_id", "date")
        for name in (*needed, "bad"):
            if name not in table.column_names:
                expected = "decision_id (or customer_id and date), bad, and perhaps loss"
                raise InvalidInput("outcomes", f"{path.name} has no column {name}: {expected}")
        self._bad = _flags(table["bad"])
        self._loss = _numbers(table["loss"]) if "loss" in table.column_names else np.full(len(self._bad), np.nan)
        self._ids = table["decision_id"].combine_chunks().cast(pa.string()) if self._by_id else None
        self._keys = np.zeros(0, np.int64)
        if not self._by_id:
            self._keys, self._days, self._order = _keyed(table)

    def of(self, asked: Asked) -> tuple[Bad, Floats]:
        """See `Outcomes`."""
        found = self._rows_by_id(asked.ids) if self._by_id else self._rows_by_day(asked)
        there = found >= 0
        at = np.maximum(found, 0)
        if not len(self._bad):
            return NoOutcomes().of(asked)
        bad = np.where(there, self._bad[at], UNKNOWN_OUTCOME).astype(np.int8)
        return bad, np.where(there, self._loss[at], np.nan)

    def _rows_by_id(self, ids: Any) -> Ints:
        import pyarrow.compute as pc

        found = pc.fill_null(pc.index_in(ids, value_set=self._ids), -1)
        return np.asarray(found.to_numpy(zero_copy_only=False)).astype(np.int64)

    def _rows_by_day(self, asked: Asked) -> Ints:
        days = asked.t_ms // DAY_MS
        mixed = _mixed(asked.customer_keys, days)
        if not len(self._keys):
            return np.full(len(days), -1)
        at = np.minimum(np.searchsorted(_mixed(self._keys, self._days), mixed), len(self._keys) - 1)
        same = (self._keys[at] == asked.customer_keys) & (self._days[at] == days)
        return np.where(same, self._order[at], -1)


class ArchivedOutcomes:
    """Outcomes by the events of one place, known up to an instant."""

    def __init__(self, tables: pa.Table, target: Target, by_ms: int) -> None:
        records, customers = _recorded(tables)
        bad = _is_bad(records, target) & (records["status"] != FAILED) & (records["status"] != CANCELLED)
        at_ms, owners = records["occurred_at_ms"][bad].astype(np.int64), customers[bad]
        self._owners = np.unique(owners)
        self._line = np.sort(np.searchsorted(self._owners, owners) * _SPAN_MS + np.clip(at_ms, 0, _SPAN_MS - 1))
        self._window_ms, self._by_ms = target.performance_d * DAY_MS, by_ms

    def of(self, asked: Asked) -> tuple[Bad, Floats]:
        """See `Outcomes`."""
        n = len(asked.t_ms)
        ends = asked.t_ms + self._window_ms
        matured = ends <= self._by_ms
        bad = np.zeros(n, np.bool_)
        if len(self._owners):
            owner = np.minimum(np.searchsorted(self._owners, asked.customer_keys), len(self._owners) - 1)
            first = np.searchsorted(self._line, owner * _SPAN_MS + asked.t_ms, side="right")
            last = np.searchsorted(self._line, owner * _SPAN_MS + ends, side="right")
            bad = (self._owners[owner] == asked.customer_keys) & (last > first)
        found = np.where(matured, bad.astype(np.int8), np.int8(UNKNOWN_OUTCOME)).astype(np.int8)
        return found, np.full(n, np.nan)


OUTCOME_COLUMNS: Final = ("customer_key", "records")


def _recorded(table: pa.Table) -> tuple[npt.NDArray[Any], Ints]:
    """All records of a table, and whose each is."""
    import pyarrow.compute as pc

    table = table.filter(pc.and_(pc.is_valid(table["records"]), pc.is_valid(table["customer_key"])))
    column = table["records"].combine_chunks()
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    counts = np.diff(offsets) // RECORD_BYTES
    total = int(counts.sum())
    if not total:
        return np.zeros(0, RECORD), np.zeros(0, np.int64)
    records = np.frombuffer(column.buffers()[2], RECORD, total, int(offsets[0]))
    return records, np.repeat(table["customer_key"].to_numpy(), counts)


def _is_bad(records: npt.NDArray[Any], target: Target) -> npt.NDArray[np.bool_]:
    if target.bad_dpd is not None:
        return np.asarray((records["kind"] == _OVERDUE) & (records["value"] >= target.bad_dpd))
    assert target.label is not None, "a target is of days past due or of a label"
    return np.asarray((records["kind"] == LABEL) & (records["code"] == code_key(target.label)))


def _flags(column: Any) -> Bad:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        whole = pc.cast(column, pa.int8())
    except pa.ArrowException:
        raise InvalidInput("outcomes", "bad: true or false, or 1 or 0, is expected") from None
    found = np.asarray(pc.fill_null(whole, UNKNOWN_OUTCOME).to_numpy()).astype(np.int8)
    if (found > 1).any() or (found < UNKNOWN_OUTCOME).any():
        raise InvalidInput("outcomes", "bad: true or false, or 1 or 0, is expected")
    return found


def _numbers(column: Any) -> Floats:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return np.asarray(pc.cast(column, pa.float64()).to_numpy(), np.float64)
    except pa.ArrowException:
        raise InvalidInput("outcomes", "loss: a number in major units is expected") from None


def _keyed(table: pa.Table) -> tuple[Ints, Ints, Ints]:
    """Customer keys and days, in the order in which they are searched, and the row of each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = np.array([_signed(customer_key(str(name))) for name in table["customer_id"].to_pylist()], np.int64)
    try:
        days = np.asarray(pc.cast(pc.cast(table["date"], pa.date32()), pa.int32()).to_numpy()).astype(np.int64)
    except pa.ArrowException:
        raise InvalidInput("outcomes", "date: a day such as 2026-11-22 is expected") from None
    order = np.argsort(_mixed(keys, days), kind="stable")
    return keys[order], days[order], order


def _mixed(keys: Ints, days: Ints) -> Ints:
    with np.errstate(over="ignore"):
        return keys * np.int64(1_000_003) + days


def _signed(key: int) -> int:
    return key - (1 << 64) if key >> 63 else key

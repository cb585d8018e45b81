"""The event logs of a place's customers as every decision saw them, rebuilt in one go from the rows of the archive.

`archive.histories` rebuilds whole states, one row after another; features need the log alone, and that is arithmetic:

    records of a customer, in chain order      r0 r1 r2 | r3 | r4 r5 | ...        one row of the archive between bars
    the log that the row at position p saw     [header] r_base ... r_end          end: records of the rows before p
                                                                                  base: told by the last header before p

Every commit leaves one row with the version it made, so a customer's rows must count 1, 2, 3, ... Where they do not (a
store restored from a backup, a history from before the archive, an erased row) the customer is not `sound`, and
whoever asks goes through `histories`, which knows what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.backtest.batch import Ints
from decision_service.core.event import EMPTY_LOG, Words, words_of
from decision_service.core.expressions.columns import Mask
from decision_service.core.limits import RECORD_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS: Final = ("position", "customer_key", "version", "records", "header", "erased_at_ms")
_WORDS: Final = RECORD_BYTES // 8


class PlaceLogs:
    """The logs behind the rows of a table of COLUMNS: all rows of one place up to the last that is asked about."""

    def __init__(self, table: pa.Table) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        table = table.filter(pc.is_valid(table["version"]))
        keys, positions = _ints(table["customer_key"]), _ints(table["position"])
        order = np.lexsort((positions, keys))
        taken = pa.array(order)
        self._positions = positions[order]
        keys, versions = keys[order], _ints(table["version"])[order]
        erased = np.asarray(pc.is_valid(table["erased_at_ms"]).combine_chunks().to_numpy(zero_copy_only=False))[order]
        starts = np.ones(len(keys), np.bool_)
        starts[1:] = keys[1:] != keys[:-1]
        self._customer = np.cumsum(starts) - 1
        self._first_row = np.flatnonzero(starts)[self._customer] if len(keys) else np.zeros(0, np.int64)
        self._sound = self._is_sound(versions, erased)
        self._records, counts = _records(table["records"].combine_chunks().take(taken))
        ends = np.cumsum(counts)
        self._before = ends - counts  # records of all rows before this one
        self._first_record = self._before[self._first_row] if len(keys) else ends
        self._header_row = self._headers_before(table["header"].combine_chunks().take(taken))
        self._row_of = np.argsort(self._positions)

    def _is_sound(self, versions: Ints, erased: Mask) -> Mask:
        """Whether the rows up to each, and it, count 1, 2, 3, ..., and none of them was erased."""
        wrong = (versions != np.arange(len(versions)) - self._first_row + 1) | erased
        before = np.cumsum(wrong) - wrong
        sound: Mask = ~wrong & (before == before[self._first_row])
        return sound

    def _headers_before(self, headers: Any) -> Ints:
        """For each row the latest earlier row of its customer whose commit trimmed the log, -1 for none."""
        self._headers = headers
        rows = np.arange(len(headers))
        valid = np.asarray(headers.is_valid().to_numpy(zero_copy_only=False))
        latest = np.maximum.accumulate(np.where(valid, rows, -1)) if len(headers) else rows
        before = np.concatenate(([-1], latest[:-1])).astype(np.int64) if len(headers) else latest
        return np.where(before >= self._first_row, before, -1)

    def rows_at(self, positions: Ints) -> tuple[Ints, Mask]:
        """`(row, sound)` of each position."""
        at = np.searchsorted(self._positions, positions, sorter=self._row_of)
        rows = self._row_of[np.minimum(at, len(self._row_of) - 1)] if len(self._row_of) else at
        known = self._positions[rows] == positions if len(self._row_of) else np.zeros(len(at), np.bool_)
        return rows, known & self._sound[rows] if len(self._row_of) else known

    def words(self, rows: Ints) -> tuple[Words, Ints, Ints]:
        """`(words, starts, ends)` as `FeaturePlan.compute_many` takes them: what the rows saw, `rows` ascending.

        Rows of one customer under one header share a copy.
        """
        headers = self._header_row[rows]
        fresh = np.ones(len(rows), np.bool_)
        fresh[1:] = (self._customer[rows[1:]] != self._customer[rows[:-1]]) | (headers[1:] != headers[:-1])
        group = np.cumsum(fresh) - 1
        heads = np.flatnonzero(fresh)
        tops = self._header_words(headers[heads])
        froms = self._first_record[rows[heads]] + tops[:, 1]
        lasts = np.append(heads[1:], len(rows)) - 1
        lengths = self._before[rows[lasts]] - froms
        starts = np.cumsum(lengths + 1) - (lengths + 1)
        out = np.empty((int((lengths + 1).sum()), _WORDS), np.int64)
        out[starts] = tops
        body = np.ones(len(out), np.bool_)
        body[starts] = False
        shift = np.repeat(froms - starts - 1, lengths + 1)
        out[body] = self._records[(np.arange(len(out)) + shift)[body]]
        ends = starts[group] + 1 + self._before[rows] - froms[group]
        return out, starts[group], ends

    def _header_words(self, header_rows: Ints) -> npt.NDArray[np.int64]:
        """The header of each group's log; that of an empty log where nothing was trimmed yet."""
        tops = np.tile(words_of(EMPTY_LOG)[0], (len(header_rows), 1))
        for i in np.flatnonzero(header_rows >= 0).tolist():
            tops[i] = words_of(self._headers[int(header_rows[i])].as_py())[0]
        return tops


def _ints(column: Any) -> Ints:
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(column, 0).to_numpy()).astype(np.int64, copy=False)


def _records(column: Any) -> tuple[Words, Ints]:
    """All records one after the other, and how many each row appended."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    counts = np.diff(offsets).astype(np.int64) // RECORD_BYTES
    if not counts.sum():
        return np.empty((0, _WORDS), np.int64), counts
    held = np.frombuffer(column.buffers()[2], np.int64, int(counts.sum()) * _WORDS, int(offsets[0]))
    return held.reshape(-1, _WORDS), counts

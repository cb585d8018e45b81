"""A decision table over many decisions: what `table_code` does, with 64 rows a word in place of long numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.expressions.columns import Columns
from decision_service.core.expressions.vector import VectorCompiler
from decision_service.core.rules.regions import Regions, Truth
from decision_service.core.rules.table_spec import TableInput, TableSpec
from decision_service.core.vocabulary import Kind

Words = npt.NDArray[np.uint64]  # [regions or decisions, words]
Instants = npt.NDArray[np.int64]
RegionFunction = Callable[[Columns, Regions], npt.NDArray[np.int64]]
CANNOT_TELL: Final = -1
_WORD: Final = 64


class VectorTable:
    """One table, for columns."""

    def __init__(self, table: TableSpec, compiler: VectorCompiler) -> None:
        self._table = table
        self._find = tuple(_finder(given, compiler) for given in table.inputs)
        self._starts = np.array(table.eras_ms, np.int64)
        before_all = min(table.eras_ms, default=0) - 1
        self._eras = tuple(
            tuple((regions, _words(regions.true), _words(regions.possible)) for regions in table.regions_at(t_ms))
            for t_ms in (before_all, *table.eras_ms)
        )

    def first(self, columns: Columns, t_ms: Instants) -> npt.NDArray[np.int32]:
        """The label each decision hits, CANNOT_TELL for unknown."""
        true, possible = self._met(columns, t_ms)
        rows = len(self._table.rows)
        found = np.full(columns.count, rows if self._table.otherwise is not None else CANNOT_TELL, np.int32)
        for word in reversed(range(true.shape[1])):
            some = possible[:, word]
            lowest = some & (~some + np.uint64(1))
            number = np.frexp(lowest.astype(np.float64))[1] - 1 + word * _WORD
            answer = np.where(true[:, word] & lowest != 0, number, CANNOT_TELL)
            found = np.where(some != 0, answer, found).astype(np.int32)
        return found

    def every(self, columns: Columns, t_ms: Instants) -> Truth:
        """bool[labels and unknown, n]: what each decision hits."""
        true, possible = self._met(columns, t_ms)
        rows = len(self._table.rows)
        hits = np.zeros((len(self._table.labels) + 1, columns.count), np.bool_)
        hits[:rows] = np.unpackbits(true.view(np.uint8), axis=1, bitorder="little")[:, :rows].T
        hits[rows] = ~possible.any(axis=1)  # `otherwise`, or unknown where that is the last label
        hits[-1] |= (possible & ~true).any(axis=1)
        return hits

    def _met(self, columns: Columns, t_ms: Instants) -> tuple[Words, Words]:
        """The rows that are true, and those not definitely false, of every decision."""
        era = np.searchsorted(self._starts, t_ms, side="right")
        if not len(era) or (era == era[0]).all():
            return self._met_in(int(era[0]) if len(era) else 0, columns)
        met = [self._met_in(number, columns) for number in range(len(self._eras))]
        each = np.arange(columns.count)
        return (np.stack([true for true, _ in met])[era, each], np.stack([some for _, some in met])[era, each])

    def _met_in(self, era: int, columns: Columns) -> tuple[Words, Words]:
        inputs = self._eras[era]
        true = np.full((columns.count, inputs[0][1].shape[1]), ~np.uint64(0))
        possible = true.copy()
        for find, (regions, rows_true, rows_possible) in zip(self._find, inputs, strict=True):
            place = find(columns, regions)
            true &= rows_true[place]
            possible &= rows_possible[place]
        return true, possible


def _words(truth: Truth) -> Words:
    """For each region the rows, 64 a word."""
    rows, regions = truth.shape
    padded = np.zeros((regions, -(-rows // _WORD) * _WORD), np.bool_)
    padded[:, :rows] = truth.T
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64)


def _finder(given: TableInput, compiler: VectorCompiler) -> RegionFunction:
    """The region of every decision's value."""
    if given.tree.kind is Kind.STRING:
        text = compiler.text_of(given.tree)

        def of_text(columns: Columns, regions: Regions) -> npt.NDArray[np.int64]:
            texts = text(columns)
            table = np.array([*(regions.places.get(v, regions.other) for v in texts.values), regions.null], np.int64)
            return table[texts.codes]

        return of_text
    value = compiler.value_of(given.tree)

    def of_number(columns: Columns, regions: Regions) -> npt.NDArray[np.int64]:
        x = value(columns)
        return np.where(x == x, np.searchsorted(np.array(regions.ends), x, side="left"), regions.null)

    return of_number

"""A rule set over many decisions at once: the verdicts and cells that `codegen` gives for one, as columns.

What a backtest asks of a policy: which rules fire, which stay silent, which cannot tell, and what each block hits.
Effects are not merged here: an amount computed by a rule belongs to the one decision it is merged in.

    verdicts  uint8[rules, n]    codes of `codegen`: SILENT, FIRED, UNKNOWN_SKIPPED, UNKNOWN_FIRED, UNKNOWN_HELD
    cells     int32[blocks, n]   number of the label hit (of `block.labels`), -1 where the block cannot tell
    hits      bool[labels, n]    of every `all` table instead (its row of `cells` is all -1), the last one for unknown

Equal to the single function, verdict by verdict, but for two things that only exist one decision at a time: an effect
whose computed amount is null (UNKNOWN_HELD there, FIRED here) and a rule that goes wrong (WENT_WRONG there).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.expressions.columns import Columns, Floats, Texts, chunks
from decision_service.core.expressions.vector import ConditionFunction, VectorCompiler
from decision_service.core.rules.codegen import FIRED, SILENT, UNKNOWN_FIRED, UNKNOWN_HELD, UNKNOWN_SKIPPED
from decision_service.core.rules.points_code import VectorPoints
from decision_service.core.rules.rule_set import RuleSetSpec
from decision_service.core.rules.spec import Axis, DatedConstant, MatrixSpec
from decision_service.core.rules.table_columns import CANNOT_TELL, VectorTable
from decision_service.core.rules.tree_columns import tree_cells
from decision_service.core.vocabulary import Kind, Layout

Verdicts = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.int32]
Hits = npt.NDArray[np.bool_]
Instants = npt.NDArray[np.int64]
CellFunction = Callable[[Columns, Instants], Cells]
_AxisFunction = Callable[[Columns], npt.NDArray[np.int64]]
_UNKNOWN: Final[Mapping[str, int]] = {"fire": UNKNOWN_FIRED, "skip": UNKNOWN_SKIPPED}


@dataclass(frozen=True, slots=True)
class Judged:
    """What a rule set says about many decisions; `hits` by the id of the table."""

    verdicts: Verdicts
    cells: Cells
    hits: Mapping[str, Hits]


class VectorRuleSet:
    """One rule set over one layout, for columns."""

    def __init__(self, spec: RuleSetSpec, layout: Layout) -> None:
        self._dated = spec.dated
        self._layout = layout
        compiler = VectorCompiler(layout, [dated.name for dated in spec.dated])
        self._rules = tuple((compiler.condition(r.when), _UNKNOWN.get(r.on_null, UNKNOWN_HELD)) for r in spec.rules)
        self._points = VectorPoints(spec.points, compiler, layout)
        tables = [(table, VectorTable(table, compiler)) for table in spec.tables]
        self._blocks: list[CellFunction] = [self._matrix(matrix) for matrix in spec.matrices]
        self._blocks += [vector.first if table.hit == "first" else _nothing_hit for table, vector in tables]
        self._blocks += [tree_cells(tree, compiler) for tree in spec.trees]
        self._every = {t.id: (vector, len(t.labels) + 1) for t, vector in tables if t.hit == "all"}

    def judge(self, columns: Columns, t_ms: Instants) -> Judged:
        """What every decision comes to; `t_ms` int64[n] are their instants."""
        columns = replace(columns, named={dated.name: values_at(dated, t_ms) for dated in self._dated})
        judged = Judged(
            np.empty((len(self._rules), columns.count), np.uint8),
            np.empty((len(self._blocks), columns.count), np.int32),
            {name: np.empty((width, columns.count), np.bool_) for name, (_, width) in self._every.items()},
        )
        start = 0
        with np.errstate(all="ignore"):  # what overflows or has no value is null, which is no reason for a warning
            for part in chunks(columns):
                stop = start + part.count
                self._judge(self._points.filled(part), t_ms[start:stop], slice(start, stop), judged)
                start = stop
        return judged

    def _judge(self, part: Columns, t_ms: Instants, where: slice, judged: Judged) -> None:
        for index, (condition, unknown) in enumerate(self._rules):
            _verdict(condition, unknown, part, judged.verdicts[index, where])
        for index, block in enumerate(self._blocks):
            judged.cells[index, where] = block(part, t_ms)
        for name, (table, _) in self._every.items():
            judged.hits[name][:, where] = table.every(part, t_ms)

    def _matrix(self, matrix: MatrixSpec) -> CellFunction:
        row, column, width = self._axis(matrix.rows), self._axis(matrix.columns), len(matrix.columns.labels)

        def cell(columns: Columns, _t_ms: Instants) -> Cells:
            r, c = row(columns), column(columns)
            return np.where((r < 0) | (c < 0), CANNOT_TELL, r * width + c).astype(np.int32)

        return cell

    def _axis(self, axis: Axis) -> _AxisFunction:
        """The position on an axis, negative for none."""
        null = len(axis.values) if axis.has_null else -1
        if axis.name.kind is Kind.STRING:
            slot = self._layout.strings[axis.name.name]
            places = {str(value): position for position, value in enumerate(axis.values)}
            return lambda columns: _text_position(columns.strings[slot], places, null)
        number = self._layout.numbers[axis.name.name]
        edges = np.array([float(value) for value in axis.values], np.float64)
        find = _range_position if axis.ranged else _value_position
        return lambda columns: find(columns.numbers[number], edges, null)


def _nothing_hit(columns: Columns, _t_ms: Instants) -> Cells:
    """The row of `cells` of a table whose `hits` say what it comes to."""
    return np.full(columns.count, CANNOT_TELL, np.int32)


def values_at(dated: DatedConstant, t_ms: Instants) -> Floats:
    """The value in force at each instant, NaN before the first."""
    values = np.array([np.nan, *dated.values])
    return values[np.searchsorted(np.array(dated.starts_ms, np.int64), t_ms, side="right")]


def _verdict(condition: ConditionFunction, unknown: int, part: Columns, out: Verdicts) -> None:
    """`unknown`, or FIRED where definitely true, or SILENT where definitely false: sums of bytes, since picking by a
    mask costs a mispredicted branch a decision."""
    true, false = condition(part)
    np.multiply(true.view(np.uint8), np.uint8((FIRED - unknown) % 256), out=out)
    out -= false.view(np.uint8) * np.uint8((unknown - SILENT) % 256)
    out += np.uint8(unknown)


def _text_position(texts: Texts, places: Mapping[str, int], null: int) -> npt.NDArray[np.int64]:
    table = np.array([*(places.get(value, -1) for value in texts.values), null], np.int64)
    return table[texts.codes]


def _range_position(x: Floats, edges: Floats, null: int) -> npt.NDArray[np.int64]:
    found = np.searchsorted(edges, x, side="left")
    return np.where(x == x, found, null)


def _value_position(x: Floats, values: Floats, null: int) -> npt.NDArray[np.int64]:
    order = np.argsort(values)
    near = np.minimum(np.searchsorted(values[order], x), len(values) - 1)
    found = np.where(values[order][near] == x, order[near], -1)
    return np.where(x == x, found, null)

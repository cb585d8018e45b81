"""A rule set over many decisions at once: the verdicts and cells that `codegen` gives for one, as columns.

What a backtest asks of a policy: which rules fire, which stay silent, which cannot tell, and which cell of each matrix
is hit. Effects are not merged here: an amount computed by a rule belongs to the one decision it is merged in.

    verdicts  uint8[rules, n]    codes of `codegen`: SILENT, FIRED, UNKNOWN_SKIPPED, UNKNOWN_FIRED, UNKNOWN_HELD
    cells     int32[matrices, n] row * columns + column, -1 where the matrix cannot tell

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
from decision_service.core.rules.spec import Axis, DatedConstant, RuleSetSpec
from decision_service.core.vocabulary import Kind, Layout

Verdicts = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.int32]
Instants = npt.NDArray[np.int64]
_AxisFunction = Callable[[Columns], npt.NDArray[np.int64]]
_UNKNOWN: Final[Mapping[str, int]] = {"fire": UNKNOWN_FIRED, "skip": UNKNOWN_SKIPPED}


@dataclass(frozen=True, slots=True)
class Judged:
    """What a rule set says about many decisions."""

    verdicts: Verdicts
    cells: Cells


class VectorRuleSet:
    """One rule set over one layout, for columns."""

    def __init__(self, spec: RuleSetSpec, layout: Layout) -> None:
        self._dated = spec.dated
        self._layout = layout
        compiler = VectorCompiler(layout, [dated.name for dated in spec.dated])
        self._rules = tuple((compiler.condition(r.when), _UNKNOWN.get(r.on_null, UNKNOWN_HELD)) for r in spec.rules)
        self._matrices = tuple(
            (self._axis(m.rows), self._axis(m.columns), len(m.columns.labels)) for m in spec.matrices
        )

    def judge(self, columns: Columns, t_ms: Instants) -> Judged:
        """Verdicts and cells of every decision; `t_ms` int64[n] are their instants."""
        columns = replace(columns, named={dated.name: values_at(dated, t_ms) for dated in self._dated})
        verdicts = np.empty((len(self._rules), columns.count), np.uint8)
        cells = np.empty((len(self._matrices), columns.count), np.int32)
        start = 0
        with np.errstate(all="ignore"):  # what overflows or has no value is null, which is no reason for a warning
            for part in chunks(columns):
                stop = start + part.count
                for index, (condition, unknown) in enumerate(self._rules):
                    _verdict(condition, unknown, part, verdicts[index, start:stop])
                for index, (row, column, width) in enumerate(self._matrices):
                    r, c = row(part), column(part)
                    cells[index, start:stop] = np.where((r < 0) | (c < 0), -1, r * width + c)
                start = stop
        return Judged(verdicts, cells)

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

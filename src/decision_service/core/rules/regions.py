"""What a table's cells can tell apart: the values of every input cut into regions, and the search over their products.

    cells of one input       <= 0      > 0 and <= 30      60      null
    regions                  up to 0 | up to 30 | up to just below 60 | 60 | above | null

Between two neighbouring bounds every value makes every cell equally true, so one sample stands for its region. Numbers
are cut exactly: the region that ends just below 60 ends at the double before it. Texts are cut into the named ones and
one for all others, which has no sample text of its own.

Whether rows leave a gap, whether a row can be reached and whether two rows meet is one question: is there a point of a
box (a set of regions for each input) that no row of a list covers? `Search` answers it by cutting the box along the
rows that meet it: what a row leaves over is at most one smaller box an input. The work is counted and bounded, because
the question is as hard as any (it is satisfiability), though tables that people write are easy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.rules.cells import Bound, Cell
from decision_service.core.vocabulary import Kind

Truth = npt.NDArray[np.bool_]  # [rows, regions]
Box = tuple[int, ...]  # for each input the set of its regions, as bits
_CHOICE: Final = 12  # rows among which the one that covers most of a box is looked for
_ROWS_A_LOOK: Final = 8  # rows compared with a box that count as one more region looked at
_FLAGS: Final = (0.0, 1.0)
_COMPARE: Final[Mapping[str, np.ufunc]] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of one input, the unknown value last.

    `samples[i]` is a value of region i: a float (NaN is null), or a text, None in the region of other texts and in that
    of null. `ends` are the last numbers of the regions of numbers but the highest; `places` the regions of texts.
    `true` and `possible` [rows, regions]: whether a row's cell is definitely true, and whether it is not definitely
    false. `real` [regions]: whether a value can be in it.
    """

    samples: tuple[float | str | None, ...]
    ends: tuple[float, ...]
    places: Mapping[str, int]
    true: Truth
    possible: Truth
    real: Truth

    @property
    def null(self) -> int:
        """The region of the unknown value."""
        return len(self.samples) - 1

    @property
    def other(self) -> int:
        """The region of texts that no cell names."""
        return len(self.samples) - 2


def regions_of(
    cells: Sequence[Cell], kind: Kind, null_is_value: bool, nullable: bool, values: Sequence[str], t_ms: int
) -> Regions:
    """The regions of one input, by the cells of all rows at an instant (dated bounds are what they are then).

    `values` are all texts the input can have, empty if that is not known.
    """
    if kind is Kind.STRING:
        return _texts(cells, null_is_value, nullable, values)
    ends = _ends(cells, _FLAGS if kind is Kind.FLAG else (), t_ms)
    samples = np.array([*(_between(low, high) for low, high in pairwise((-math.inf, *ends, math.inf))), math.nan])
    true, possible = _number_truth(cells, samples, null_is_value, t_ms)
    real = [kind is not Kind.FLAG or sample in _FLAGS for sample in samples.tolist()[:-1]]
    return Regions(tuple(samples.tolist()), ends, {}, true, possible, np.array([*real, nullable]))


def _texts(cells: Sequence[Cell], null_is_value: bool, nullable: bool, values: Sequence[str]) -> Regions:
    named = [value for cell in cells for value in (*cell.values, *(bound.value for bound in cell.bounds))]
    texts = tuple(dict.fromkeys(str(value) for value in (*named, *values)))
    places = {text: place for place, text in enumerate(texts)}
    true = np.array([_text_truth(cell, places) for cell in cells]).reshape(len(cells), len(texts) + 2)
    possible = true.copy()
    possible[:, -1] |= [_unknown_of_null(cell, null_is_value) for cell in cells]
    real = np.array([*(not values or text in values for text in texts), not values, nullable])
    return Regions((*texts, None, None), (), places, true, possible, real)


def _text_truth(cell: Cell, places: Mapping[str, int]) -> Truth:
    """Where a cell is true of a text, of any other text, and of null."""
    true = np.zeros(len(places) + 2, np.bool_)
    if cell.sort == "values":
        true[[places[str(value)] for value in cell.values]] = True
    else:
        true[:-1] = cell.sort in ("any", "known", "bounds")
    for bound in cell.bounds:
        equal = np.zeros(len(places) + 2, np.bool_)
        equal[places[str(bound.value)]] = True
        true &= equal if bound.op == "==" else ~equal
    true[-1] = cell.sort in ("any", "null")
    return true


def _unknown_of_null(cell: Cell, null_is_value: bool) -> bool:
    return not null_is_value and cell.sort in ("values", "bounds")


# --- numbers ---------------------------------------------------------------------------------------------------------


def _ends(cells: Sequence[Cell], apart: Sequence[float], t_ms: int) -> tuple[float, ...]:
    """Where regions of numbers end, rising: at a bound, and just below one that belongs with what is above it.

    Every one of `apart` is a region of its own.
    """
    ends = {end for value in apart for end in _both_sides(value)}
    for cell in cells:
        ends.update(end for value in cell.values for end in _both_sides(float(value)))
        ends.update(end for bound in cell.bounds for end in _ends_of(bound, t_ms))
    return tuple(sorted(end for end in ends if math.isfinite(end)))


def _both_sides(value: float) -> tuple[float, float]:
    return math.nextafter(value, -math.inf), value


def _ends_of(bound: Bound, t_ms: int) -> tuple[float, ...]:
    value = bound.number_at(t_ms)
    if bound.op in ("<=", ">"):
        return (value,)
    return (_both_sides(value)[0],) if bound.op in ("<", ">=") else _both_sides(value)


def _number_truth(
    cells: Sequence[Cell], samples: npt.NDArray[np.float64], null_is_value: bool, t_ms: int
) -> tuple[Truth, Truth]:
    true = np.zeros((len(cells), len(samples)), np.bool_)
    possible = np.zeros_like(true)
    for row, cell in enumerate(cells):
        true[row, :-1], possible[row, :-1] = _of_known(cell, samples[:-1], t_ms)
        true[row, -1] = cell.sort in ("any", "null")
        possible[row, -1] = true[row, -1] or _unknown_of_null(cell, null_is_value)
    return true, possible


def _of_known(cell: Cell, x: npt.NDArray[np.float64], t_ms: int) -> tuple[Truth, Truth]:
    """Where a cell is true, and where it is not false, of numbers that are known."""
    if cell.sort == "values":
        inside = np.isin(x, [float(value) for value in cell.values])
        return inside, inside
    true = np.full(len(x), cell.sort in ("any", "known", "bounds"))
    possible = true.copy()
    for bound in cell.bounds:
        value = bound.number_at(t_ms)
        known = value == value
        met = _COMPARE[bound.op](x, value)
        true &= met if known else False
        possible &= met if known else True
    return true, possible


def _between(low: float, high: float) -> float:
    """A plain number above `low` and not above `high`: a whole one if there is one, else one of few digits."""
    if low == -math.inf:
        return math.floor(high) if high < math.inf else 0.0
    whole = math.floor(low) + 1.0 if abs(low) < 2**53 else low
    if low < whole <= high:
        return whole
    middle = low + (min(high, low + 1.0) - low) / 2
    for digits in range(1, 17):
        plain = round(middle, digits)
        if low < plain <= high:
            return plain
    return min(high, math.nextafter(low, math.inf))


def packed(chosen: Truth) -> int:
    """Truth values as the bits of a number, the first one lowest."""
    return int.from_bytes(np.packbits(chosen, bitorder="little").tobytes(), "little")


# --- the search ------------------------------------------------------------------------------------------------------


def boxes_of(inputs: Sequence[Regions], *, possible: bool) -> list[Box]:
    """For every row the regions in which its cells are true, or (`possible`) not definitely false."""
    columns = [[packed(row) for row in (r.possible if possible else r.true)] for r in inputs]
    return list(zip(*columns, strict=True))


def everything(inputs: Sequence[Regions]) -> Box:
    """All that the inputs can be."""
    return tuple(packed(regions.real) for regions in inputs)


def meeting(inputs: Sequence[Regions]) -> Truth:
    """bool[rows, rows]: whether two rows are true of some same values. All pairs at once, for there are many."""
    pairs = np.ones((len(inputs[0].true),) * 2, np.bool_)
    for regions in inputs:
        rows = (regions.true & regions.real).astype(np.float32)
        pairs &= rows @ rows.T > 0
    return pairs


def meet(first: Box, second: Box) -> Box | None:
    """What two boxes share, or None."""
    shared = tuple(a & b for a, b in zip(first, second, strict=True))
    return shared if all(shared) else None


class TooManyRegions(Exception):
    """The search was given up."""


class Search:
    """Looks for points that rows leave uncovered, giving up after so many looks altogether."""

    def __init__(self, looks_max: int) -> None:
        self._looks = looks_max

    def uncovered(self, box: Box, rows: Sequence[Box]) -> Box | None:
        """A box of points that none of the rows covers, or None. Raises TooManyRegions.

        The boxes still to be looked at are kept in a list of our own, so that depth is no matter.
        """
        waiting: list[tuple[Box, Sequence[Box]]] = [(box, rows)]
        while waiting:
            box, rows = waiting.pop()
            self._looks -= 1 + len(rows) // _ROWS_A_LOOK
            if self._looks < 0:
                raise TooManyRegions
            met = [row for row in rows if all(map(int.__and__, box, row))]
            if not met:
                return box
            row = met[0] if len(met) == 1 else max(met[:_CHOICE], key=lambda row: _share(box, row))
            waiting += [(rest, met) for rest in _left_over(box, row)]
        return None


def _share(box: Box, row: Box) -> float:
    """How much of a box a row covers."""
    share = 1.0
    for a, b in zip(box, row, strict=True):
        share *= (a & b).bit_count() / a.bit_count()
    return share


def _left_over(box: Box, row: Box) -> list[Box]:
    """What a row that meets a box leaves of it, as boxes that do not meet."""
    rest = []
    left = list(box)
    for position, regions in enumerate(row):
        outside = left[position] & ~regions
        if outside:
            rest.append((*left[:position], outside, *left[position + 1 :]))
        left[position] &= regions
    return rest

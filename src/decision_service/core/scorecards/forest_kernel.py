"""The compiled loops over all trees of a model: its margin, and what each feature contributes to it.

What the arrays hold is told in `forest.py`, why contributions come out of these sums in `contributions.py`. Nothing is
checked here: `read_trees` and `lay_out` made sure that every index is in range.

Which way a row goes is an index and not a branch: a row meets some 2,000 splits whose answers nobody could guess, at 15
cycles for every wrong guess.

Both are compiled once and cached on disk; `margin` keeps the GIL, which a few microseconds are too short to hand back,
`contributions` lets others run. Numba's cache watches this file only, so both close over a digest of their sources.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import njit

from decision_service.core import compiled
from decision_service.core.compiled import kernel_entry, kernel_function
from decision_service.core.scorecards import lanes
from decision_service.core.scorecards.lanes import WIDTH, load, spread, store

# mypy: disable-error-code="call-arg,var-annotated,untyped-decorator,no-untyped-def,no-untyped-call"

MISSING_NONE, MISSING_ZERO, MISSING_NAN, DEFAULT_LEFT = 0, 1, 2, 4  # of a column: what is missing there | its way
COLUMN, LEFT, RIGHT, FEATURE, BEFORE, INVERSE = (np.uintp(i) for i in range(6))  # of a node
THRESHOLD, SHARE_LEFT, SHARE_RIGHT, SHARE_BEFORE = (np.uintp(i) for i in range(4))
_ZERO: Final = float(np.float32(1e-35))  # LightGBM's kZeroThreshold, a float there: what it reads as zero
_margin_entry: Final[Any] = njit(cache=True, error_model="numpy")


def _digest_of_sources() -> int:
    digest = blake2b(digest_size=7)
    for part in (compiled, lanes):
        digest.update(Path(str(part.__file__)).read_bytes())
    return int.from_bytes(digest.digest(), "little")


@kernel_function
def _fill_columns(row, columns, x):
    """What the splits compare: -inf where the way is left whatever the threshold, NaN where it is right.

    LightGBM passes on only what is beyond its zero, so whatever is closer is 0 to every split.
    """
    for k in range(columns.shape[0]):
        value, kind = row[columns[k, 0]], columns[k, 1]
        missing = kind & 3
        known = value if abs(value) > _ZERO else 0.0  # also of a null
        if (missing == MISSING_ZERO and known == 0.0) or (missing == MISSING_NAN and value != value):
            x[k] = -np.inf if kind & DEFAULT_LEFT else np.nan
        else:
            x[k] = known


@kernel_function
def _go_down(first, inner, x, nodes, numbers, inverses, section, t, p, f, hot, ways, moved):
    """Walk a tree from its root: the product above every node in `p`, and what each split does with the row."""
    one = spread(1.0)
    rest = one - t
    store(p, 0, one)
    hot[np.uintp(2 * inner + 1)] = 1.0
    for k in range(inner):
        slot, at = np.uintp(first + k), np.uintp(k)
        goes_left = np.uintp(x[nodes[slot, COLUMN]] <= numbers[slot, THRESHOLD])
        to, away = nodes[slot, RIGHT - goes_left], nodes[slot, LEFT + goes_left]
        share = numbers[slot, SHARE_RIGHT - goes_left]
        was_hot = hot[nodes[slot, BEFORE]]
        ways[at, 0], ways[at, 1] = to, away
        hot[to], hot[away] = was_hot, 0.0
        if was_hot != 0.0:
            before = numbers[slot, SHARE_BEFORE]
            after = before * share
            moved[at] = before - after
            part = (t + rest * spread(after)) * load(inverses, section + nodes[slot, INVERSE])
        else:
            moved[at] = 0.0
            part = spread(share)
        above = load(p, k)
        taken = above * part
        store(f, k, part)
        store(p, to, taken)
        store(p, away, above - taken)


@kernel_function
def _go_up(first, inner, nodes, values, inverses, section, p, f, s, ways, moved, sums):
    """Walk back to the root: the mean of the leaves below every node in `s`, and every split's term into `sums`."""
    for k in range(inner, 2 * inner + 1):
        store(s, k, spread(values[np.uintp(first + k)]))
    for k in range(inner - 1, -1, -1):
        slot, at = np.uintp(first + k), np.uintp(k)
        away = load(s, ways[at, 1])
        apart = load(s, ways[at, 0]) - away
        store(s, k, away + load(f, k) * apart)
        if moved[at] != 0.0:
            inverse = load(inverses, section + nodes[slot, INVERSE])
            term = load(p, k) * apart * spread(moved[at]) * inverse * inverse
            feature = nodes[slot, FEATURE]
            store(sums, feature, load(sums, feature) + term)


def _build_margin(digest: int) -> Any:
    @_margin_entry
    def margin(row, columns, nodes, links, order):
        """The sum of the leaves that a row ends in, in the order of the trees; inf if a feature is infinite.

        All trees take their next step together: their steps do not wait for one another, and no branch is guessed.
        `order` has the roots, deepest tree first; where each tree of the model stands among those; and how many trees
        have a step left, by step.
        """
        for value in row:
            if np.isinf(value):
                return np.inf
        x = np.empty(columns.shape[0] + 1, np.float64)
        _fill_columns(row, columns, x)
        x[columns.shape[0]] = -np.inf  # goes left of whatever a leaf is worth
        roots, places, alive = order
        at = np.empty(roots.shape[0], np.uint32)
        for tree in range(roots.shape[0]):
            at[tree] = roots[tree]
        for count in alive:
            for tree in range(count):
                slot = at[tree]
                goes_right = not x[links[slot, 2]] <= nodes[slot, 0]
                at[tree] = links[slot, 3] + np.uint32(goes_right)
        total = 0.0
        for place in places:
            total += nodes[at[place], 0]
        return total if digest else np.nan

    return margin


def _build_contributions(digest: int) -> Any:
    @kernel_entry
    def contributions(row, columns, nodes, numbers, values, trees, passes, points, weights, inverses, widest, out):
        """Add what each feature contributes to the margin to `out` float64[n_features]; the number of passes."""
        x = np.empty(columns.shape[0], np.float64)
        _fill_columns(row, columns, x)
        slots = 2 * widest + 2
        hot, moved, ways = np.empty(slots), np.empty(widest + 1), np.empty((widest + 1, 2), np.uint32)
        rows = np.empty((2 * slots + widest + 1 + out.shape[0] + 1) * WIDTH, np.float64)
        rows = rows[-(rows.ctypes.data >> 3) & (WIDTH - 1) :]  # a row is a cache line, not parts of two
        p, s = rows[: slots * WIDTH], rows[slots * WIDTH : 2 * slots * WIDTH]
        f, sums = rows[2 * slots * WIDTH :], rows[(2 * slots + widest + 1) * WIDTH :]
        for number in range(passes.shape[0]):
            begin, end, section = passes[number, 0], passes[number, 1], passes[number, 2]
            t = load(points, number)
            sums[: out.shape[0] * WIDTH] = 0.0
            for tree in range(begin, end):
                first, inner = trees[tree, 0], trees[tree, 1]
                _go_down(first, inner, x, nodes, numbers, inverses, section, t, p, f, hot, ways, moved)
                _go_up(first, inner, nodes, values, inverses, section, p, f, s, ways, moved, sums)
            for feature in range(out.shape[0]):
                for lane in range(WIDTH):
                    out[feature] += sums[feature * WIDTH + lane] * weights[number, lane]
        return passes.shape[0] if digest else -1

    return contributions


margin: Final[Any] = _build_margin(_digest_of_sources())
contributions: Final[Any] = _build_contributions(_digest_of_sources())

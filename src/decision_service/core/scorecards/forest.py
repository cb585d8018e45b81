"""The trees of a model laid out for a walk of all of them at once, which is how a row gets its margin.

    columns     uint32[C, 2]      feature, and how a null of it is read: what one (feature, treatment) looks like is
                                  worked out once a row, so that a split is one comparison whatever it does with nulls
    steps       uint32[slots, 3]  column, where left leads, where right leads; a leaf leads to itself
    thresholds  float64[slots]    of a split; of a leaf NaN, which nothing is up to
    values      float64[slots]    of a leaf

Slots are those of `trees.py`, counted on from tree to tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.forest_kernel import DEFAULT_LEFT
from decision_service.core.scorecards.trees import MISSING_NONE, Floats, Ints, Trees

_KINDS: Final = 2 * DEFAULT_LEFT  # a bound of what a column's kind may be
Indices = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Forest:
    """What `forest_kernel.margin` walks. `order`: the roots, deepest tree first; where each tree of the model stands
    among them; how many trees have a step left, by step."""

    columns: Indices
    steps: Indices
    thresholds: Floats
    values: Floats
    order: tuple[Indices, Indices, Indices]


@dataclass(frozen=True, slots=True)
class Places:
    """Where the splits and leaves of the arrays of `Trees` stand: their slots counted over all trees."""

    first: Ints  # of every tree
    base: Ints  # `first` of every split's tree
    splits: Ints
    leaves: Ints
    slots: int


def places_of(trees: Trees) -> Places:
    """The slots of a model."""
    sizes = 2 * trees.inner + 1
    first = np.cumsum(sizes) - sizes
    base = np.repeat(first, trees.inner)
    begins = np.cumsum(trees.inner) - trees.inner
    splits = base + np.arange(len(base)) - np.repeat(begins, trees.inner)
    slots = int(sizes.sum())
    is_split = np.zeros(slots, np.bool_)
    is_split[splits] = True
    return Places(first, base, splits, np.flatnonzero(~is_split), slots)


def columns_of(trees: Trees) -> tuple[Indices, Ints]:
    """The columns of a model, and the column of every split."""
    kind = trees.missing + np.where((trees.missing != MISSING_NONE) & trees.default_left, DEFAULT_LEFT, 0)
    coded, column = np.unique(trees.feature * _KINDS + kind, return_inverse=True)
    if not len(coded):
        coded = np.zeros(1, np.int64)  # a leaf's step looks at a column, too
    return np.ascontiguousarray(np.stack((coded // _KINDS, coded % _KINDS), axis=1), np.uint32), column


def lay_out(trees: Trees, columns: Indices, column: Ints) -> Forest:
    """The arrays of a model, with its `columns_of`."""
    places = places_of(trees)
    own = np.arange(places.slots)
    steps = np.stack((np.zeros(places.slots, np.int64), own, own), axis=1)
    steps[places.splits] = np.stack((column, places.base + trees.left, places.base + trees.right), axis=1)
    thresholds, values = np.full(places.slots, np.nan), np.zeros(places.slots)
    thresholds[places.splits] = trees.threshold
    values[places.leaves] = trees.value
    return Forest(columns, steps.astype(np.uint32), thresholds, values, _order(steps, places))


def _order(steps: Ints, places: Places) -> tuple[Indices, Indices, Indices]:
    depths = _depths(steps, places)
    deepest_first = np.argsort(-depths, kind="stable")
    standing = np.empty(len(depths), np.int64)
    standing[deepest_first] = np.arange(len(depths))
    alive = [int((depths > step).sum()) for step in range(int(depths.max()))]
    roots = places.first[deepest_first]
    return roots.astype(np.uint32), standing.astype(np.uint32), np.array(alive, np.uint32)


def _depths(steps: Ints, places: Places) -> Ints:
    """The steps to the deepest leaf of every tree."""
    tree_of = np.repeat(np.arange(len(places.first)), np.diff(np.append(places.first, places.slots)))
    depths = np.zeros(len(places.first), np.int64)
    is_split = np.zeros(places.slots, np.bool_)
    is_split[places.splits] = True
    level = places.first[is_split[places.first]]
    while len(level):
        depths[np.unique(tree_of[level])] += 1
        level = steps[level, 1:].reshape(-1)
        level = level[is_split[level]]
    return depths

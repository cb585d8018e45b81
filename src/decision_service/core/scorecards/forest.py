"""The trees of a model laid out for a walk of all of them at once, which is how a row gets its margin.

    columns     uint32[C, 2]      feature, and how a null of it is read: what one (feature, treatment) looks like is
                                  worked out once a row, so that a split is one comparison whatever it does with nulls
    nodes       float64[nodes, 2] threshold, and in the same 16 bytes as uint32 (`links`) column and first child:
                left is the child, right the one behind it, so that a step reads one place of memory. A leaf holds its
                value as threshold of the column behind the last, which is -inf, and leads to itself

A tree's root is its first node, and the children of split k are 1 + 2k and 2 + 2k. Elsewhere nodes have the slots of
`trees.py`, counted on from tree to tree.
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
    nodes: Floats
    links: Indices  # uint32[nodes, 4]: the same memory; column and first child are the last two
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
    first_child = 2 * places.splits - places.base + 1
    node_of = np.arange(places.slots)  # roots keep their place
    node_of[places.base + trees.left], node_of[places.base + trees.right] = first_child, first_child + 1
    nodes = np.empty((places.slots, 2), np.float64)
    links = nodes.view(np.uint32)
    splits, leaves = node_of[places.splits], node_of[places.leaves]
    nodes[splits, 0], links[splits, 2], links[splits, 3] = trees.threshold, column, first_child
    nodes[leaves, 0], links[leaves, 2], links[leaves, 3] = trees.value, len(columns), leaves
    return Forest(columns, nodes, links, _order(trees, places))


def _order(trees: Trees, places: Places) -> tuple[Indices, Indices, Indices]:
    depths = _depths(trees, places)
    deepest_first = np.argsort(-depths, kind="stable")
    standing = np.empty(len(depths), np.int64)
    standing[deepest_first] = np.arange(len(depths))
    alive = [int((depths > step).sum()) for step in range(int(depths.max()))]
    roots = places.first[deepest_first]
    return roots.astype(np.uint32), standing.astype(np.uint32), np.array(alive, np.uint32)


def _depths(trees: Trees, places: Places) -> Ints:
    """The steps to the deepest leaf of every tree."""
    tree_of = np.repeat(np.arange(len(places.first)), 2 * trees.inner + 1)
    children = np.zeros((places.slots, 2), np.int64)  # of a leaf the first root, which is nobody's child
    children[places.splits] = np.stack((places.base + trees.left, places.base + trees.right), axis=1)
    depths = np.zeros(len(places.first), np.int64)
    level = places.first[trees.inner > 0]
    while len(level):
        depths[np.unique(tree_of[level])] += 1
        level = children[level].reshape(-1)
        level = level[children[level, 0] > 0]
    return depths

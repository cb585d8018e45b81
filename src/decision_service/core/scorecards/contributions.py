"""What each feature of a row contributes to the margin of a forest: exact Shapley values, one walk down and up a tree.

**What is computed.** The values of TreeSHAP with path-dependent covers (Lundberg, Erion, Lee 2018, arXiv:1802.03888),
which are LightGBM's `pred_contrib`: the Shapley values of the game in which a feature that is not in the coalition is
averaged over, at each split by the shares of training rows that went either way.

**Derivation.** For one leaf of value v, let j run over the *distinct* features of its path, o_j in {0, 1} say whether
the row meets all of the path's conditions on j, and z_j be the product of the shares of the edges that split by j. With
the coalition x in [0, 1]^d, the multilinear extension of the game (Owen 1972) is

    v * prod_j (z_j + x_j (o_j - z_j))

and the Shapley value of j is the integral over t in [0, 1] of its derivative by x_j along the diagonal x = (t, .., t):

    phi_j = v * integral of (o_j - z_j) prod_{k != j} g_k(t) dt        g = t + (1-t) z if o, else (1-t) z

The integrand is a polynomial of degree d - 1, so Gauss-Legendre with ceil(d / 2) points is exact; all its factors are
positive, so nothing cancels. Linear TreeSHAP (Yu, Xu, Bi 2022, arXiv:2209.08192) carries the same polynomials through
the tree by values at points, too, and interpolates; here the quadrature is the answer. Every point is independent of
the others: a lane of a register.

**Sums over a tree.** Let p_n(t) be the product of the g of the edges above node n, one a distinct feature, and s_n(t)
the mean of the leaves below it, weighted by the g of what is further down (g there relative to the g above, if their
feature has occurred). A split n sends the row to one child, `to`, and not to the other, `away`. If all splits above it
by the same feature j sent the row this way, let b be the product of their shares (1 if there are none), a = b * the
share of `to`, g_b = t + (1-t) b and g_a likewise. Relative to n, `to` then has the factor f = g_a / g_b and `away` the
rest, 1 - f, because the shares of the two add up to 1. So

    s_n = s_away + f (s_to - s_away)          p_to = p_n f          p_away = p_n - p_to

Let r = (o - z) / g for an edge, with the o and z its feature has there. A leaf's phi_j is p_leaf v r of the last edge
by j, that is the sum over all edges by j of r less the r of the edge by j before it. Collected at n, with r_before
= (1 - b) / g_b, r_to = (1 - a) / g_a and r_away = -1 / (1 - t), all but one term drop out:

    sum over the points of  w p_n f s_to r_to + w p_n (1 - f) s_away r_away - w p_n s_n r_before
        = sum of  w (b - a) (p_n / g_b) (s_to - s_away) / g_b

Where an earlier split by j sent the row elsewhere, f is the share of `to`, and the term is 0. One split costs some ten
operations on eight lanes and two divisions at load. No division is left, and only differences of means are taken.

**Points.** A tree whose paths have at most 16 distinct features takes 8 points; a deeper one 16, 24 .. in as many
passes of 8. Padding to 8 is free, they fit one register. A node without training rows sends half of nobody each way.

Measured (`benchmarks/scorecards.py`, 300 trees x 31 leaves, 29 features, medians): on a machine shared with others 184
us a row by itself and 328 in turns with LightGBM 4.7.0's own call, which took 4,979 to 16,549 there; at best 94 us. The
same with the lanes left to the compiler's loops took 2.7 times as long. A sum leaf by leaf, with bit masks of what a
row meets, was not built: it multiplies some 7 features x 8 points a leaf, against one split's ten operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from decision_service.core.scorecards.forest import Indices, places_of
from decision_service.core.scorecards.lanes import WIDTH
from decision_service.core.scorecards.trees import Floats, Ints, Trees

_NEWTON_STEPS: Final = 12  # twice what converges from this start, for any number of points
_Rule = tuple[list[float], list[float]]


@dataclass(frozen=True, slots=True)
class Terms:
    """What `forest_kernel.contributions` walks: slots as in `forest.py`, children counted within their tree.

    `expected` is the margin of a row of which nothing is known, LightGBM's last column. `before` of a node is the slot
    of the nearest edge above by the same feature, named by the node it leads to; 2 * inner + 1 if there is none.
    """

    expected: float
    nodes: Indices  # [slots, 6]: column, left, right, feature, before, row of its section of `inverses`
    numbers: Floats  # [slots, 4]: threshold, shares of the rows going left and right, product of shares before
    values: Floats  # [slots]
    trees: Ints  # [trees, 2]: first slot, inner; those of one number of points together, without trees of one leaf
    passes: Ints  # [passes, 3]: first tree, last tree + 1, first row of its section of `inverses`
    points: Floats  # [passes, 8]
    weights: Floats  # [passes, 8]
    inverses: Floats  # [rows, 8]: 1 / g_b at the points of a pass; the first row of a section is 1, for b = 1
    widest: int  # inner of the largest tree


@dataclass(slots=True)
class _Paths:
    """What holds for every split by where it stands in its tree, in the order of `Trees.feature`."""

    share: list[float]
    share_before: list[float]
    before: list[int]
    distinct: list[int]  # of every tree: the most distinct features on a path
    expected: float = 0.0


def terms_of(trees: Trees, column: Ints) -> Terms:
    """The arrays of a model, with the column of every split."""
    places, paths = places_of(trees), _paths(trees)
    blocks = np.maximum(1, -(-np.array(paths.distinct, np.int64) // (2 * WIDTH)))
    order = np.array([t for t in np.argsort(blocks, kind="stable") if trees.inner[t]], np.int64)
    nodes, numbers = np.zeros((places.slots, 6), np.int64), np.ones((places.slots, 4))
    before = np.array(paths.share_before, np.float64)
    inverse_row, sections = _sections(before, np.repeat(blocks, trees.inner), blocks[order])
    nodes[places.splits] = np.stack(
        (column, trees.left, trees.right, trees.feature, np.array(paths.before, np.int64), inverse_row), axis=1
    )
    share = np.array(paths.share, np.float64)
    numbers[places.splits] = np.stack((trees.threshold, share, 1.0 - share, before), axis=1)
    values = np.zeros(places.slots)
    values[places.leaves] = trees.value
    return Terms(
        paths.expected, nodes.astype(np.uint32), numbers, values, np.stack((places.first, trees.inner), axis=1)[order],
        sections.passes, sections.points, sections.weights, sections.inverses, int(trees.inner.max()),
    )  # fmt: skip


def _paths(trees: Trees) -> _Paths:
    paths = _Paths([], [], [], [])
    end_leaf = np.cumsum(trees.inner + 1).tolist()
    for (begin, end), leaf in zip(pairwise((0, *np.cumsum(trees.inner).tolist())), end_leaf, strict=True):
        leaves = trees.value[leaf - (end - begin) - 1 : leaf].tolist()
        counts = trees.count[leaf - (end - begin) - 1 : leaf].tolist()
        left, right = trees.left[begin:end].tolist(), trees.right[begin:end].tolist()
        shares = _shares(left, right, counts)
        paths.share += shares
        paths.expected += _mean(left, right, shares, leaves)
        paths.distinct.append(_follow(trees.feature[begin:end].tolist(), left, right, shares, paths))
    return paths


def _shares(left: list[int], right: list[int], counts: list[float]) -> list[float]:
    """The share of the training rows that go left at every split."""
    rows = [0.0] * len(left) + counts
    for split in range(len(left) - 1, -1, -1):
        rows[split] = rows[left[split]] + rows[right[split]]
    return [rows[child] / rows[split] if rows[split] else 0.5 for split, child in enumerate(left)]


def _mean(left: list[int], right: list[int], shares: list[float], leaves: list[float]) -> float:
    """The mean of the leaves, weighted by the shares of the ways to them."""
    means = [0.0] * len(left) + leaves
    for split in range(len(left) - 1, -1, -1):
        means[split] = shares[split] * means[left[split]] + (1.0 - shares[split]) * means[right[split]]
    return means[0]


def _follow(features: list[int], left: list[int], right: list[int], shares: list[float], paths: _Paths) -> int:
    """Add every split's nearest edge above by its feature; the most distinct features on a path of this tree."""
    inner, distinct = len(features), 0
    nothing = (1.0, 2 * inner + 1)
    above: dict[int, dict[int, tuple[float, int]]] = {0: {}}  # by split: of every feature, its share so far and edge
    for split, feature in enumerate(features):
        path = above.pop(split)
        before, edge = path.get(feature, nothing)
        paths.share_before.append(before)
        paths.before.append(edge)
        distinct = max(distinct, len(path) + (feature not in path))
        for child, share in ((left[split], shares[split]), (right[split], 1.0 - shares[split])):
            if child < inner:
                above[child] = {**path, feature: (before * share, child)}
    return distinct


# --- points ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sections:
    passes: Ints
    points: Floats
    weights: Floats
    inverses: Floats


def _sections(before: Floats, blocks: Ints, blocks_of_trees: Ints) -> tuple[Ints, _Sections]:
    """The row of `inverses` of every split within its section, and the passes: as many for a tree as it has blocks."""
    rows = np.zeros(len(before), np.int64)
    passes, points, weights, inverses = [], [], [], []
    length = 0
    for count in sorted(set(blocks_of_trees.tolist())):
        again = np.flatnonzero((blocks == count) & (before != 1.0))
        rows[again] = np.arange(1, len(again) + 1)
        begin, end = np.searchsorted(blocks_of_trees, (count, count + 1)).tolist()
        for t, w in _blocks(WIDTH * count):
            passes.append((begin, end, length))
            points.append(t)
            weights.append(w)
            b = np.concatenate(([1.0], before[again]))[:, None]
            inverses.append(1.0 / (np.array(t) + (1.0 - np.array(t)) * b))
            length += len(again) + 1
    shaped = np.array(passes, np.int64).reshape(-1, 3)
    return rows, _Sections(shaped, _rows(points), _rows(weights), _in_lines(inverses, length))


def _rows(rows: list[list[float]]) -> Floats:
    return np.array(rows, np.float64).reshape(-1, WIDTH)


def _in_lines(sections: list[Floats], length: int) -> Floats:
    """All sections one after the other, every row a cache line and not parts of two (a sixth faster)."""
    raw = np.empty((length + 1) * WIDTH, np.float64)
    begin = -(raw.ctypes.data // raw.itemsize) % WIDTH
    lines = raw[begin : begin + length * WIDTH].reshape(length, WIDTH)
    if sections:
        np.concatenate(sections, out=lines)
    return lines


def _blocks(count: int) -> Iterator[_Rule]:
    points, weights = gauss_legendre(count)
    for begin in range(0, count, WIDTH):
        yield points[begin : begin + WIDTH], weights[begin : begin + WIDTH]


def gauss_legendre(count: int) -> _Rule:
    """Points in (0, 1) and weights that integrate polynomials of degree 2 * count - 1 over [0, 1] exactly.

    By Newton's method on the Legendre polynomial, in plain arithmetic: the same bits wherever a model loads.
    """
    rule = [_root(count, math.cos(math.pi * (i + 0.75) / (count + 0.5))) for i in range(count)]
    return [(1.0 - x) / 2.0 for x, _ in rule], [1.0 / ((1.0 - x * x) * slope * slope) for x, slope in rule]


def _root(count: int, x: float) -> tuple[float, float]:
    """The root of the Legendre polynomial of a degree near `x`, and its slope there."""
    slope = 0.0
    for _ in range(_NEWTON_STEPS):
        value, slope = _legendre(count, x)
        x -= value / slope
    return x, slope


def _legendre(count: int, x: float) -> tuple[float, float]:
    """The Legendre polynomial of a degree and its slope, by the three-term recurrence."""
    last, value = 1.0, x
    for k in range(2, count + 1):
        last, value = value, ((2 * k - 1) * x * value - (k - 1) * last) / k
    return value, count * (x * value - last) / (x * x - 1.0)

"""The trees inside LightGBM's text model, read into flat arrays and checked so far that compiled code may walk them.

The nodes of a tree have slots: its `inner` splits 0 to inner - 1, the root first and every split before what is below
it, then its leaves inner to 2 * inner. All trees of a model stand one after the other in each array.

    key of the text      what is made of it
    split_feature        feature[split], an index into the model's features
    threshold            threshold[split]; a value up to it goes left. inf is a threshold: known goes left
    decision_type        bit 0 categorical (refused), bit 1 default left, bits 2 and 3 what counts as missing
    left_child, right_   left[split], right[split] as slots; the text has ~leaf for a leaf
    leaf_value           value[leaf]; shrinkage is already in it
    leaf_count           count[leaf], training rows. Those of splits (internal_count) are their leaves' sums, which is
                         what LightGBM writes wherever it counted exactly

`average_output` (boosting: rf) is left unread: LightGBM averages what it predicts, but no raw score or contribution.

Nothing here trusts the text: slots out of range, a node with two parents or none, a child before its parent, a feature
the model does not have, a leaf that is no number and a key that stands twice are all UnsupportedTrees, as is what the
arrays cannot say (categorical splits, linear leaves, several classes), and what could only be meant to cost time: more
than SPLITS_MAX splits, or a path of more than DEPTH_MAX, which LightGBM may leave at the first split and an adverse
answer's reasons may not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MISSING_NONE, MISSING_ZERO, MISSING_NAN = range(3)  # null is 0; null and 0 take the default way; null takes it
VERSIONS: Final = ("v3", "v4")
SPLITS_MAX: Final = 250_000  # of all trees; a scorecard has 10,000, and reading this many takes seconds
DEPTH_MAX: Final = 512
_INTEGER_MAX: Final = 2**31  # what LightGBM reads into 32 bits
_COUNT_MAX: Final = 2.0**53
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_END: Final = "\nend of trees"
Number = TypeVar("Number", int, float)


class UnsupportedTrees(Exception):
    """A model that is damaged, or says what the arrays cannot hold; the message says which tree and what."""


@dataclass(frozen=True, slots=True)
class Trees:
    """All trees of a model. `inner[t]` splits and one leaf more belong to tree t."""

    n_features: int
    inner: Ints
    feature: Ints
    threshold: Floats
    missing: Ints  # MISSING_*
    default_left: npt.NDArray[np.bool_]
    left: Ints
    right: Ints
    value: Floats
    count: Floats


def read_trees(model_text: bytes, n_features: int) -> Trees:
    """The trees of a binary or regression model in LightGBM's text format. Raises UnsupportedTrees."""
    text, found, _ = model_text.decode(errors="replace").partition(_END)
    head, *blocks = text.split("\nTree=")
    if not found or not blocks:
        raise UnsupportedTrees("the text has no trees, or no end of them")
    _check_head(head, n_features)
    read = list(_read_all(blocks))
    trees = _joined(read, n_features)
    _check_values(trees)
    _check_shape(trees)
    for number, tree in enumerate(read):
        if (depth := _depth(tree)) > DEPTH_MAX:
            raise UnsupportedTrees(f"tree {number} has a path of {depth:,} splits, at most {DEPTH_MAX} are allowed")
    return trees


def _pairs(block: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for line in block.split("\n"):
        key, equals, value = line.partition("=")
        if equals and pairs.setdefault(key, value) is not value:  # LightGBM may read the other one
            raise UnsupportedTrees(f"{key} stands twice in one place")
    return pairs


def _check_head(head: str, n_features: int) -> None:
    pairs = _pairs(head)
    if (version := pairs.get("version", "")) not in VERSIONS:
        raise UnsupportedTrees(f"the text is of version {version!r}, not one of {', '.join(VERSIONS)}")
    classes = (pairs.get("num_class"), pairs.get("num_tree_per_iteration"))
    if classes != ("1", "1"):
        raise UnsupportedTrees(f"it has {classes[0]} classes; a scorecard gives one log-odds")
    if pairs.get("max_feature_idx") != str(n_features - 1):
        raise UnsupportedTrees(f"its last feature is {pairs.get('max_feature_idx')}, {n_features} are expected")


@dataclass(frozen=True, slots=True)
class _Tree:
    """One tree as written, its children as slots."""

    feature: list[int]
    threshold: list[float]
    decision: list[int]
    left: list[int]
    right: list[int]
    value: list[float]
    count: list[float]


def _read_all(blocks: list[str]) -> Iterator[_Tree]:
    splits = 0
    for number, block in enumerate(blocks):
        tree = _read_tree(number, block)
        splits += len(tree.feature)
        if splits > SPLITS_MAX:
            raise UnsupportedTrees(
                f"its first {number + 1} trees have {splits:,} splits, at most {SPLITS_MAX:,} may be"
            )
        yield tree


def _read_tree(number: int, block: str) -> _Tree:
    pairs = _pairs(block)
    inner = _numbers(pairs, "num_leaves", 1, int, number)[0] - 1
    if _numbers(pairs, "num_cat", 1, int, number) != [0]:
        raise UnsupportedTrees(f"tree {number} splits by categories")
    if pairs.get("is_linear", "0") != "0":
        raise UnsupportedTrees(f"tree {number} has linear models in its leaves")
    if inner == 0:  # a tree that is a constant; its count may be missing
        return _Tree([], [], [], [], [], _numbers(pairs, "leaf_value", 1, float, number), [1.0])
    return _Tree(
        _numbers(pairs, "split_feature", inner, int, number), _numbers(pairs, "threshold", inner, float, number),
        _numbers(pairs, "decision_type", inner, int, number), _slots(pairs, "left_child", inner, number),
        _slots(pairs, "right_child", inner, number), _numbers(pairs, "leaf_value", inner + 1, float, number),
        _numbers(pairs, "leaf_count", inner + 1, float, number),
    )  # fmt: skip


def _numbers(pairs: Mapping[str, str], key: str, size: int, number: Callable[[str], Number], tree: int) -> list[Number]:
    try:
        numbers = [number(word) for word in pairs[key].split()]
    except (KeyError, ValueError) as error:
        raise UnsupportedTrees(f"tree {tree} has no readable {key}") from error
    if len(numbers) != size or size < 1:
        raise UnsupportedTrees(f"tree {tree} has {len(numbers)} numbers of {key}, {size} are expected")
    if number is int and not -_INTEGER_MAX <= min(numbers) <= max(numbers) < _INTEGER_MAX:
        raise UnsupportedTrees(f"tree {tree} has a number of {key} that is too large")
    return numbers


def _slots(pairs: Mapping[str, str], key: str, inner: int, tree: int) -> list[int]:
    """Children as slots: those of leaves, written as ~leaf, after the splits."""
    return [child if child >= 0 else inner + ~child for child in _numbers(pairs, key, inner, int, tree)]


def _joined(read: list[_Tree], n_features: int) -> Trees:
    decision = np.array([d for tree in read for d in tree.decision], np.int64)
    if (decision & _CATEGORICAL).any():
        raise UnsupportedTrees("a tree splits by categories")
    return Trees(
        n_features=n_features, inner=np.array([len(tree.feature) for tree in read], np.int64),
        feature=np.array([f for tree in read for f in tree.feature], np.int64),
        threshold=np.array([x for tree in read for x in tree.threshold], np.float64),
        missing=decision >> 2, default_left=(decision & _DEFAULT_LEFT) > 0,
        left=np.array([slot for tree in read for slot in tree.left], np.int64),
        right=np.array([slot for tree in read for slot in tree.right], np.int64),
        value=np.array([x for tree in read for x in tree.value], np.float64),
        count=np.array([x for tree in read for x in tree.count], np.float64),
    )  # fmt: skip


def _check_values(trees: Trees) -> None:
    wrong = (
        (not ((trees.feature >= 0) & (trees.feature < trees.n_features)).all(), "a split by an unknown feature"),
        (bool(np.isnan(trees.threshold).any()), "a threshold that is no number"),
        (not ((trees.missing >= MISSING_NONE) & (trees.missing <= MISSING_NAN)).all(), "an unknown decision type"),
        (not np.isfinite(trees.value).all(), "a leaf that is no number"),
        (not ((trees.count >= 0) & (trees.count <= _COUNT_MAX)).all(), "a leaf with an impossible count"),
    )  # fmt: skip
    for is_wrong, what in wrong:
        if is_wrong:
            raise UnsupportedTrees(f"it has {what}")


def _check_shape(trees: Trees) -> None:
    """Every slot but the roots is the child of exactly one split, and of one before it."""
    inner, of_split = trees.inner, np.repeat(np.arange(len(trees.inner)), trees.inner)
    split = np.arange(len(of_split)) - (np.cumsum(inner) - inner)[of_split]  # numbered within its tree
    size = 2 * inner[of_split] + 1
    for child in (trees.left, trees.right):
        if not ((child > 0) & (child < size) & ((child > split) | (child >= inner[of_split]))).all():
            raise UnsupportedTrees("a split leads nowhere, or back")
    base = (np.cumsum(2 * inner + 1) - (2 * inner + 1))[of_split]
    parents = np.bincount(np.concatenate((base + trees.left, base + trees.right)), minlength=int((2 * inner + 1).sum()))
    if np.delete(parents, np.cumsum(2 * inner + 1) - (2 * inner + 1)).tolist().count(1) != 2 * len(split):
        raise UnsupportedTrees("a node has two ways to it, or none")


def _depth(tree: _Tree) -> int:
    """Splits on the longest path; every split stands before those below it."""
    inner = len(tree.feature)
    above = [0] * (2 * inner + 1)
    for split, children in enumerate(zip(tree.left, tree.right, strict=True)):
        for child in children:
            above[child] = above[split] + 1
    return max(above)

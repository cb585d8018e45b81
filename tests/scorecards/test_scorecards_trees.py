"""Margins and contributions by our own walks of the trees, held to LightGBM's."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pytest
from forest_maker import Rows, make_model, make_rows, text_of
from scorecard_maker import NAMES, Trained, write_scorecard

from decision_service.core.errors import ScorecardRejected
from decision_service.core.scorecards.contributions import gauss_legendre
from decision_service.core.scorecards.tree_scorer import TreeScorer
from decision_service.core.scorecards.trees import DEPTH_MAX, UnsupportedTrees
from decision_service.scorecards.files import load_scorecard
from decision_service.scorer import LightGbmScorer

SHIPPED = Path(__file__).parents[2] / "models" / "behaviour"

SHAPES: dict[str, dict[str, Any]] = {
    "one tree of two leaves": {"trees": 1, "leaves": 2, "n_features": 2},
    "five leaves": {"trees": 40, "leaves": 5, "n_features": 6},
    "the target's size": {"trees": 300, "leaves": 31, "n_features": 29, "max_bin": 15},
    "sixty leaves": {"trees": 25, "leaves": 60, "n_features": 12},
    "one feature on every edge": {"trees": 30, "leaves": 31, "n_features": 1},
    "two features again and again": {"trees": 30, "leaves": 31, "n_features": 2},
    "shallow and wide": {"trees": 30, "leaves": 31, "n_features": 40, "max_depth": 5},
    "more than 16 features on a path": {"trees": 6, "leaves": 60, "n_features": 60, "feature_fraction_bynode": 0.05},
    "zero is missing": {"trees": 40, "leaves": 15, "n_features": 8, "zero_as_missing": True},
    "nothing is missing": {"trees": 40, "leaves": 15, "n_features": 8, "use_missing": False},
    "monotone": {"trees": 40, "leaves": 15, "n_features": 5, "monotone_constraints": [1, -1, 0, 1, 0]},
    "averaged": {
        "trees": 20, "leaves": 15, "n_features": 8, "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5,
    },
    "dropped out": {"trees": 20, "leaves": 15, "n_features": 8, "boosting": "dart"},
    "weighed leaves": {"trees": 20, "leaves": 15, "n_features": 8, "learning_rate": 5.0, "max_bin": 7},
}  # fmt: skip


def judged(n_features: int, seed: int = 3) -> Rows:
    """Rows to score: like those trained on, all null, all zero, tiny numbers around LightGBM's zero, and huge ones."""
    zero = float(np.float32(1e-35))  # where LightGBM's zero ends, and many a threshold of its models stands
    tiny = (0.0, -0.0, 1e-35, 1.1e-35, -9e-36, zero, -zero, np.nextafter(-zero, -1.0), 5e-324)
    odd = [np.full(n_features, value) for value in (np.nan, *tiny, 1e300, -1e300)]
    return np.concatenate((make_rows(60, n_features, seed), np.array(odd)))


def assert_same(text: bytes, rows: Rows) -> None:
    """Margins to the bit, contributions to 1e-9 of the margin's scale and adding up to it."""
    scorer, booster = TreeScorer(text, rows.shape[1]), lightgbm.Booster(model_str=text.decode())
    margins = np.array([scorer.margin(row) for row in rows])
    assert margins.tolist() == booster.predict(rows, raw_score=True).tolist()
    contributions = np.array([scorer.contributions(row) for row in rows])
    scale = max(1.0, float(np.abs(margins).max()))
    np.testing.assert_allclose(contributions, booster.predict(rows, pred_contrib=True), rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(contributions.sum(axis=1), margins, rtol=0, atol=1e-9 * scale)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_forest_of_any_shape_scores_and_explains_as_lightgbm_does(shape: str) -> None:
    """Whatever the trees look like, margins are LightGBM's bits and contributions its values."""
    given = dict(SHAPES[shape])
    n_features, trees, leaves = given.pop("n_features"), given.pop("trees"), given.pop("leaves")
    assert_same(text_of(make_model(make_rows(1_000, n_features, 2), trees, leaves, **given)), judged(n_features))


@pytest.mark.parametrize("seed", range(6))
def test_forests_drawn_at_random_agree(seed: int) -> None:
    """Sizes, missing values, depths and row samples drawn by chance change nothing about it."""
    rng = np.random.default_rng(seed)
    n_features = int(rng.integers(1, 30))
    booster = make_model(
        make_rows(800, n_features, seed, zeros=rng.random() / 2, nulls=rng.random() / 2),
        int(rng.integers(1, 40)), int(rng.integers(2, 60)), seed,
        zero_as_missing=bool(rng.integers(2)), max_depth=int(rng.integers(2, 20)), min_data_in_leaf=1,
        bagging_freq=1, bagging_fraction=0.7, extra_trees=bool(rng.integers(2)),
    )  # fmt: skip
    assert_same(text_of(booster), judged(n_features, seed))


def test_the_shipped_scorecard_agrees() -> None:
    """So does the model that the shipped policy rests on."""
    text = next(SHIPPED.glob("*/model.txt")).read_bytes()
    width = int(re.findall(rb"max_feature_idx=(\d+)", text)[0]) + 1
    assert_same(text, judged(width))


def test_a_threshold_beyond_all_numbers_tells_null_from_known() -> None:
    """A split at inf sends every known value left and a null to the right."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(2_000, 1))
    rows[::2] = np.nan
    label = np.isnan(rows[:, 0]).astype(int)
    parameters = {"objective": "binary", "verbosity": -1, "num_leaves": 2}
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows, label), 2)
    text = text_of(booster)
    text = re.sub(rb"(?m)^threshold=.*$", b"threshold=inf", text)
    text = re.sub(rb"(?m)^decision_type=.*$", b"decision_type=8", text)
    assert_same(text, np.array([[np.nan], [1e300], [-1e300], [0.0]]))


def test_trees_of_one_leaf_only_add_to_what_is_expected() -> None:
    """A constant is nobody's contribution."""
    booster = lightgbm.train(
        {"objective": "binary", "verbosity": -1}, lightgbm.Dataset(np.ones((100, 3)), np.arange(100) % 4 == 0), 1
    )
    text = re.sub(rb"(?m)^leaf_value=.*$", b"leaf_value=0.25", text_of(booster))
    assert_same(text, np.zeros((1, 3)))
    assert TreeScorer(text, 3).contributions(np.zeros(3)).tolist() == [0.0, 0.0, 0.0, 0.25]


def test_nodes_without_training_rows_divide_nothing_by_zero(small_model: Trained) -> None:
    """Leaf counts of nothing leave every contribution finite, and their sum the margin."""
    for count in (b"0 0 0 0 0 0 0 0", b"5 0 0 0 0 0 0 0", b"0 0 0 1 0 0 0 2"):
        text = re.sub(rb"(?m)^leaf_count=.*$", b"leaf_count=" + count, small_model.text)
        scorer = TreeScorer(text, 5)
        for row in small_model.rows[:50]:
            assert scorer.contributions(row).sum() == pytest.approx(scorer.margin(row), abs=1e-12)


def by_definition(text: bytes, row: Rows) -> npt.NDArray[np.float64]:
    """Shapley values from all coalitions, each valued by a walk that averages over what is not in it."""
    booster = lightgbm.Booster(model_str=text.decode())
    trees = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]

    def value(node: dict[str, Any], known: frozenset[int]) -> float:
        if "leaf_value" in node:
            return float(node["leaf_value"])
        left, right = node["left_child"], node["right_child"]
        if node["split_feature"] in known:
            x = row[node["split_feature"]]
            goes_left = node["default_left"] if np.isnan(x) else x <= node["threshold"]
            return value(left if goes_left else right, known)
        counts = [child.get("leaf_count", child.get("internal_count")) for child in (left, right)]
        return float((counts[0] * value(left, known) + counts[1] * value(right, known)) / sum(counts))

    everyone, n = range(len(row)), len(row)
    phi = np.zeros(n + 1)
    for size in range(n + 1):
        for coalition in map(frozenset, combinations(everyone, size)):
            worth = sum(value(tree, coalition) for tree in trees)
            for j in everyone:
                if j in coalition:
                    phi[j] += worth * factorial(size - 1) * factorial(n - size) / factorial(n)
                else:
                    phi[j] -= worth * factorial(size) * factorial(n - size - 1) / factorial(n)
    phi[n] = sum(value(tree, frozenset()) for tree in trees)
    return phi


def test_contributions_are_shapley_values_by_their_definition(small_model: Trained) -> None:
    """They equal the weighted sum over all coalitions of the five features."""
    scorer = TreeScorer(small_model.text, 5)
    for row in small_model.rows[:4]:
        np.testing.assert_allclose(scorer.contributions(row), by_definition(small_model.text, row), atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 16, 24, 64])
def test_points_and_weights_integrate_polynomials_exactly(count: int) -> None:
    """Degree 2 * count - 1 is integrated to the last digits, with positive weights and points inside (0, 1)."""
    points, weights = gauss_legendre(count)
    assert min(weights) > 0.0
    assert 0.0 < min(points) <= max(points) < 1.0
    for degree in (0, 1, count, 2 * count - 1):
        integral = sum(w * t**degree for t, w in zip(points, weights, strict=True))
        assert integral == pytest.approx(1 / (degree + 1), rel=1e-13)


def changed(key: str, value: str) -> Any:
    """A model with one key of its first tree, or of its head, changed."""
    return lambda text: re.sub(rf"(?m)^{key}=.*$", f"{key}={value}", text, count=1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed("num_cat", "1"), "tree 0 splits by categories"),
        (changed("is_linear", "1"), "tree 0 has linear models"),
        (changed("num_class", "3"), "3 classes"),
        (changed("version", "v1"), "version 'v1'"),
        (changed("max_feature_idx", "7"), "last feature is 7, 5 are expected"),
        (changed("num_leaves", "9"), "7 numbers of split_feature, 8 are expected"),
        (changed("num_leaves", "0"), "0 are expected|-1"),
        (changed("num_leaves", "x"), "no readable num_leaves"),
        (changed("decision_type", "1 2 2 2 2 2 2"), "by categories"),
        (changed("decision_type", "2 2 14 2 2 2 2"), "unknown decision type"),
        (changed("split_feature", "0 1 2 3 4 5 0"), "unknown feature"),
        (changed("threshold", "0 0 nan 0 0 0 0"), "a threshold that is no number"),
        (changed("leaf_value", "0 0 0 inf 0 0 0 0"), "a leaf that is no number"),
        (changed("leaf_count", "1 1 1 -1 1 1 1 1"), "impossible count"),
        (changed("leaf_count", "1 1 1 1e300 1 1 1 1"), "impossible count"),
        (changed("left_child", "0 0 0 0 0 0 0"), "leads nowhere, or back"),
        (changed("left_child", "1 2 3 4 5 6 -" + "9" * 30), "a number of left_child that is too large"),
        (changed("decision_type", "2 2 2 2 2 2 " + "9" * 30), "a number of decision_type that is too large"),
        (changed("num_cat", "0\nleaf_value=1 2 3 4 5 6 7 8"), "leaf_value stands twice"),
        (changed("left_child", "1 99 3 4 5 6 -1"), "leads nowhere, or back"),
        (changed("left_child", "-1 -1 -1 -1 -1 -1 -1"), "two ways to it, or none"),
        (lambda text: text[: len(text) // 2].partition("end of trees")[0], "no end of them"),
    ],
)  # fmt: skip
def test_what_cannot_be_walked_is_refused(small_model: Trained, spoil: Any, message: str) -> None:
    """A text that says what the arrays cannot hold, or would lead the walk astray, is an error before any walk."""
    with pytest.raises(UnsupportedTrees, match=message):
        TreeScorer(spoil(small_model.text.decode()).encode(), 5)


def chain(splits: int, trees: int = 1, n_features: int = 4) -> bytes:
    """Trees that are one long path: whoever is at most 0.5 leaves it at the first split."""
    count, way = splits + 1, [str(k) for k in range(splits + 1)]
    keys = {
        "num_leaves": str(count), "num_cat": "0", "split_feature": " ".join(str(k % n_features) for k in range(splits)),
        "split_gain": "1 " * splits, "threshold": "0.5 " * splits, "decision_type": "2 " * splits,
        "left_child": " ".join(str(~k) for k in range(splits)), "right_child": " ".join([*way[1:splits], str(-count)]),
        "leaf_value": " ".join(f"{k / count}" for k in range(count)), "leaf_weight": "1 " * count,
        "leaf_count": "1 " * count, "internal_value": "0 " * splits, "internal_weight": "0 " * splits,
        "internal_count": " ".join(str(count - k) for k in range(splits)), "is_linear": "0", "shrinkage": "1",
    }  # fmt: skip
    body = "".join(f"{key}={value.strip()}\n" for key, value in keys.items()) + "\n\n"
    blocks = [f"Tree={number}\n{body}" for number in range(trees)]
    head = {
        "version": "v4", "num_class": "1", "num_tree_per_iteration": "1", "label_index": "0",
        "max_feature_idx": str(n_features - 1), "objective": "binary sigmoid:1",
        "feature_names": " ".join(NAMES[:n_features]), "feature_infos": " ".join(["[-9:9]"] * n_features),
        "tree_sizes": " ".join(str(len(block)) for block in blocks),
    }  # fmt: skip
    lines = "".join(f"{key}={value}\n" for key, value in head.items())
    tail = "end of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n\npandas_categorical:null\n"
    return f"tree\n{lines}\n{''.join(blocks)}{tail}".encode()


def test_a_path_that_could_only_cost_time_is_refused() -> None:
    """The longest path that is allowed scores and explains as LightGBM does; a longer one is an error."""
    assert_same(chain(DEPTH_MAX), np.array([np.zeros(4), np.ones(4), np.full(4, np.nan)]))
    with pytest.raises(UnsupportedTrees, match=f"tree 0 has a path of {DEPTH_MAX + 1} splits"):
        TreeScorer(chain(DEPTH_MAX + 1), 4)
    with pytest.raises(UnsupportedTrees, match="its first 501 trees have 250,500 splits"):
        TreeScorer(chain(500, trees=501), 4)


def test_a_model_that_is_slow_only_where_no_golden_row_goes_is_refused(tmp_path: Path) -> None:
    """LightGBM leaves each path at once on trial; what serves is timed by itself."""
    n_features = len(NAMES)
    text = chain(DEPTH_MAX, trees=120, n_features=n_features)
    rows = np.zeros((50, n_features))
    rows[:, 1] = 1.0
    rows[::2, 0] = 1.0  # the second split tells these from the others, at no cost
    rows[::2, 1] = 0.0
    model = Trained(text, rows, lightgbm.Booster(model_str=text.decode()).predict(rows, raw_score=True))
    with pytest.raises(ScorecardRejected, match="us a score here; at most 40 us"):
        load_scorecard(write_scorecard(tmp_path, model), score_us_max=40.0)


def test_a_scorecard_of_such_a_model_is_refused_by_name(tmp_path: Path) -> None:
    """LightGBM scores its golden rows well, and yet it does not load: what could not be explained does not serve."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(1_000, len(NAMES)))
    data = lightgbm.Dataset(rows, (rows[:, 0] > 0).astype(int), feature_name=list(NAMES))
    booster = lightgbm.train({"objective": "binary", "linear_tree": True, "verbosity": -1, "num_threads": 1}, data, 3)
    model = Trained(text_of(booster), rows, booster.predict(rows, raw_score=True))
    with pytest.raises(ScorecardRejected, match="is not supported: tree 0 has linear models"):
        load_scorecard(write_scorecard(tmp_path, model))


def test_rows_that_cannot_be_scored_are_refused(small_model: Trained) -> None:
    """An infinity or another width raises, as it does with LightGBM; a row in any memory layout is read as it is."""
    scorer = TreeScorer(small_model.text, 5)
    for call in (scorer.margin, scorer.contributions):
        with pytest.raises(ValueError, match="feature 3 is infinite"):
            call(np.array([0.0, 0.0, 0.0, -np.inf, np.inf]))
        with pytest.raises(ValueError, match="shape"):
            call(np.zeros(4))
    frozen = small_model.rows[:5].copy()
    frozen.setflags(write=False)
    for row, same, column in zip(small_model.rows, frozen, np.asfortranarray(small_model.rows[:5]), strict=False):
        assert scorer.margin(same) == scorer.margin(column) == scorer.margin(row)
        assert (scorer.contributions(column) == scorer.contributions(row)).all()


def test_threads_share_a_scorer_without_seeing_each_others_rows(small_model: Trained) -> None:
    """Nothing of a call outlives it, so calls at the same time give what calls one by one give."""
    scorer, oracle = TreeScorer(small_model.text, 5), LightGbmScorer(small_model.text, 5)
    rows = small_model.rows[:400]
    with ThreadPoolExecutor(4) as pool:
        contributions = list(pool.map(scorer.contributions, rows, chunksize=10))
        margins = list(pool.map(scorer.margin, rows, chunksize=10))
    assert margins == [oracle.margin(row) for row in rows]
    assert all((a == scorer.contributions(row)).all() for a, row in zip(contributions, rows, strict=True))

"""Training a WOE points scorecard: bins by optbinning, a regression on their WOE, a directory that loads."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_files import CONFIG, write_woe_config

from decision_service.core.errors import PolicyRejected
from decision_service.core.scorecards.woe import WoeFeature, WoeModel, WoeScorer
from decision_service.report import Table
from decision_service.train import NothingToLearn, Trained, train
from decision_service.train.bins import bins_of, roundest
from decision_service.train.card.features import features
from decision_service.train.card.points_table import points_table
from decision_service.train.card.subject import subject_of
from decision_service.train.fit import blanked
from decision_service.train.fit_woe import fit_woe
from decision_service.train.model_design import WoeDesign

DESIGN = WoeDesign(
    bins_max=5, bin_share_min=0.02, bin_bads_min=5, iv_min=0.02, validation_share=0.2, null_share=0.02, seed=3
)


def model_of(trained: Trained) -> WoeModel:
    """The points scorecard that a run made, as it was loaded."""
    scorer = trained.scorecard.scorer
    assert isinstance(scorer, WoeScorer)
    return scorer.model


def row_values(feature: WoeFeature) -> list[float]:
    """Null, every cut, what lies right below each, and what lies beyond all."""
    cuts = [one.below for one in feature.bins[:-1]]
    return [math.nan, -1e6, 1e6, *cuts, *(math.nextafter(cut, -math.inf) for cut in cuts)]


def test_a_trained_points_scorecard_loads_and_keeps_its_promises(woe_trained: Trained) -> None:
    """Every coefficient has the right sign, every feature a bin for null, and the dropped ones are named."""
    model, card = model_of(woe_trained), woe_trained.scorecard
    assert tuple(feature.name for feature in model.features) == card.names == woe_trained.config.names
    assert all(feature.coefficient < 0.0 and feature.missing is not None for feature in model.features)
    assert (card.manifest.model_kind, card.manifest.model_file) == ("woe", "model.yaml")
    assert "too little information value: " in card.manifest.training["model"]
    assert woe_trained.metrics["train_auc"] > 0.6
    rows = int(woe_trained.division.train.sum())
    assert {feature.rows for feature in model.features} == {rows}


def test_the_loaded_scorer_gives_the_margins_of_training(woe_trained: Trained) -> None:
    """To the last bit, and the points of a row's bins add up to its score but for their rounding."""
    card, model = woe_trained.scorecard, model_of(woe_trained)
    for row, margin in zip(woe_trained.sample.rows, woe_trained.fitted.margins, strict=True):
        assert card.scorer.margin(row) == margin
        score = card.score(row)
        assert score.points is not None
        added = sum(_points(feature, value) for feature, value in zip(model.features, row, strict=True))
        assert abs(added - score.points) <= (len(model.features) + 1) / 2


def _points(feature: WoeFeature, value: float) -> int:
    assert feature.missing is not None
    return next((one.points for one in feature.bins if value < one.below), feature.missing.points)


def test_scores_equal_optbinnings_and_scikit_learns(woe_trained: Trained) -> None:
    """The score in production is the score in the notebook: nulls and values on a cut included."""
    from optbinning import OptimalBinning
    from sklearn.linear_model import LogisticRegression

    model, trained = model_of(woe_trained), woe_trained
    rng = np.random.default_rng(2)
    rows = np.column_stack([rng.choice(row_values(feature), 400) for feature in model.features])
    seen, bad = _seen(trained), trained.sample.bad[trained.division.train]
    of_rows, of_seen = [], []
    for i, feature in enumerate(model.features):
        cuts = [one.below for one in feature.bins[:-1]]
        binning = OptimalBinning(user_splits=cuts, user_splits_fixed=[True] * len(cuts)).fit(seen[:, i], bad)
        assert binning.splits.tolist() == cuts
        assert feature.missing is not None
        of_rows.append(binning.transform(rows[:, i], metric="woe", metric_missing=feature.missing.woe))
        of_seen.append(binning.transform(seen[:, i], metric="woe", metric_missing=feature.missing.woe))
    regression = LogisticRegression(C=np.inf, tol=1e-9, max_iter=1_000).fit(np.column_stack(of_seen), bad)
    expected = regression.decision_function(np.column_stack(of_rows))
    found = [trained.scorecard.scorer.margin(row) for row in rows]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def _seen(trained: Trained) -> np.ndarray:
    """The training rows as the fit saw them: of all features of the training file, then of those it kept."""
    whole = trained.config
    all_names = [line.split("name: ")[1].split(",")[0] for line in CONFIG.splitlines() if "- {name" in line]
    rows = np.zeros((int(trained.division.train.sum()), len(all_names)))
    kept = [all_names.index(name) for name in whole.names]
    rows[:, kept] = trained.sample.rows[trained.division.train]
    return blanked(rows, DESIGN.null_share, DESIGN.seed)[:, kept]


def test_two_runs_give_identical_bytes(woe_trained: Trained, tmp_path: Path) -> None:
    """A points scorecard is a function of its training file."""
    again = train(write_woe_config(tmp_path), None, lambda _text: None)
    for name in ("model.yaml", "manifest.yaml"):
        assert (again.directory / name).read_bytes() == (woe_trained.directory / name).read_bytes()


@pytest.mark.slow
def test_the_command_keeps_its_output_clean(woe_trained: Trained, tmp_path: Path) -> None:
    """What libraries say while they load is on neither stream, so `--json` is nothing but JSON."""
    command = [sys.executable, "-m", "decision_service", "train", "--config", str(write_woe_config(tmp_path)), "--json"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert json.loads(done.stdout)["features"] == list(woe_trained.scorecard.names)
    assert "CVXPY" not in done.stderr
    assert "Traceback" not in done.stderr


# --- choosing ---------------------------------------------------------------------------------------------------------


def refit(trained: Trained, rows: np.ndarray, bad: np.ndarray, names: Sequence[str]) -> tuple[Trained, list[str]]:
    """The run with another sample under other names, and what was said meanwhile."""
    features = tuple(replace(trained.config.features[0], name=name, monotone=0) for name in names)
    config = replace(trained.config, features=features, model=DESIGN)
    said: list[str] = []
    parts = np.arange(len(bad)) % 4
    division = replace(trained.division, train=parts < 2, validate=parts == 2, calibrate=parts == 2, judge=parts == 3)
    fitted = fit_woe(replace(trained.sample, rows=rows, bad=bad), config, division, said.append)
    return replace(trained, fitted=fitted), said


def test_a_feature_that_the_others_explain_leaves(woe_trained: Trained) -> None:
    """It would get the wrong sign; the rest are fitted again, and the run says which one left."""
    rng = np.random.default_rng(4)
    risk = rng.normal(size=6_000)
    shadow = risk + 0.5 * rng.normal(size=6_000)
    bad = (2.0 * risk - shadow + rng.normal(size=6_000) > 2.0).astype(np.int8)
    again, said = refit(woe_trained, np.column_stack([risk, shadow]), bad, ("risk", "shadow"))
    assert again.fitted.names == ("risk",)
    assert any(text.startswith("shadow leaves: its coefficient beside the others is ") for text in said)
    assert "explained by the others: shadow" in again.fitted.about


def test_noise_is_left_out_and_a_feature_that_knows_the_outcome_is_not_warned_of_twice(woe_trained: Trained) -> None:
    """IV below `iv_min` is useless; that above 0.5 is suspect, the run says of every kind of model (`run`)."""
    rng = np.random.default_rng(5)
    bad = (rng.random(8_000) < 0.2).astype(np.int8)
    rows = np.column_stack([bad + rng.normal(size=8_000), rng.integers(0, 3, 8_000)])
    again, said = refit(woe_trained, rows, bad, ("leak", "noise"))
    assert again.fitted.names == ("leak",)
    assert not any(text.startswith("warning:") for text in said)
    assert any("; left out: noise 0.0" in text for text in said)
    with pytest.raises(NothingToLearn, match="no feature has an information value"):
        refit(woe_trained, rows[:, 1:], bad, ("noise",))


# --- bins -------------------------------------------------------------------------------------------------------------


def test_bins_count_and_weigh_what_is_in_them() -> None:
    """WOE and IV of a table that can be added up by hand."""
    values = np.repeat([1.0, 2.0, np.nan], [400, 400, 200])
    bad = np.zeros(1_000, np.int8)
    bad[:10], bad[400:470], bad[800:820] = 1, 1, 1
    bins = bins_of("x", values, bad, 1, DESIGN)
    assert bins.cuts == (2.0,)
    assert (bins.rows.tolist(), bins.bads.tolist()) == ([400, 400, 200], [10, 70, 20])
    woe = [math.log((390 / 900) / 0.10), math.log((330 / 900) / 0.70), math.log((180 / 900) / 0.20)]
    np.testing.assert_allclose(bins.woe, woe, atol=1e-6)
    assert bins.iv == pytest.approx((390 / 900 - 0.1) * woe[0] + (330 / 900 - 0.7) * woe[1], abs=1e-6)
    assert bins.woe_of(np.array([1.999, 2.0, np.nan])).tolist() == bins.woe.tolist()


@pytest.mark.parametrize(("nulls", "bads"), [(0, 0), (7, 0), (7, 7), (4, 2)])
def test_a_bin_of_null_that_knows_little_is_near_the_average(nulls: int, bads: int) -> None:
    """Finite without bads or without goods, 0 without rows, and never better or worse than its rows could tell."""
    values = np.repeat([1.0, 2.0, np.nan], [500, 500, nulls])
    bad = np.zeros(len(values), np.int8)
    bad[:20], bad[500:600], bad[1_000 : 1_000 + bads] = 1, 1, 1
    bins = bins_of("x", values, bad, 0, DESIGN)
    odds = (len(bad) - bad.sum()) / bad.sum()
    expected = math.log((nulls - bads + 5 * odds) / (bads + 5) / odds)
    assert bins.woe[-1] == pytest.approx(expected, abs=1e-6)
    assert nulls > 0 or bins.woe[-1] == 0.0


@pytest.mark.parametrize("values", [np.zeros(200), np.full(200, np.nan), np.repeat([0.0, np.nan], 100)])
def test_a_feature_that_cannot_be_cut_has_one_bin(values: np.ndarray) -> None:
    """One value, none, or one beside nulls: no cut, finite numbers, next to no information."""
    bad = (np.arange(200) % 10 == 0).astype(np.int8)
    bins = bins_of("x", values, bad, 1, DESIGN)
    assert bins.cuts == ()
    assert np.isfinite(bins.woe).all()
    assert bins.iv < 0.01


@settings(max_examples=60, deadline=None)
@given(shares=st.lists(st.floats(0.02, 0.6), min_size=3, max_size=12), monotone=st.sampled_from([1, -1]))
def test_bins_keep_the_declared_direction(shares: list[float], monotone: int) -> None:
    """Whatever the data say, the share of bads never goes the other way from one bin to the next."""
    rng = np.random.default_rng(len(shares))
    values = np.repeat(np.arange(len(shares), dtype=float), 150)
    bad = (rng.random(len(values)) < np.repeat(shares, 150)).astype(np.int8)
    bins = bins_of("x", values, bad, monotone, DESIGN)
    assert np.all(np.diff(bins.woe[:-1]) * monotone <= 0.0)
    assert len(bins.cuts) < DESIGN.bins_max


@settings(max_examples=300, deadline=None)
@given(low=st.floats(-1e9, 1e9), high=st.floats(-1e9, 1e9), part=st.floats(0.01, 1.0))
def test_a_rounded_cut_divides_the_same_values(low: float, high: float, part: float) -> None:
    """It lies above the value before it and not above the one after, with as few digits as that takes."""
    if low == high:
        return
    known = np.array(sorted((low, high)))
    cut = float(known[0] + part * (known[1] - known[0]))
    rounded = roundest(known, cut)
    assert np.array_equal(known >= rounded, known >= cut) or not known[0] < cut <= known[1]
    assert len(repr(rounded)) <= len(repr(cut)) + 2


@pytest.mark.parametrize(
    ("low", "high", "cut", "rounded"),
    [(0.0, 1.0, 0.5, 1.0), (0.63, 0.64, 0.634999, 0.64), (0.29, 0.31, 0.2965, 0.3), (940.0, 1_080.0, 1_010.0, 1_000.0)],
)
def test_a_cut_is_the_roundest_that_does(low: float, high: float, cut: float, rounded: float) -> None:
    """People read `below: 0.3`, not `below: 0.29650000482797623`."""
    assert roundest(np.array([low, high]), cut) == rounded


# --- the training file ------------------------------------------------------------------------------------------------


def test_what_does_not_go_with_a_points_scorecard_is_said(tmp_path: Path) -> None:
    """Trees are LightGBM's, and points add up under Platt only."""
    path = write_woe_config(tmp_path)
    text = path.read_text().replace("bins_max: 5", "trees: 300, bins_max: 1")
    path.write_text(text.replace("features:\n", "calibration: isotonic\nfeatures:\n"))
    with pytest.raises(PolicyRejected) as caught:
        train(path, None, lambda _text: None)
    for said in ("train.model has no key 'trees'", "train.model.bins_max is wrong", "does not go with kind: woe"):
        assert said in caught.value.message


def test_the_card_of_a_points_scorecard_holds_its_points(woe_trained: Trained) -> None:
    """Every bin of every feature with its points; and there are no trees to count splits of."""
    subject = subject_of(woe_trained)
    (table,) = (block for block in points_table(subject).blocks if isinstance(block, Table))
    bins = [(f"`{feature.name}`", one.points) for feature in model_of(woe_trained).features for one in feature.all_bins]
    assert [(row[0], row[2]) for row in table.rows] == bins
    assert {row[1] for row in table.rows if row[1] == "null"} == {"null"}
    (listed, _) = (block for block in features(subject).blocks if isinstance(block, Table))
    assert "splits" not in listed.columns
    assert sorted(str(row[0]).strip("`") for row in listed.rows) == sorted(woe_trained.scorecard.names)

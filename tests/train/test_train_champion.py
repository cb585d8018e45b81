"""The new scorecard beside the one in use; promises, calibration, and what each feature tells by itself."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from sklearn.metrics import roc_auc_score
from test_train_table import REST, SOURCE, prepared, silent

from decision_service.cli import train as train_command
from decision_service.core.scorecards.scaling import Isotonic, Platt
from decision_service.train import NothingToLearn, Trained, train
from decision_service.train.calibrate import calibrate
from decision_service.train.champion import _Auc
from decision_service.train.characteristics import characteristics, information_value
from decision_service.train.promises import check_promises, tree_keeps
from decision_service.train.run import Against, NotBetter

SPARE = SOURCE.replace("split: part", "split: {column: part, train: [spare, train], judge: [judge]}")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models with a weak scorecard in use, which knows `used` alone."""
    root = tmp_path_factory.mktemp("champion")
    weak = REST.replace("  - {name: late, reason: RC31, monotone: 1}\n", "")
    train(prepared(root, rest=weak), root / "models", silent)
    return root


def newer(root: Path, version: str) -> Path:
    """A training file of another version."""
    path = prepared(root)
    path.write_text(path.read_text().replace("1.0.0", version))
    return path


def test_a_stronger_scorecard_beats_the_one_in_use(root: Path) -> None:
    """Both figures of the judged rows that both score, an interval above 0, each row in one cell of the migration."""
    trained = train(newer(root, "2.0.0"), root / "models", silent, Against(must_beat=True))
    used = trained.sample.rows[:, trained.config.names.index("used")]
    found = trained.comparison
    assert found is not None
    assert (found.version, found.better) == ("1.0.0", True)
    assert found.auc_gain_low < found.auc_gain < found.auc_gain_high
    assert found.auc_gain == pytest.approx(found.new.auc - trained.metrics["champion_auc"])
    assert sum(found.migration.values()) == found.rows == int((trained.division.judge & ~np.isnan(used)).sum())
    assert not any("champion" in name for name in trained.scorecard.manifest.metrics)


def test_what_is_not_better_is_not_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same model again gains nothing: exit status 1, and no directory that would be in use at once."""
    parser = argparse.ArgumentParser()
    train_command.add_arguments(parser)
    arguments = ["--config", str(newer(root, "3.0.0")), "--models", str(root / "models"), "--require-better"]
    train(newer(root, "2.0.0"), root / "models", silent)
    arguments[1] = str(newer(root, "3.0.0"))
    assert train_command.run(parser.parse_args(arguments)) == 1
    assert "not better than 2.0.0" in capsys.readouterr().err
    assert not (root / "models" / "cards" / "3.0.0").exists()


def test_a_champion_of_features_the_sample_lacks_is_said_and_not_guessed(root: Path) -> None:
    """It cannot be compared with, which is not the same as being beaten."""
    names = "{name: recent, reason: RC31, monotone: 1}"
    table = parquet.read_table(root / "rows.parquet")
    path = prepared(root, rest=REST.replace("{name: late, reason: RC31, monotone: 1}", names), recent=table["late"])
    path.write_text(path.read_text().replace("1.0.0", "9.0.0"))
    older = train(path, root / "other", silent, Against(nothing=True)).directory
    said: list[str] = []
    trained = train(newer(root, "9.1.0"), root / "other", said.append, Against(older))
    assert trained.comparison is None
    assert any("cannot be compared with: the sample lacks recent" in line for line in said)
    with pytest.raises(NotBetter, match="nothing shows"):
        train(newer(root, "9.2.0"), root / "other", silent, Against(older, must_beat=True))


def test_weighted_auc_equals_scikit_learns() -> None:
    """Ties and weights as they should be, for the interval rests on it."""
    rng = np.random.default_rng(0)
    score, bad = rng.integers(0, 20, 500).astype(float), (rng.random(500) < 0.3).astype(np.int8)
    for weights in (np.ones(500), rng.integers(0, 4, 500).astype(float)):
        assert _Auc(score, bad).of(weights) == pytest.approx(roc_auc_score(bad, score, sample_weight=weights))


def test_a_broken_promise_is_no_scorecard(root: Path) -> None:
    """A model trained without the constraint does not pass for one that was trained with it."""
    trained = train(newer(root, "4.0.0"), root / "spare", silent, Against(nothing=True))
    check_promises(trained.config, trained.fitted, trained.sample.rows)
    features = tuple(replace(each, monotone=-each.monotone) for each in trained.config.features)
    with pytest.raises(NothingToLearn, match="promise that the PD only falls with late"):
        check_promises(replace(trained.config, features=features), trained.fitted, trained.sample.rows)


def leaf(value: float) -> dict[str, object]:
    """A leaf as LightGBM dumps one."""
    return {"leaf_value": value}


def split(feature: int, cut: float, left: dict[str, object], right: dict[str, object]) -> dict[str, object]:
    """A split as LightGBM dumps one."""
    return {"split_feature": feature, "threshold": cut, "left_child": left, "right_child": right}


def test_a_tree_is_held_to_every_pair_of_leaves_that_rows_can_reach() -> None:
    """Leaves that no two rows differing in the feature alone can reach are free."""
    rising = split(0, 1.0, leaf(-1.0), leaf(1.0))
    assert tree_keeps(rising, 0, 1)
    assert not tree_keeps(rising, 0, -1)
    assert tree_keeps(rising, 1, -1)
    apart = split(1, 5.0, split(0, 1.0, leaf(3.0), leaf(4.0)), split(0, 2.0, leaf(0.0), leaf(1.0)))
    assert tree_keeps(apart, 0, 1)  # 3 stands below 1 in feature 0, but on the other side of feature 1
    under = split(0, 1.0, split(1, 5.0, leaf(0.0), leaf(3.0)), split(1, 9.0, leaf(1.0), leaf(2.0)))
    assert not tree_keeps(under, 0, 1)  # between 5 and 9 of feature 1 it falls from 3 to 1


def test_calibration_comes_true_and_an_isotonic_table_has_few_strict_knots() -> None:
    """Both ways find the odds that made the outcomes; the table rises strictly from 3 to 20 knots."""
    rng = np.random.default_rng(1)
    margins = rng.normal(-3.0, 1.5, 20_000)
    bad = (rng.random(20_000) < 1 / (1 + np.exp(-(0.8 * margins - 0.2)))).astype(np.int8)
    platt, table = calibrate("platt", margins, bad), calibrate("isotonic", margins, bad)
    assert isinstance(platt, Platt)
    assert (platt.a, platt.b) == pytest.approx((0.8, -0.2), abs=0.08)
    assert isinstance(table, Isotonic)
    assert 3 <= len(table.margins) <= 20
    assert (np.diff(table.pds) > 0).all()
    assert (np.diff(table.margins) > 0).all()
    for margin in (-5.0, -3.0, -1.0):
        assert table.pd(margin) == pytest.approx(platt.pd(margin), rel=0.35)
    with pytest.raises(NothingToLearn):
        calibrate("isotonic", -margins, bad)


def test_a_feature_that_knows_the_outcome_is_suspected(root: Path) -> None:
    """Information value by hand for two bins, and a warning above one half."""
    bad = np.repeat(np.array([0, 1, 0, 1], np.int8), [80, 5, 20, 15])
    values = np.repeat([0.0, 1.0], [85, 35])
    goods, bads = np.array([80.5, 20.5]) / 101, np.array([5.5, 15.5]) / 21
    assert information_value(values, bad) == pytest.approx(float(np.sum((goods - bads) * np.log(goods / bads))))
    (one, two) = characteristics(("a", "b"), np.column_stack([values, -values]), bad)
    assert one.suspect
    assert (one.alike, two.alike) == ("b", "a")
    assert one.correlation == pytest.approx(-1.0)
    trained = train(newer(root, "5.0.0"), root / "spare", silent, Against(nothing=True))
    assert any(warning.startswith("late has IV") for warning in trained.warnings)


def test_the_sample_is_kept_for_a_notebook(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every row with its part, its outcome and what the scorecard says of it; the summary tells the rest."""
    parser = argparse.ArgumentParser()
    train_command.add_arguments(parser)
    kept, config = root / "kept.parquet", newer(root, "6.0.0")
    arguments = ["--config", str(config), "--models", str(root / "kept"), "--keep-sample", str(kept), "--json"]
    assert train_command.run(parser.parse_args(arguments)) == 0
    summary = json.loads(capsys.readouterr().out)
    rows = parquet.read_table(kept)
    assert rows.num_rows == sum(summary["sample"].values())
    judged = rows.filter(np.array(rows["part"].to_pylist()) == "oot")
    auc = roc_auc_score(judged["bad"].to_numpy(), judged["pd"].to_numpy())
    assert auc == pytest.approx(summary["metrics"]["oot_auc"])
    assert [each["name"] for each in summary["characteristics"]] == ["late", "used"]
    assert summary["champion"] is None
    assert set(rows.column_names) >= {"late", "used", "margin", "points", "grade", "observed_at"}


def test_a_champion_of_another_target_is_warned_of(root: Path) -> None:
    """Both are judged by the new one's outcome, which the old one never promised to predict."""
    path = newer(root, "8.0.0")
    path.write_text(path.read_text().replace("performance_d: 30", "performance_d: 60"))
    trained = train(path, root / "other", silent, Against(root / "models" / "cards" / "1.0.0"))
    said = "the champion 1.0.0 predicts label default within 30 days, and is compared by label default within 60 days"
    assert said in trained.warnings


def test_grades_out_of_order_are_warned_of(root: Path) -> None:
    """Bad rates that fall where grades get worse are told, from the training file's own grades."""
    path = newer(root, "7.0.0")
    path.write_text(path.read_text() + "grades: {good: 560, fair: 540, bad: 300}\n")
    trained: Trained = train(path, root / "grades", silent, Against(nothing=True))
    assert list(trained.grade_bad_rates) == ["good", "fair", "bad"]
    rates = [rate for rate in trained.grade_bad_rates.values() if not np.isnan(rate)]
    assert (rates == sorted(rates)) == (not any(warning.startswith("grade") for warning in trained.warnings))

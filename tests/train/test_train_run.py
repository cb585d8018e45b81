"""Training from raw events to a scorecard that loads."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from decision_service.cli import models as models_command
from decision_service.cli import train as train_command
from decision_service.core.errors import PolicyRejected
from decision_service.scorecards.files import load_scorecards
from decision_service.train import Trained, train
from decision_service.train.config import read_train_config
from decision_service.train.events_source import definitions_of
from decision_service.train.write import write_directory


def silent(_text: str) -> None:
    """Say nothing."""


def test_the_trained_scorecard_loads_tells_good_from_bad_and_keeps_its_promises(trained: Trained) -> None:
    """It is found beside its training file, ranks out of time, and no monotone promise is broken."""
    models = trained.directory.parent.parent
    card = load_scorecards(models)["behaviour"]
    assert trained.directory == models / "behaviour" / "1.0.0"
    assert card.names[:2] == ("use", "late_max_180d")
    assert trained.metrics["oot_auc"] > 0.65
    assert sum(trained.grade_shares.values()) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    golden = np.array([row.inputs for row in card.manifest.golden])
    for i, feature in enumerate(card.manifest.features):
        if feature.monotone:
            for row in golden:
                ladder = sorted(rng.uniform(0.0, 60.0, 20))
                margins = [card.scorer.margin(np.concatenate([row[:i], [x], row[i + 1 :]])) for x in ladder]
                assert np.all(np.diff(margins) * feature.monotone >= 0)


def test_scores_equal_lightgbms_own_predictions(trained: Trained) -> None:
    """The score in production is the score in the notebook."""
    card = trained.scorecard
    booster = lightgbm.Booster(model_file=str(trained.directory / "model.txt"))
    rng = np.random.default_rng(1)
    rows = rng.uniform(0.0, 40.0, (500, len(card.names)))
    rows[rng.random(rows.shape) < 0.2] = np.nan
    rows[:, 0] = 0.5
    margins = booster.predict(rows, raw_score=True)
    for row, margin in zip(rows, margins, strict=True):
        score = card.score(row)
        assert score.pd == pytest.approx(card.manifest.calibration.pd(float(margin)), abs=1e-12)


def test_a_newer_training_replaces_the_older_one_whole(tmp_path: Path) -> None:
    """The directory never holds files of two runs, nothing is left beside it, and equal files are left alone."""
    version = tmp_path / "behaviour" / "1"
    for model, manifest in ((b"old", "old"), (b"new", "new")):
        assert write_directory(version, "model.txt", model, manifest)
        assert [path.read_bytes() for path in sorted(version.iterdir())] == [model, model]
        assert not write_directory(version, "model.txt", model, manifest)
    assert [path.name for path in version.parent.iterdir()] == ["1"]


def test_an_unknown_feature_is_named_with_its_nearest(config_path: Path) -> None:
    """The message names the feature and what was probably meant."""
    config_path.write_text(config_path.read_text().replace("name: ok_cnt_7d", "name: ok_count_7d"))
    with pytest.raises(PolicyRejected, match=r"'ok_count_7d'(.|\n)*did you mean `ok_cnt_"):
        train(config_path, None, silent)


def test_a_redefined_feature_changes_the_digest_and_a_comment_does_not(config_path: Path) -> None:
    """The manifest can tell a feature redefined under its old name."""
    rules = config_path.parent.parent.parent / "rules"
    original = (rules / "features.yaml").read_text()
    head, _, _ = config_path.read_text().partition("features:")
    config_path.write_text(head + "features: [{name: use, reason: RC30}, {name: amt_trend, reason: RC20}]\n")

    def digest(text: str) -> str:
        (rules / "features.yaml").write_text(text)
        return definitions_of(read_train_config(config_path))

    first = digest(original)
    assert digest("# another comment\n" + original.replace("draws", "drawdowns")) == first
    assert digest(original.replace('kind == "inquiry"', 'kind == "touch"')) == first
    assert digest(original.replace('"drawdown" and settled', '"drawdown" and booked')) != first
    assert (
        digest(original.replace("facility.outstanding / facility.limit", "facility.reserved / facility.limit")) != first
    )


def test_two_runs_give_identical_bytes_and_the_command_says_what_they_are(
    trained: Trained, config_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model and its manifest are a function of the training file, whichever way it is run."""
    parser = argparse.ArgumentParser()
    train_command.add_arguments(parser)
    assert train_command.run(parser.parse_args(["--config", str(config_path), "--json"])) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["scorecard"], summary["version"], summary["changed"]) == ("behaviour", "1.0.0", True)
    again = Path(summary["directory"])
    cards = ["model_card.html", "model_card.md", "model_card_figures"]
    assert sorted(path.name for path in again.iterdir()) == ["manifest.yaml", "model.txt", *cards]
    for name in ("manifest.yaml", "model.txt"):
        assert (again / name).read_bytes() == (trained.directory / name).read_bytes()


def test_models_check_tells_good_from_torn(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text and as JSON, with an exit status a pipeline can use."""
    models = tmp_path / "models"
    shutil.copytree(trained.directory, models / "behaviour" / "1.0.0")
    parser = argparse.ArgumentParser()
    models_command.add_arguments(parser)
    assert models_command.run(parser.parse_args(["check", str(models)])) == 0
    assert re.search(r"1\.0\.0: good, 7 features, \d+ golden rows, AUC 0\.", capsys.readouterr().out)
    model = models / "behaviour" / "1.0.0" / "model.txt"
    model.write_bytes(model.read_bytes()[:-50])
    assert models_command.run(parser.parse_args(["check", str(models), "--json"])) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding["active"]
    assert "SHA-256" in finding["problem"]
    assert models_command.run(parser.parse_args(["check", str(models / "nowhere")])) == 2


def test_a_wrong_training_file_reports_everything_at_once(
    config_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each mistake with its line, and exit status 2."""
    text = config_path.read_text().replace("trees: 40", "trees: many").replace("reason: RC31", "reason: RC99")
    text = text.replace("until: 2026-11-01T00:00:00+08:00", "until: yesterday").replace(
        "out_of_time: 2", "out_of_tim: 2"
    )
    text = text.replace("name: ok_cnt_7d", "name: ok_count_7d")
    config_path.write_text(text)
    parser = argparse.ArgumentParser()
    train_command.add_arguments(parser)
    assert train_command.run(parser.parse_args(["--config", str(config_path)])) == 2
    said = capsys.readouterr().err
    for part in ("train.model.trees is wrong", "'RC99'", "is no instant: 'yesterday'", "did you mean `out_of_time`?",
                 "unknown feature 'ok_count_7d'"):  # fmt: skip
        assert part in said


def test_a_sample_without_bads_makes_no_scorecard(config_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Too little to learn from is a message and exit status 1, not a model."""
    config_path.write_text(config_path.read_text().replace("customers: 350", "customers: 50"))
    parser = argparse.ArgumentParser()
    train_command.add_arguments(parser)
    assert train_command.run(parser.parse_args(["--config", str(config_path)])) == 1
    assert "no scorecard: the " in capsys.readouterr().err
    assert not (config_path.parent / "1.0.0").exists()

"""One training run, from the training file to a checked scorecard directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.scorecard_files import load_scorecard
from decision_service.train.config import TrainConfig, read_train_config
from decision_service.train.division import Division, divide
from decision_service.train.evaluate import quality
from decision_service.train.events_source import read_observations
from decision_service.train.fit import fit
from decision_service.train.fit_woe import fit_woe
from decision_service.train.fitted import Fitted, NothingToLearn
from decision_service.train.model_design import WoeDesign
from decision_service.train.sample import Sample
from decision_service.train.sources import TableSource
from decision_service.train.table_source import read_table
from decision_service.train.trained import Trained
from decision_service.train.training_texts import training_texts
from decision_service.train.write import MODEL_FILES, manifest_text, write_directory

Floats = npt.NDArray[np.float64]


def train(config_path: Path, models_dir: Path | None, say: Callable[[str], None]) -> Trained:
    """Train what a training file describes and put it in `<models_dir>/<scorecard>/<version>/`.

    `models_dir` None means: the directory above the training file's. `say` is told about progress. The finished
    directory is loaded back through every check before this returns. Raises PolicyRejected, InvalidInput,
    NothingToLearn, ScorecardRejected.
    """
    config = read_train_config(config_path)
    sample = read_sample(config, say)
    division = sample.given or divide(
        sample.customer, sample.out_of_time, config.model.validation_share, config.model.seed
    )
    _check_division(sample, division, say)
    fitted = (fit_woe if isinstance(config.model, WoeDesign) else fit)(sample, config, division, say)
    config, sample = _kept(config, sample, fitted.names)
    pds, points = _scores(config, fitted)
    metrics = _metrics(sample, division, pds, points)
    directory = (models_dir or config_path.parent.parent) / config.scorecard / config.version
    text = manifest_text(config, sample, division, fitted, points, training_texts(config, sample, fitted), metrics)
    changed = write_directory(directory, MODEL_FILES[fitted.model_kind], fitted.model_text, text)
    say(f"loading {directory} through every check")
    card = load_scorecard(directory)
    shares = _grade_shares(card, points[division.judge])
    return Trained(config, sample, division, fitted, directory, card, pds, points, None, metrics, shares, changed)


def read_sample(config: TrainConfig, say: Callable[[str], None]) -> Sample:
    """The sample of a training file's source."""
    if isinstance(config.source, TableSource):
        return read_table(config.source, config.names, config.model.validation_share, say)
    return read_observations(config, say)


def _check_division(sample: Sample, division: Division, say: Callable[[str], None]) -> None:
    for name, rows in division.parts():
        bads = int(sample.bad[rows].sum())
        say(f"{name}: {int(rows.sum()):,} rows, {bads:,} bad")
        if not 0 < bads < rows.sum():
            raise NothingToLearn(f"the {name} rows hold {bads} bads among {int(rows.sum())}")


def _kept(config: TrainConfig, sample: Sample, names: tuple[str, ...]) -> tuple[TrainConfig, Sample]:
    """The training file and the sample as if they had held no other features than the model kept."""
    if names == config.names:
        return config, sample
    columns = [config.names.index(name) for name in names]
    features = tuple(config.features[i] for i in columns)
    return replace(config, features=features), replace(sample, rows=sample.rows[:, columns])


def _scores(config: TrainConfig, fitted: Fitted) -> tuple[Floats, Floats]:
    """PDs and points of all rows."""
    pds = np.array([fitted.calibration.pd(float(margin)) for margin in fitted.margins])
    return pds, np.array([float(config.scaling.points(float(pd))) for pd in pds])


def _metrics(sample: Sample, division: Division, pds: Floats, points: Floats) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, rows in division.parts():
        if name != "calibration":
            metrics |= quality(pds[rows], sample.bad[rows]).as_metrics(name)
    metrics["oot_points_mean"] = float(np.mean(points[division.judge]))
    return metrics


def _grade_shares(card: Scorecard, points: Floats) -> dict[str, float]:
    grades = [card.manifest.grades.of(int(each)) for each in points]
    return {name: grades.count(name) / len(grades) for name in card.manifest.grades.names}

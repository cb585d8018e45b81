"""One training run, from the training file to a checked scorecard directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from decision_service.core.scorecards.scaling import Scaling
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.zone import zone_named
from decision_service.portfolio import generate
from decision_service.scorecard_files import load_scorecard
from decision_service.train.config import TrainConfig, read_train_config
from decision_service.train.evaluate import quality
from decision_service.train.fit import Fitted, fit
from decision_service.train.sample import RowReader, Sample, draw_sample
from decision_service.train.write import manifest_text, write_directory


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run produced. `changed` is False if the directory already held these very bytes."""

    directory: Path
    scorecard: Scorecard
    trees: int
    metrics: Mapping[str, float]
    grade_shares: Mapping[str, float]  # of the out-of-time rows
    changed: bool


def train(config_path: Path, models_dir: Path | None, say: Callable[[str], None]) -> Trained:
    """Train what a training file describes and put it in `<models_dir>/<scorecard>/<version>/`.

    `models_dir` None means: the directory above the training file's. `say` is told about progress. The finished
    directory is loaded back through every check before this returns. Raises PolicyRejected, NothingToLearn,
    ScorecardRejected.
    """
    config = read_train_config(config_path)
    zone = zone_named(config.zone)
    reader = RowReader(config.features_from, config.names, zone)
    say(f"generating {config.portfolio.customers:,} customers, seed {config.portfolio.seed}")
    histories = generate(config.portfolio).customers
    sample = draw_sample(histories, config.portfolio.now_ms, config.sample, reader, say)
    fitted = fit(sample, config.features, config.model, say)
    metrics = _metrics(sample, fitted)
    directory = (models_dir or config_path.parent.parent) / config.scorecard / config.version
    text = manifest_text(config, sample, fitted, _training(config, sample, fitted, reader), metrics)
    changed = write_directory(directory, fitted.model_text, text)
    say(f"loading {directory} through every check")
    card = load_scorecard(directory)
    return Trained(directory, card, fitted.trees, metrics, _grade_shares(card, sample, fitted), changed)


def _metrics(sample: Sample, fitted: Fitted) -> dict[str, float]:
    scaling, division = Scaling(), fitted.division
    pd = np.array([fitted.platt.pd(float(margin)) for margin in fitted.margins])
    metrics: dict[str, float] = {}
    for name, rows in (("train", division.train), ("validation", division.validate), ("oot", division.judge)):
        metrics |= quality(pd[rows], sample.bad[rows]).as_metrics(name)
    metrics["oot_points_mean"] = float(np.mean([scaling.points(float(p)) for p in pd[division.judge]]))
    return metrics


def _training(config: TrainConfig, sample: Sample, fitted: Fitted, reader: RowReader) -> dict[str, str]:
    import lightgbm

    design, plan = config.sample, config.portfolio
    return {
        "data": f"generated portfolio: {plan.customers} customers, {plan.days} days, seed {plan.seed}",
        "observed_from": _day(int(sample.observed_at_ms.min())),
        "observed_until": _day(int(sample.observed_at_ms.max())),
        "performance_days": str(design.performance_d),
        "bad": f"{design.bad_dpd} or more days past due within the performance window",
        "excluded": f"younger than {design.days_on_book_min} days; over {design.days_past_due_max} days past due",
        "out_of_time": f"the newest {design.out_of_time} of {design.observations} observations; half the customers "
        "calibrate, the other half give the oot figures",
        "model": f"LightGBM {lightgbm.__version__}, {fitted.trees} trees of at most {config.model.leaves} leaves",
        "null_share": f"{config.model.null_share!r} of training values blanked at random",
        "config_sha256": config.sha256,
        "definitions_sha256": reader.definitions_sha256,
    }


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).date().isoformat()


def _grade_shares(card: Scorecard, sample: Sample, fitted: Fitted) -> dict[str, float]:
    scores = [card.read(float(margin)).grade for margin in fitted.margins[fitted.division.judge]]
    return {name: scores.count(name) / len(scores) for name in card.manifest.grades.names}

"""One training run, from the training file to a checked scorecard directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.scorecards.files import load_scorecard
from decision_service.train.champion import Comparison, compare, find_champion, scored
from decision_service.train.characteristics import IV_SUSPECT, Characteristic, characteristics
from decision_service.train.config import TrainConfig, read_train_config
from decision_service.train.division import Division, divide
from decision_service.train.evaluate import quality
from decision_service.train.events_source import read_observations
from decision_service.train.extra import need_libraries
from decision_service.train.fit import fit
from decision_service.train.fit_woe import fit_woe
from decision_service.train.fitted import Fitted, NothingToLearn
from decision_service.train.model_design import WoeDesign
from decision_service.train.promises import check_promises
from decision_service.train.sample import Sample
from decision_service.train.sources import TableSource
from decision_service.train.table_source import read_table
from decision_service.train.trained import Trained
from decision_service.train.training_texts import training_texts
from decision_service.train.write import MODEL_FILES, manifest_text, write_directory

Floats = npt.NDArray[np.float64]


class NotBetter(NothingToLearn):
    """The new scorecard was asked to beat the champion, and did not show that it does."""


@dataclass(frozen=True, slots=True)
class Against:
    """What a new scorecard is compared with: the scorecard in `directory`, or the version in use; or nothing."""

    directory: Path | None = None
    nothing: bool = False
    must_beat: bool = False  # or nothing is written


def train(
    config_path: Path, models_dir: Path | None, say: Callable[[str], None], against: Against | None = None
) -> Trained:
    """Train what a training file describes and put it in `<models_dir>/<scorecard>/<version>/`.

    `models_dir` None means: the directory above the training file's. `say` is told about progress. The finished
    directory is loaded back through every check before this returns. Raises PolicyRejected, InvalidInput,
    NothingToLearn, ScorecardRejected, TrainExtraMissing.
    """
    config = read_train_config(config_path)
    need_libraries("woe" if isinstance(config.model, WoeDesign) else "lightgbm")
    models_dir, against = models_dir or config_path.parent.parent, against or Against()
    rival = None if against.nothing else find_champion(config, models_dir, against.directory, say)
    sample = read_sample(config, () if rival is None else rival.names, say)
    division = sample.given or divide(
        sample.customer, sample.out_of_time, config.model.validation_share, config.model.seed
    )
    _check_division(sample, division, say)
    told = characteristics(config.names, sample.rows[division.train], sample.bad[division.train])
    fitted = (fit_woe if isinstance(config.model, WoeDesign) else fit)(sample, config, division, say)
    champion = None if rival is None else scored(rival, config, sample, say)
    config, sample = _kept(config, sample, fitted.names)
    check_promises(config, fitted, sample.rows[division.train])
    pds, points = _scores(config, fitted)
    if np.ptp(pds[division.judge]) == 0.0:
        raise NothingToLearn("the model gives all judged rows the same PD")
    comparison = None if champion is None else compare(config, sample, division.judge, pds, points, champion)
    _require_better(against, rival, comparison)
    metrics = _metrics(sample, division, pds, points)
    directory = models_dir / config.scorecard / config.version
    text = manifest_text(config, sample, division, fitted, points, training_texts(config, sample, fitted), metrics)
    changed = write_directory(directory, MODEL_FILES[fitted.model_kind], fitted.model_text, text)
    say(f"loading {directory} through every check")
    card = load_scorecard(directory)
    grades = _grades(card, points[division.judge])
    rates = _bad_rates(card, grades, sample.bad[division.judge])
    warnings = (*_suspects(told), *_disorder(rates), *_other_target(config, rival))
    for warning in warnings:
        say(f"warning: {warning}")
    return Trained(
        config, sample, division, fitted, directory, card, pds, points, champion,
        metrics if comparison is None else metrics | comparison.as_metrics(),
        {name: grades.count(name) / len(grades) for name in card.manifest.grades.names}, changed, comparison, told,
        rates, warnings,
    )  # fmt: skip


def read_sample(config: TrainConfig, others: tuple[str, ...], say: Callable[[str], None]) -> Sample:
    """The sample of a training file's source, with what it has of `others` (features of the champion) besides."""
    others = tuple(name for name in others if name not in config.names)
    if isinstance(config.source, TableSource):
        return read_table(config.source, config.names, others, config.model.validation_share, say)
    return read_observations(config, others, say)


def _require_better(against: Against, rival: Scorecard | None, comparison: Comparison | None) -> None:
    if not against.must_beat or rival is None:
        return
    if comparison is None:
        raise NotBetter(f"{rival.name} {rival.version} cannot be compared with, so nothing shows that this is better")
    if not comparison.better:
        gain = f"{comparison.auc_gain_low:+.4f} to {comparison.auc_gain_high:+.4f}"
        aucs = f"AUC {comparison.new.auc:.4f} beside {comparison.champion.auc:.4f}"
        raise NotBetter(f"not better than {rival.version}: {aucs}, a gain of {gain}")


def _suspects(told: tuple[Characteristic, ...]) -> Iterator[str]:
    for each in told:
        if each.suspect:
            yield f"{each.name} has IV {each.iv:.2f}, above {IV_SUSPECT:g}: does it know the outcome already?"


def _other_target(config: TrainConfig, rival: Scorecard | None) -> Iterator[str]:
    theirs = None if rival is None else rival.manifest.target
    if rival is not None and theirs is not None and theirs != config.target:
        yield f"the champion {rival.version} predicts {theirs}, and is compared by {config.target or 'another outcome'}"


def _disorder(rates: Mapping[str, float]) -> Iterator[str]:
    known = [(grade, rate) for grade, rate in rates.items() if not np.isnan(rate)]
    for (better, low), (worse, high) in pairwise(known):
        if high < low:
            yield f"grade {worse} has a bad rate of {high:.2%}, below {low:.2%} of {better}"


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


def _grades(card: Scorecard, points: Floats) -> list[str]:
    return [card.manifest.grades.of(int(each)) for each in points]


def _bad_rates(card: Scorecard, grades: list[str], bad: npt.NDArray[np.int8]) -> dict[str, float]:
    """The bad rate of every grade, NaN for one without a row."""
    named = np.array(grades)
    found = {name: bad[named == name] for name in card.manifest.grades.names}
    return {name: float(rows.mean()) if len(rows) else float("nan") for name, rows in found.items()}

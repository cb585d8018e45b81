"""Writing a trained scorecard: its model and `manifest.yaml` in a directory that appears all at once.

Everything written follows from the training file, so the bytes are the same on every run. Numbers are written with
`repr`, which reads back exactly.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.distribution import cuts_of
from decision_service.core.scorecards.drift import counts_of
from decision_service.core.scorecards.manifest import ModelKind
from decision_service.core.scorecards.model_numbers import numbers_digest
from decision_service.core.scorecards.scaling import Calibration, Platt
from decision_service.scorecards.files import MANIFEST_FILE
from decision_service.train.config import TrainConfig
from decision_service.train.division import Division
from decision_service.train.fitted import Fitted
from decision_service.train.golden import covering, leaves_of
from decision_service.train.sample import Sample

MODEL_FILES: Final[Mapping[ModelKind, str]] = {"lightgbm": "model.txt", "woe": "model.yaml"}
GOLDEN_ROWS: Final = 20
COVERING_ROWS: Final = 400  # at most, besides; 208 trees of 4,000 leaves need 124
_HEAD: Final = "# Written by `decision-service train`; a change by hand makes the scorecard unloadable.\n"

Floats = npt.NDArray[np.float64]


def manifest_text(
    config: TrainConfig, sample: Sample, division: Division, fitted: Fitted, points: Floats,
    training: Mapping[str, str], metrics: Mapping[str, float],
) -> str:  # fmt: skip
    """The manifest of a fitted model; `points` are those of all rows."""
    scaling = config.scaling
    grades = dict(zip(config.grades.names, (*config.grades.points_from, scaling.points_min), strict=True))
    return "".join(
        (
            _HEAD,
            f"scorecard: {config.scorecard}\nversion: {_quoted(config.version)}\n",
            f"model: {{kind: {fitted.model_kind}, file: {MODEL_FILES[fitted.model_kind]}, "
            f"sha256: {sha256(fitted.model_text).hexdigest()}{_digest(fitted)}}}\n",
            *_about(config),
            "features:\n", *_feature_lines(config, sample.rows[division.train]),
            f"calibration: {{{_calibration(fitted.calibration)}}}\n",
            f"scaling: {{base_points: {scaling.base_points!r}, base_odds: {scaling.base_odds!r}, pdo: {scaling.pdo!r}, "
            f"points_min: {scaling.points_min}, points_max: {scaling.points_max}}}\n",
            f"grades: {{{', '.join(f'{name}: {least}' for name, least in grades.items())}}}\n",
            "training:\n", *(f"  {key}: {_quoted(value)}\n" for key, value in training.items()),
            "metrics:\n", *(f"  {key}: {round(value, 6)!r}\n" for key, value in metrics.items()),
            f"score: {{rows: {int(division.train.sum())}, null_rate: 0.0, {_spread(points[division.train])}}}\n",
            "golden:\n", *_golden_lines(config, fitted, sample, division),
        )
    )  # fmt: skip


def _digest(fitted: Fitted) -> str:
    return f", numbers: {numbers_digest(fitted.model_text)}" if fitted.model_kind == "lightgbm" else ""


def _feature_lines(config: TrainConfig, rows: Floats) -> Iterable[str]:
    for i, feature in enumerate(config.features):
        column = rows[:, i]
        null_rate = float(np.isnan(column).mean())
        nulls = "allowed" if null_rate > 0.0 or config.model.null_share > 0.0 else "refused"
        yield (
            f"  - {{name: {feature.name}, reason: {feature.reason}, monotone: {feature.monotone}, nulls: {nulls}, "
            f"null_rate: {round(null_rate, 6)!r}, {_spread(column)}}}\n"
        )


def _about(config: TrainConfig) -> Iterable[str]:
    yield f"grain: {config.grain}\n"
    if config.spec is None:
        yield "inputs: table\n"
    target = config.target
    if target is not None:
        what = f"label: {_quoted(target.label or '')}" if target.bad_dpd is None else f"bad_dpd: {target.bad_dpd}"
        of = "" if target.of is None else f", of: {target.of}"
        yield f"target: {{{what}, performance_d: {target.performance_d}{of}}}\n"


def _calibration(calibration: Calibration) -> str:
    if isinstance(calibration, Platt):
        return f"method: platt, a: {calibration.a!r}, b: {calibration.b!r}"
    return f"method: isotonic, margins: {_numbers(calibration.margins)}, pds: {_numbers(calibration.pds)}"


def _spread(values: Floats) -> str:
    """Deciles and shares, as `core.scorecards.distribution` reads them."""
    known = values[~np.isnan(values)]
    if not len(known):
        return "deciles: []"
    deciles = [float(x) for x in np.quantile(known, np.arange(1, 10) / 10)]
    shares = counts_of(cuts_of(deciles), known)[:-1] / len(known)
    return f"deciles: {_numbers(deciles)}, shares: {_numbers(np.round(shares, 6))}"


def _golden_lines(config: TrainConfig, fitted: Fitted, sample: Sample, division: Division) -> Iterable[str]:
    """Rows from the safest to the riskiest that were never trained on, one with half of it blanked, and of all rows
    those that together stand in every leaf (`golden`)."""
    known = ~np.isnan(sample.rows).all(axis=1)
    judge = np.flatnonzero(division.judge & known)
    order = judge[np.argsort(fitted.margins[judge], kind="stable")]
    rows = sample.rows[order[np.linspace(0, len(order) - 1, GOLDEN_ROWS - 1).astype(int)]]
    half = np.where(np.arange(rows.shape[1]) % 2 == 0, np.nan, rows[len(rows) // 2])
    covers: Floats = rows[:0]
    if fitted.model_kind == "lightgbm":
        covers = sample.rows[covering(leaves_of(fitted.model_text, sample.rows), COVERING_ROWS)]
    for row in [*rows, half, *covers]:
        if np.isnan(row).all():
            continue  # which nothing scores
        margin = fitted.scorer.margin(np.ascontiguousarray(row))
        pd = fitted.calibration.pd(margin)
        yield f"  - {{inputs: {_numbers(row)}, margin: {margin!r}, pd: {pd!r}, points: {config.scaling.points(pd)}}}\n"


def _numbers(values: Sequence[float] | Floats) -> str:
    return "[" + ", ".join("null" if np.isnan(x) else repr(float(x)) for x in values) + "]"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def write_directory(directory: Path, model_file: str, model_text: bytes, manifest: str) -> bool:
    """Put both files in place, replacing an older training of the same version; False if nothing changed."""
    files = {model_file: model_text, MANIFEST_FILE: manifest.encode()}
    if all((directory / name).is_file() and (directory / name).read_bytes() == data for name, data in files.items()):
        return False
    fresh = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, data in files.items():
        (fresh / name).write_bytes(data)
    if directory.exists():
        stale = directory.with_name(f".{directory.name}.old")
        shutil.rmtree(stale, ignore_errors=True)
        directory.rename(stale)
        fresh.rename(directory)
        shutil.rmtree(stale)
    else:
        fresh.rename(directory)
    return True

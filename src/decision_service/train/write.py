"""Writing a trained scorecard: `model.txt` and `manifest.yaml` in a directory that appears all at once.

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

from decision_service.core.scorecards.scaling import STANDARD_GRADES, Scaling
from decision_service.scorecard_files import MANIFEST_FILE
from decision_service.scorer import LightGbmScorer
from decision_service.train.config import TrainConfig
from decision_service.train.fit import Fitted
from decision_service.train.sample import Sample

MODEL_FILE: Final = "model.txt"
GOLDEN_ROWS: Final = 20
_HEAD: Final = "# Written by `decision-service train`; a change by hand makes the scorecard unloadable.\n"

Floats = npt.NDArray[np.float64]


def manifest_text(
    config: TrainConfig, sample: Sample, fitted: Fitted, training: Mapping[str, str], metrics: Mapping[str, float]
) -> str:
    """The manifest of a fitted model."""
    scaling = Scaling()
    points = np.array([scaling.points(fitted.platt.pd(float(m))) for m in fitted.margins[fitted.division.train]])
    grades = dict(zip(STANDARD_GRADES.names, (*STANDARD_GRADES.points_from, scaling.points_min), strict=True))
    return "".join(
        (
            _HEAD,
            f"scorecard: {config.scorecard}\nversion: {_quoted(config.version)}\n",
            f"model: {{file: {MODEL_FILE}, sha256: {sha256(fitted.model_text).hexdigest()}}}\n",
            "features:\n", *_feature_lines(config, sample.rows[fitted.division.train]),
            f"calibration: {{method: platt, a: {fitted.platt.a!r}, b: {fitted.platt.b!r}}}\n",
            f"scaling: {{base_points: {scaling.base_points!r}, base_odds: {scaling.base_odds!r}, pdo: {scaling.pdo!r}, "
            f"points_min: {scaling.points_min}, points_max: {scaling.points_max}}}\n",
            f"grades: {{{', '.join(f'{name}: {least}' for name, least in grades.items())}}}\n",
            "training:\n", *(f"  {key}: {_quoted(value)}\n" for key, value in training.items()),
            "metrics:\n", *(f"  {key}: {round(value, 6)!r}\n" for key, value in metrics.items()),
            f"score: {{null_rate: 0.0, deciles: {_numbers(_deciles(points))}}}\n",
            "golden:\n", *_golden_lines(fitted, sample),
        )
    )  # fmt: skip


def _feature_lines(config: TrainConfig, rows: Floats) -> Iterable[str]:
    for i, feature in enumerate(config.features):
        column = rows[:, i]
        null_rate = float(np.isnan(column).mean())
        nulls = "allowed" if null_rate > 0.0 or config.model.null_share > 0.0 else "refused"
        yield (
            f"  - {{name: {feature.name}, reason: {feature.reason}, monotone: {feature.monotone}, nulls: {nulls}, "
            f"null_rate: {round(null_rate, 6)!r}, deciles: {_numbers(_deciles(column))}}}\n"
        )


def _deciles(values: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> list[float]:
    known = values[~np.isnan(values)]
    return [float(x) for x in np.quantile(known, np.arange(1, 10) / 10)] if len(known) else []


def _golden_lines(fitted: Fitted, sample: Sample) -> Iterable[str]:
    """Rows from the safest to the riskiest that were never trained on, and one with half of it blanked."""
    judge = np.flatnonzero(fitted.division.judge)
    order = judge[np.argsort(fitted.margins[judge], kind="stable")]
    rows = sample.rows[order[np.linspace(0, len(order) - 1, GOLDEN_ROWS - 1).astype(int)]]
    half = np.where(np.arange(rows.shape[1]) % 2 == 0, np.nan, rows[len(rows) // 2])
    scorer = LightGbmScorer(fitted.model_text, rows.shape[1])
    scaling = Scaling()
    for row in [*rows, half]:
        margin = scorer.margin(np.ascontiguousarray(row))
        pd = fitted.platt.pd(margin)
        yield f"  - {{inputs: {_numbers(row)}, margin: {margin!r}, pd: {pd!r}, points: {scaling.points(pd)}}}\n"
    scorer.close()


def _numbers(values: Sequence[float] | Floats) -> str:
    return "[" + ", ".join("null" if np.isnan(x) else repr(float(x)) for x in values) + "]"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def write_directory(directory: Path, model_text: bytes, manifest: str) -> bool:
    """Put both files in place, replacing an older training of the same version; False if nothing changed."""
    files = {MODEL_FILE: model_text, MANIFEST_FILE: manifest.encode()}
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

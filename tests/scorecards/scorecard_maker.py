"""Makes small real scorecards on disk for the tests."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import lightgbm
import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.scaling import Platt, Scaling

NAMES = ("utl_now", "dpd_max_90d", "inq_cnt_30d", "draw_cnt_30d", "amt_30d")
PLATT = Platt(0.9, -0.1)


@dataclass(frozen=True)
class Trained:
    """A model as text, rows it may be tried on, and LightGBM's own raw scores of them."""

    text: bytes
    rows: npt.NDArray[np.float64]
    margins: npt.NDArray[np.float64]


def train(trees: int, leaves: int, *, n_rows: int = 4_000) -> Trained:
    """A binary model on noise with some signal and some nulls."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(n_rows, len(NAMES)))
    log_odds = rows[:, 0] + 0.5 * rows[:, 1] ** 2 + rng.normal(size=n_rows) - 1.5
    rows[rng.random(rows.shape) < 0.1] = np.nan
    data = lightgbm.Dataset(rows, (log_odds > 0).astype(int), feature_name=list(NAMES))
    parameters = {"objective": "binary", "num_leaves": leaves, "verbosity": -1, "num_threads": 1, "seed": 1}
    booster = lightgbm.train(parameters | {"min_data_in_leaf": 5, "learning_rate": 0.05}, data, trees)
    return Trained(booster.model_to_string().encode(), rows, booster.predict(rows, raw_score=True))


def manifest_text(model: Trained, *, names: tuple[str, ...] = NAMES, golden_rows: int = 8) -> str:
    """A manifest that fits the model."""
    features = "\n".join(
        f"  - {{name: {name}, reason: RC30, monotone: 0, nulls: allowed, null_rate: 0.1, deciles: []}}"
        for name in names
    )
    return (
        f"scorecard: behaviour\nversion: '1'\n"
        f"model: {{file: model.txt, sha256: {sha256(model.text).hexdigest()}}}\nfeatures:\n{features}\n"
        f"calibration: {{method: platt, a: {PLATT.a!r}, b: {PLATT.b!r}}}\n"
        "scaling: {base_points: 600, base_odds: 50, pdo: 20, points_min: 300, points_max: 850}\n"
        "grades: {A: 660, B: 620, C: 580, D: 540, E: 300}\n"
        "training: {window: 2025-01-01 to 2025-12-31}\nmetrics: {auc: 0.8}\n"
        "score: {null_rate: 0.0, deciles: []}\n"
        "golden:\n" + "\n".join(_golden(model, i) for i in range(golden_rows)) + "\n"
    )


def _golden(model: Trained, i: int) -> str:
    inputs = ", ".join("null" if np.isnan(x) else repr(float(x)) for x in model.rows[i])
    margin = float(model.margins[i])
    pd = PLATT.pd(margin)
    return f"  - {{inputs: [{inputs}], margin: {margin!r}, pd: {pd!r}, points: {Scaling().points(pd)}}}"


def write_scorecard(directory: Path, model: Trained, manifest: str | None = None) -> Path:
    """A version directory `<directory>/behaviour/1` holding the model and a manifest."""
    version = directory / "behaviour" / "1"
    version.mkdir(parents=True)
    (version / "model.txt").write_bytes(model.text)
    (version / "manifest.yaml").write_text(manifest_text(model) if manifest is None else manifest)
    return version

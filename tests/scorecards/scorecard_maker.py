"""Makes small real scorecards on disk for the tests."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import lightgbm
import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.model_numbers import numbers_digest
from decision_service.core.scorecards.scaling import Platt, Scaling
from decision_service.train.golden import covering, leaves_of

NAMES = ("utl_now", "dpd_max_90d", "inq_cnt_30d", "draw_cnt_30d", "amt_30d")
PLATT = Platt(0.9, -0.1)


@dataclass(frozen=True)
class Trained:
    """A model as text, rows it may be tried on, and LightGBM's own raw scores of them."""

    text: bytes
    rows: npt.NDArray[np.float64]
    margins: npt.NDArray[np.float64]


def train(trees: int, leaves: int, *, n_rows: int = 4_000, offset: float = 0.0) -> Trained:
    """A binary model on noise with some signal and some nulls; `offset` is added to every value it is trained on."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(n_rows, len(NAMES)))
    log_odds = rows[:, 0] + 0.5 * rows[:, 1] ** 2 + rng.normal(size=n_rows) - 1.5
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows += offset
    data = lightgbm.Dataset(rows, (log_odds > 0).astype(int), feature_name=list(NAMES))
    parameters = {"objective": "binary", "num_leaves": leaves, "verbosity": -1, "num_threads": 1, "seed": 1}
    booster = lightgbm.train(parameters | {"min_data_in_leaf": 5, "learning_rate": 0.05}, data, trees)
    return Trained(booster.model_to_string().encode(), rows, booster.predict(rows, raw_score=True))


def manifest_text(
    model: Trained, *, names: tuple[str, ...] = NAMES, golden_rows: int = 8, version: str = "1", platt: Platt = PLATT,
    nulls: str = "allowed", expected: Platt | None = None, numbers: bool = False,
    deciles: bool = False,
) -> str:  # fmt: skip
    """A manifest that fits the model. `golden_rows` are the first rows, and behind them those that stand in every leaf;
    `expected`: the calibration whose points it says are to be expected; `numbers`: with the digest of its trees;
    `deciles`: with the distribution of its points."""
    golden = [*range(golden_rows), *covering(leaves_of(model.text, model.rows), 100)]
    digest = f", numbers: {numbers_digest(model.text)}" if numbers else ""
    points = [Scaling().points((expected or platt).pd(float(margin))) for margin in model.margins]
    cuts = ", ".join(repr(float(cut)) for cut in np.quantile(points, np.arange(1, 10) / 10)) if deciles else ""
    features = "\n".join(
        f"  - {{name: {name}, reason: RC30, monotone: 0, nulls: {nulls}, null_rate: 0.1, deciles: []}}"
        for name in names
    )
    return (
        f"scorecard: behaviour\nversion: '{version}'\n"
        f"model: {{file: model.txt, sha256: {sha256(model.text).hexdigest()}{digest}}}\nfeatures:\n{features}\n"
        f"calibration: {{method: platt, a: {platt.a!r}, b: {platt.b!r}}}\n"
        "scaling: {base_points: 600, base_odds: 50, pdo: 20, points_min: 300, points_max: 850}\n"
        "grades: {A: 660, B: 620, C: 580, D: 540, E: 300}\n"
        "training: {window: 2025-01-01 to 2025-12-31}\nmetrics: {auc: 0.8}\n"
        f"score: {{null_rate: 0.0, deciles: [{cuts}]}}\n"
        "golden:\n" + "\n".join(_golden(model, i, platt) for i in golden) + "\n"
    )


def _golden(model: Trained, i: int, platt: Platt) -> str:
    inputs = ", ".join("null" if np.isnan(x) else repr(float(x)) for x in model.rows[i])
    margin = float(model.margins[i])
    pd = platt.pd(margin)
    return f"  - {{inputs: [{inputs}], margin: {margin!r}, pd: {pd!r}, points: {Scaling().points(pd)}}}"


def write_scorecard(directory: Path, model: Trained, manifest: str | None = None) -> Path:
    """A version directory `<directory>/behaviour/<version>` holding the model and a manifest; it appears at once."""
    text = manifest_text(model) if manifest is None else manifest
    name = text.split("version: '")[1].split("'")[0]
    fresh = directory / "behaviour" / f".{name}.new"
    fresh.mkdir(parents=True)
    (fresh / "model.txt").write_bytes(model.text)
    (fresh / "manifest.yaml").write_text(text)
    return fresh.rename(directory / "behaviour" / name)

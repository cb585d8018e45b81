"""The scorecard of the assembled stack: `lightgbm.Booster.predict` on one row, then calibration and points.

Reason codes of an adverse answer come from `predict(pred_contrib=True)`, asked for only then (it takes milliseconds).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
import yaml

REASONS_MAX: Final = 4
SHARE_MIN: Final = 0.05


class StackScorecard:
    """A loaded model and its manifest."""

    def __init__(self, folder: Path) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        manifest: dict[str, Any] = yaml.load((folder / "manifest.yaml").read_text(encoding="utf-8"), loader)
        self._booster = lightgbm.Booster(model_file=str(folder / "model.txt"))
        self.names = [feature["name"] for feature in manifest["features"]]
        self._codes = [feature["reason"] for feature in manifest["features"]]
        self._a, self._b = manifest["calibration"]["a"], manifest["calibration"]["b"]
        self._scale = manifest["scaling"]
        self._grades: dict[str, int] = manifest["grades"]

    def row(self, values: Mapping[str, float]) -> np.ndarray:
        """The model's inputs, float64[1, n]."""
        return np.array([[values[name] for name in self.names]], np.float64)

    def score(self, row: np.ndarray) -> tuple[float, float, int, str]:
        """Margin, probability of default, points and grade."""
        margin = float(self._booster.predict(row, raw_score=True, num_threads=1)[0])
        pd = min(max(1 / (1 + math.exp(-(self._a * margin + self._b))), 1e-6), 1 - 1e-6)
        factor = self._scale["pdo"] / math.log(2)
        exact = self._scale["base_points"] - factor * (math.log(self._scale["base_odds"]) + math.log(pd / (1 - pd)))
        points = round(min(max(exact, self._scale["points_min"]), self._scale["points_max"]))
        grade = next((name for name, least in self._grades.items() if points >= least), list(self._grades)[-1])
        return margin, pd, points, grade

    def reasons(self, row: np.ndarray) -> list[str]:
        """The codes that weigh most against the customer, heaviest first."""
        shares = self._booster.predict(row, pred_contrib=True, num_threads=1)[0][:-1]
        sums: dict[str, float] = {}
        for code, share, value in zip(self._codes, shares, row[0], strict=True):
            sums[code] = sums.get(code, 0.0) + (0.0 if math.isnan(value) else float(share))
        against = {code: weight for code, weight in sums.items() if weight > 0}
        total = sum(against.values())
        heaviest = sorted(against, key=lambda code: (-against[code], code))[:REASONS_MAX]
        return [code for code in heaviest if against[code] >= SHARE_MIN * total]

"""How well a score tells good from bad: AUC, KS, and whether its probabilities come true.

`bad` is 1 for bad, 0 for good; a higher `pd` means worse. AUC and KS come from scikit-learn's ROC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Quality:
    """The figures of one sample."""

    rows: int
    bads: int
    auc: float
    ks: float
    brier: float
    pd_mean: float
    calibration_error: float  # mean over ten equal groups of |predicted - observed|, weighted by size

    def as_metrics(self, prefix: str) -> dict[str, float]:
        """The figures under names that start with `prefix`."""
        return {
            f"{prefix}_rows": self.rows, f"{prefix}_bads": self.bads, f"{prefix}_bad_rate": self.bads / self.rows,
            f"{prefix}_auc": self.auc, f"{prefix}_ks": self.ks, f"{prefix}_brier": self.brier,
            f"{prefix}_pd_mean": self.pd_mean, f"{prefix}_calibration_error": self.calibration_error,
        }  # fmt: skip


def quality(pd: Floats, bad: Labels) -> Quality:
    """All figures of one sample, which must hold both goods and bads."""
    from sklearn.metrics import roc_auc_score, roc_curve

    false_positives, true_positives, _ = roc_curve(bad, pd)
    return Quality(
        rows=len(bad),
        bads=int(bad.sum()),
        auc=float(roc_auc_score(bad, pd)),
        ks=float(np.max(true_positives - false_positives)),
        brier=float(np.mean((pd - bad) ** 2)),
        pd_mean=float(pd.mean()),
        calibration_error=calibration_error(pd, bad),
    )


def calibration_error(pd: Floats, bad: Labels, groups: int = 10) -> float:
    """Expected calibration error over groups of equal size by predicted probability."""
    order = np.argsort(pd, kind="stable")
    gaps = [
        len(group) * abs(float(pd[group].mean()) - float(bad[group].mean()))
        for group in np.array_split(order, groups)
        if len(group)
    ]
    return sum(gaps) / len(pd)

"""Scorecards: from a feature vector to points, probability of default and grade.

A scorecard is a trained model with everything needed to trust and read it: its features in order, calibration, points
scaling, grades. The model itself sits behind `Scorer`, because core knows no model library.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Scorer(Protocol):
    """A loaded model: one row in, one raw margin (log-odds of bad) out, and on request what made it up."""

    def margin(self, row: npt.NDArray[np.float64]) -> float:
        """The raw margin of one row of features in manifest order; NaN is null. float64[n_features], contiguous."""
        ...

    def contributions(self, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n_features + 1]: what each feature adds to the margin, and last the margin expected of an unknown
        row; their sum is the margin. For 300 trees x 31 leaves in 300 us; may be called from another thread.
        """
        ...

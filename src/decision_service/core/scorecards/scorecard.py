"""A loaded scorecard: a manifest and the scorer behind it, giving points, PD and grade for one row.

What it refuses to score is as important as what it scores; each refusal is a `Score` of three Nones and a
`problem`:
  * every feature null: the model would answer with its favourite leaf, which is not knowledge;
  * a feature null that never was null in training: LightGBM would read it as 0, and unknown is never 0;
  * a feature infinite, or a margin that is not a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from numba import njit

from decision_service.core.decision import Score
from decision_service.core.scorecards import Scorer
from decision_service.core.scorecards.adverse import Adverse, ReasonCodes
from decision_service.core.scorecards.manifest import Manifest

Row = npt.NDArray[np.float64]


@njit(cache=True)
def _is_scored(row: Row, required: npt.NDArray[np.bool_]) -> bool:
    """Whether nothing of a row is infinite, something is known, and nothing is null that must not be."""
    known, sound = 0, True
    for k in range(row.shape[0]):
        value = row[k]
        if value == value:
            known += 1
            sound &= -np.inf < value < np.inf
        elif required[k]:
            sound = False
    return sound and known > 0


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Scorecard:
    """One version of one scorecard, ready to score."""

    manifest: Manifest
    scorer: Scorer
    _required: npt.NDArray[np.bool_] = field(init=False, repr=False, compare=False)
    _reason_codes: ReasonCodes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        required = [not feature.nulls_allowed for feature in self.manifest.features]
        object.__setattr__(self, "_required", np.array(required, np.bool_))
        object.__setattr__(self, "_reason_codes", ReasonCodes(self.manifest))

    @property
    def name(self) -> str:
        """The scorecard's name: `behaviour`."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The version of the model and everything around it."""
        return self.manifest.version

    @property
    def names(self) -> tuple[str, ...]:
        """The features a row holds, in order."""
        return self.manifest.names

    def score(self, row: Row) -> Score:
        """Points, PD and grade of float64[len(names)], NaN for null."""
        if not _is_scored(row, self._required) and (problem := self._refusal(row)):
            return Score(None, None, None, self.manifest.version, problem)
        return self.read(self.scorer.margin(row))

    def adverse(self, row: Row, contributions: Row) -> tuple[Adverse, ...]:
        """The reason codes that weigh against the customer in the score of a row, heaviest first; `contributions` are
        the scorer's for that row."""
        return self._reason_codes.adverse(row, contributions)

    def read(self, margin: float) -> Score:
        """The score that a raw margin means."""
        if not math.isfinite(margin):
            return Score(None, None, None, self.version, "the model's margin is not a finite number")
        manifest = self.manifest
        pd = manifest.calibration.pd(margin)
        points = manifest.scaling.points(pd)
        return Score(points, pd, manifest.grades.of(points), manifest.version)

    def _refusal(self, row: Row) -> str:
        """Why a row must not be scored, or the empty string."""
        null = np.isnan(row)
        if np.isinf(row).any():
            return f"feature {self.names[int(np.isinf(row).argmax())]} is infinite"
        if null.all():
            return "all features null"
        refused = null & self._required
        return (
            f"feature {self.names[int(refused.argmax())]} is null, which the model never saw" if refused.any() else ""
        )

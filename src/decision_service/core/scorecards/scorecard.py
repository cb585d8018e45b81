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

from decision_service.core.decision import Score
from decision_service.core.scorecards import Scorer
from decision_service.core.scorecards.adverse import Adverse, ReasonCodes
from decision_service.core.scorecards.manifest import Manifest

Row = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Scorecard:
    """One version of one scorecard, ready to score."""

    manifest: Manifest
    scorer: Scorer
    _required: tuple[int, ...] = field(init=False, repr=False)
    _reason_codes: ReasonCodes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        required = (i for i, feature in enumerate(self.manifest.features) if not feature.nulls_allowed)
        object.__setattr__(self, "_required", tuple(required))
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
        finite = int(np.count_nonzero(np.isfinite(row)))
        if finite < len(row) and (problem := self._refusal(row, finite)):
            return Score(None, None, None, self.version, problem)
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
        return Score(points, pd, manifest.grades.of(points), self.version)

    def _refusal(self, row: Row, finite: int) -> str:
        """Why a row with a null or an infinity must not be scored, or the empty string."""
        null = np.isnan(row)
        if finite + np.count_nonzero(null) < len(row):
            return f"feature {self.names[int(np.isinf(row).argmax())]} is infinite"
        if finite == 0:
            return "all features null"
        for i in self._required:
            if null[i]:
                return f"feature {self.names[i]} is null, which the model never saw"
        return ""

"""From a model's raw margin to a calibrated probability of default, points and a grade.

    margin (log-odds of bad, as the model gives it)
      -> pd       calibration: Platt `1 / (1 + exp(-(a * margin + b)))`, or an isotonic table
      -> points   `offset - factor * logit(pd)`, factor = pdo / ln 2, offset = base_points - factor *
      ln(base_odds) -> grade    by points

With base 600 at good:bad odds of 50:1 and PDO 20: factor 28.8539, offset 487.123; a pd of 1/51 gives 600
points, 1/26 gives 580, 1/101 gives 620. Odds are good:bad, so more points are better. A pd is clamped to
[1e-6, 1 - 1e-6] first and points to the scale's ends last.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final

PD_MIN: Final = 1e-6
PD_MAX: Final = 1.0 - PD_MIN
_EXP_ARGUMENT_MAX: Final = 700.0  # exp(710) overflows a double


def clamp_pd(pd: float) -> float:
    """A probability kept away from 0 and 1, where its log-odds are infinite."""
    return PD_MIN if pd < PD_MIN else PD_MAX if pd > PD_MAX else pd


def logistic(log_odds: float) -> float:
    """The probability with these log-odds; never overflows."""
    if log_odds > _EXP_ARGUMENT_MAX:
        log_odds = _EXP_ARGUMENT_MAX
    elif log_odds < -_EXP_ARGUMENT_MAX:
        log_odds = -_EXP_ARGUMENT_MAX
    return 1.0 / (1.0 + math.exp(-log_odds))


@dataclass(frozen=True, slots=True)
class Platt:
    """Logistic calibration: pd = logistic(a * margin + b), a > 0."""

    a: float
    b: float

    def pd(self, margin: float) -> float:
        """Calibrated probability of default, clamped."""
        return clamp_pd(logistic(self.a * margin + self.b))


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Monotone table: linear between the knots, flat beyond them. `margins` rise strictly, `pds` never
    fall.
    """

    margins: tuple[float, ...]
    pds: tuple[float, ...]

    def pd(self, margin: float) -> float:
        """Calibrated probability of default, clamped."""
        right = bisect_right(self.margins, margin)
        if right == 0:
            return clamp_pd(self.pds[0])
        if right == len(self.margins):
            return clamp_pd(self.pds[-1])
        low, high = self.margins[right - 1], self.margins[right]
        share = (margin - low) / (high - low)
        return clamp_pd(self.pds[right - 1] + share * (self.pds[right] - self.pds[right - 1]))


Calibration = Platt | Isotonic


@dataclass(frozen=True, slots=True)
class Scaling:
    """The points scale; `base_odds` are good:bad odds at `base_points`, which double every `pdo` points."""

    base_points: float = 600.0
    base_odds: float = 50.0
    pdo: float = 20.0
    points_min: int = 300
    points_max: int = 850
    factor: float = field(init=False)  # points for one unit of log-odds
    offset: float = field(init=False)  # points at even odds

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", self.pdo / math.log(2.0))
        object.__setattr__(self, "offset", self.base_points - self.factor * math.log(self.base_odds))

    def points(self, pd: float) -> int:
        """Whole points of a probability of default."""
        pd = clamp_pd(pd)
        exact = self.offset - self.factor * math.log(pd / (1.0 - pd))
        if exact < self.points_min:
            return self.points_min
        return self.points_max if exact > self.points_max else round(exact)


@dataclass(frozen=True, slots=True)
class Grades:
    """Grades from best to worst with the fewest points of each; whoever is below all has the last grade."""

    names: tuple[str, ...]
    points_from: tuple[int, ...]  # falls strictly; one for each grade but the last
    _worst_first: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _rising: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_worst_first", self.names[::-1])
        object.__setattr__(self, "_rising", self.points_from[::-1])

    def of(self, points: int) -> str:
        """The grade of so many points."""
        return self._worst_first[bisect_right(self._rising, points)]


STANDARD_GRADES: Final = Grades(("A", "B", "C", "D", "E"), (660, 620, 580, 540))

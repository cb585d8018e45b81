"""A scorecard's drift: its tally against the training distributions that its manifest tells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from decision_service.core.scorecards.drift import NULL_SHIFT_MAX, Drift, drift, null_shift
from decision_service.core.scorecards.manifest import Manifest
from decision_service.watch.tally import NULLS, PD_UNITS, Bins, Counts, Tally

_Z_ONE_PERCENT: Final = 2.5758293035489004


@dataclass(frozen=True, slots=True)
class InputDrift:
    """The points, or one feature, against training. `counts` are of the bins between `cuts`, nulls left out."""

    name: str
    cuts: tuple[float, ...]
    shares: tuple[float, ...]
    counts: tuple[int, ...]
    drift: Drift
    null_rate: float  # NaN if nothing was counted
    null_rate_trained: float
    null_shift: float  # NaN if nothing was counted
    nulls: int

    @property
    def null_alert(self) -> bool:
        """Whether nulls became more or fewer by more than NULL_SHIFT_MAX, and by more than would be so in a hundredth
        of the samples of this size, or fewer, at the null rate of training."""
        n = sum(self.counts) + self.nulls
        pooled = (self.null_rate + self.null_rate_trained) / 2
        chance = _Z_ONE_PERCENT * math.sqrt(pooled * (1 - pooled) / n) if n else math.inf
        return abs(self.null_shift) > max(NULL_SHIFT_MAX, chance)

    @property
    def psi_over_critical(self) -> float:
        """How many times the value of chance PSI is; what tells features of different sizes apart."""
        return self.drift.psi / self.drift.critical if self.drift.critical else math.nan


@dataclass(frozen=True, slots=True)
class CardDrift:
    """All of a scorecard. `features` are in the manifest's order."""

    n: int
    score: InputDrift
    features: tuple[InputDrift, ...]
    grades: dict[str, int]
    pd_mean: float

    @property
    def worst_first(self) -> tuple[InputDrift, ...]:
        """The features by PSI over its critical value, those without a figure last."""
        return tuple(sorted(self.features, key=lambda f: -f.psi_over_critical if f.drift.bins > 1 and f.drift.n else 1))


def card_drift(tally: Tally, bins: Bins) -> CardDrift:
    """What a tally says of a scorecard."""
    manifest = bins.manifest
    shares = (manifest.score_shares, *(f.shares for f in manifest.features))
    nulls = (manifest.score_null_rate, *(f.null_rate for f in manifest.features))
    names = ("points", *manifest.names)
    parts = zip(names, bins.cuts, shares, nulls, tally.bins, strict=True)
    score, *features = (_input_drift(*part, manifest) for part in parts)
    scored = tally.n - sum(count for word, count in tally.words.items() if word.startswith("x:"))
    pd_mean = tally.words["p"] / PD_UNITS / scored if scored else math.nan
    grades = {grade: tally.words[f"g:{grade}"] for grade in manifest.grades.names}
    return CardDrift(tally.n, score, tuple(features), grades, pd_mean)


def _input_drift(
    name: str, cuts: tuple[float, ...], shares: tuple[float, ...], null_rate: float, row: Counts, manifest: Manifest
) -> InputDrift:
    counts = tuple(row[: len(cuts) + 1].tolist())
    nulls = int(row[NULLS])
    n = sum(counts) + nulls
    known_rows = round(manifest.score_rows * (1.0 - null_rate))
    found = drift(shares, counts if shares else (), known_rows)
    return InputDrift(
        name, cuts, shares, counts, found, nulls / n if n else math.nan, null_rate, null_shift(null_rate, nulls, n),
        nulls,
    )  # fmt: skip

"""The new scorecard beside the one in use, on the same judged rows.

The difference of two AUCs is judged by drawing customers, not rows, with replacement: rows of one customer go bad
together. What is reported is the difference on the rows as they are and the middle 95 % of DRAWS draws; the new
scorecard is `better` if all of that is above 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.errors import ScorecardRejected
from decision_service.core.scorecards.distribution import cuts_of
from decision_service.core.scorecards.drift import counts_of, drift
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.scorecards.files import active_version, load_scorecard, versions
from decision_service.train.config import TrainConfig
from decision_service.train.evaluate import Quality, quality
from decision_service.train.fitted import NothingToLearn
from decision_service.train.sample import Sample

Floats = npt.NDArray[np.float64]
DRAWS: Final = 1_000
_SEED: Final = 20_261_121


@dataclass(frozen=True, slots=True)
class Champion:
    """The scorecard a new one is compared with, and its PDs and points of the same rows (NaN where it gives none)."""

    scorecard: Scorecard
    pds: Floats
    points: Floats


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both on the judged rows that both score. `migration` counts rows by grade, `(champion's, new)`; `psi` is of the
    new points against the champion's training distribution."""

    version: str
    rows: int
    champion: Quality
    new: Quality
    auc_gain: float
    auc_gain_low: float
    auc_gain_high: float
    psi: float
    psi_critical: float
    migration: Mapping[tuple[str, str], int]

    @property
    def better(self) -> bool:
        """Whether the new AUC is higher beyond the chance of which customers were drawn."""
        return self.auc_gain_low > 0.0

    def as_metrics(self) -> dict[str, float]:
        """The figures under names that start with `champion_`."""
        return self.champion.as_metrics("champion") | {
            "champion_auc_gain": self.auc_gain, "champion_auc_gain_low": self.auc_gain_low,
            "champion_auc_gain_high": self.auc_gain_high, "champion_points_psi": self.psi,
            "champion_points_psi_critical": self.psi_critical,
        }  # fmt: skip


def find_champion(
    config: TrainConfig, models_dir: Path, given: Path | None, say: Callable[[str], None]
) -> Scorecard | None:
    """The scorecard at `given`, which must load; else the version in use, unless it is the one to be trained."""
    if given is not None:
        return load_scorecard(given)
    directory = models_dir / config.scorecard
    try:
        active = active_version(directory) if directory.is_dir() and versions(directory) else None
        if active is None or active.name == config.version:
            return None
        return load_scorecard(active)
    except (ScorecardRejected, ValueError) as error:
        say(f"no champion to compare with: {error}")
        return None


def scored(card: Scorecard, config: TrainConfig, sample: Sample, say: Callable[[str], None]) -> Champion | None:
    """The champion's scores of all rows; None, and said so, if the sample lacks a feature of its."""
    columns = {name: sample.rows[:, i] for i, name in enumerate(config.names)} | dict(sample.others)
    missing = [name for name in card.names if name not in columns]
    if missing:
        say(f"{card.name} {card.version} cannot be compared with: the sample lacks {', '.join(missing)}")
        return None
    rows = np.ascontiguousarray(np.column_stack([columns[name] for name in card.names]))
    scores = [card.score(row) for row in rows]
    pds, points = (np.array([np.nan if x is None else float(x) for x in values])
                   for values in ([s.pd for s in scores], [s.points for s in scores]))  # fmt: skip
    return Champion(card, pds, points)


def compare(
    config: TrainConfig, sample: Sample, judge: npt.NDArray[np.bool_], pds: Floats, points: Floats, champion: Champion
) -> Comparison:
    """Both scorecards on the judged rows that both score. Raises NothingToLearn if those are not both good and bad."""
    rows = judge & ~np.isnan(champion.pds)
    bad = sample.bad[rows]
    if not 0 < bad.sum() < len(bad):
        raise NothingToLearn(f"{champion.scorecard.version} scores too few of the judged rows to be compared with")
    old, new = quality(champion.pds[rows], bad), quality(pds[rows], bad)
    low, high = _gain_interval(champion.pds[rows], pds[rows], bad, sample.customer[rows])
    manifest = champion.scorecard.manifest
    moved = drift(
        manifest.score_shares, counts_of(cuts_of(manifest.score_deciles), points[rows])[:-1], manifest.score_rows
    )
    grades = zip(
        _grades(manifest.grades.of, champion.points[rows]), _grades(config.grades.of, points[rows]), strict=True
    )
    pairs = list(grades)
    return Comparison(
        champion.scorecard.version, int(rows.sum()), old, new, new.auc - old.auc, low, high, moved.psi, moved.critical,
        {pair: pairs.count(pair) for pair in sorted(set(pairs))},
    )  # fmt: skip


def _grades(of: Callable[[int], str], points: Floats) -> list[str]:
    return [of(int(each)) for each in points]


def _gain_interval(
    old: Floats, new: Floats, bad: npt.NDArray[np.int8], customer: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """The middle 95 % of the gain in AUC over draws of customers."""
    rng = np.random.default_rng(_SEED)
    _, who = np.unique(customer, return_inverse=True)
    people = int(who.max()) + 1
    aucs = _Auc(old, bad), _Auc(new, bad)
    gains = []
    for _ in range(DRAWS):
        weights = np.bincount(rng.integers(0, people, people), minlength=people)[who].astype(float)
        gains.append(aucs[1].of(weights) - aucs[0].of(weights))
    low, high = np.nanquantile(gains, (0.025, 0.975))
    return float(low), float(high)


class _Auc:
    """AUC of one score under many weightings of its rows, ties counted half."""

    def __init__(self, score: Floats, bad: npt.NDArray[np.int8]) -> None:
        self._order = np.argsort(score, kind="stable")
        self._firsts = np.flatnonzero(np.diff(score[self._order], prepend=-np.inf))
        self._bad = bad[self._order] == 1

    def of(self, weights: Floats) -> float:
        """NaN if the weights leave only goods or only bads."""
        weights = weights[self._order]
        bads = np.add.reduceat(np.where(self._bad, weights, 0.0), self._firsts)
        goods = np.add.reduceat(np.where(self._bad, 0.0, weights), self._firsts)
        pairs = bads.sum() * goods.sum()
        below = np.cumsum(goods) - goods
        return float(np.sum(bads * (below + goods / 2)) / pairs) if pairs else float("nan")

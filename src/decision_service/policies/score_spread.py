"""How the scores of a scorecard are spread over customers, and when that is too far off to go on (faults G07).

A model can pass every check of its files and still be a mistake: it gives everybody the same score, it gives no score
because a feature that it needs was redefined, or it scores another population than the one it was trained on. That
shows only in the scores it gives. A spread is taken over customers, each with the latest score, because one customer's
scores of one day are one observation and not many. Below CUSTOMERS_MIN customers nothing is judged.

What is too far off, of the three figures of a spread:

    constant    every score is the same number of points
    null        at least NULL_SHARE_FAR of the customers get none
    PSI         against the distribution in the manifest: above PSI_FAR, above what chance passes once in a hundred
                times, and above TIMES_BEFORE times what the scorecard before had on its own manifest

The last because those who draw are not the whole book: a good scorecard may always be spread a little differently here
than in training. Where nothing is known of a scorecard before, PSI_UNKNOWN_BEFORE is taken for it. Constant and null
count only if the scorecard before was not so as well: then the customers, or a feed, are the cause and not the model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from decision_service.core.decision import Decision, Score
from decision_service.core.policy import Policy
from decision_service.core.scorecards.distribution import cuts_of
from decision_service.core.scorecards.drift import Drift, counts_of, drift
from decision_service.core.scorecards.manifest import Manifest

CUSTOMERS_MIN: Final = 50
NULL_SHARE_FAR: Final = 0.95
PSI_FAR: Final = 0.25
TIMES_BEFORE: Final = 2.0
PSI_UNKNOWN_BEFORE: Final = 0.5
NO_DRIFT: Final = Drift(0, 0, math.nan, math.nan)

Cards = Mapping[tuple[str, str], Manifest]  # by name and version


@dataclass(frozen=True, slots=True)
class ScoreSpread:
    """The scores of one version of a scorecard over customers."""

    scorecard: str
    version: str
    customers: int
    scored: int
    points_low: int | None
    points_high: int | None
    problem: str  # why most of those without a score have none
    drift: Drift

    @property
    def is_constant(self) -> bool:
        """Whether all scores are the same."""
        return self.scored >= CUSTOMERS_MIN and self.points_low == self.points_high

    @property
    def is_null(self) -> bool:
        """Whether nearly nobody gets a score."""
        return self.customers >= CUSTOMERS_MIN and self.scored <= (1.0 - NULL_SHARE_FAR) * self.customers

    def as_json(self) -> dict[str, Any]:
        """For a machine."""
        psi, critical = (None if math.isnan(x) else round(x, 4) for x in (self.drift.psi, self.drift.critical))
        return {
            "scorecard": self.scorecard, "version": self.version, "customers": self.customers, "scored": self.scored,
            "points_low": self.points_low, "points_high": self.points_high, "psi": psi, "psi_critical": critical,
            "psi_bins": self.drift.bins,
        }  # fmt: skip

    def off(self, before: ScoreSpread | None) -> str:
        """What is too far off, in words; empty if nothing is. `before` is the spread of the scorecard it follows."""
        name = f"scorecard `{self.scorecard}` {self.version}"
        if self.is_null and not (before and before.is_null):
            why = f" ({self.problem})" if self.problem else ""
            return f"{name} gives no score to {self.customers - self.scored} of {self.customers} customers{why}"
        if self.is_constant and not (before and before.is_constant):
            return f"{name} gives all {self.scored} customers the same {self.points_low} points"
        return self._moved(name, before)

    def _moved(self, name: str, before: ScoreSpread | None) -> str:
        known = before is not None and before.scored >= CUSTOMERS_MIN and not math.isnan(before.drift.psi)
        psi_before = before.drift.psi if before is not None and known else PSI_UNKNOWN_BEFORE
        if self.scored < CUSTOMERS_MIN or not self.drift.psi > max(PSI_FAR, TIMES_BEFORE * psi_before):
            return ""
        if not self.drift.beyond_chance:
            return ""
        was = f"; that of the one before was {psi_before:.2f}" if known else ""
        return (
            f"{name} scores {self.scored} customers far from its training: PSI {self.drift.psi:.2f} over "
            f"{self.drift.bins} bins, where chance makes {self.drift.critical:.2f} once in a hundred times{was}"
        )


def spread_of(manifest: Manifest, scores: Sequence[Score]) -> ScoreSpread:
    """The spread of one score a customer."""
    points = [score.points for score in scores if score.points is not None]
    problems = Counter(score.problem for score in scores if score.points is None)
    return ScoreSpread(
        manifest.name, manifest.version, len(scores), len(points), min(points, default=None),
        max(points, default=None), problems.most_common(1)[0][0] if problems else "", _drift(manifest, points),
    )  # fmt: skip


def _drift(manifest: Manifest, points: Sequence[int]) -> Drift:
    if not manifest.score_deciles:
        return NO_DRIFT
    counts = counts_of(cuts_of(manifest.score_deciles), np.array(points, np.float64))
    return drift(manifest.score_shares, counts[:-1], manifest.score_rows)


def spreads(decisions: Iterable[Decision], cards: Cards) -> tuple[ScoreSpread, ...]:
    """The spreads of the scorecards that scored these decisions, oldest first; of a customer the latest counts."""
    found: dict[tuple[str, str], dict[str, Score]] = {}
    for decision in decisions:
        for name, score in decision.scores.items():
            found.setdefault((name, score.version), {})[decision.customer_id] = score
    return tuple(
        spread_of(cards[identity], list(scores.values())) for identity, scores in found.items() if identity in cards
    )


def cards_of(*policies: Policy | None) -> Cards:
    """The manifests of the scorecards of policies."""
    return {
        (card.name, card.version): card.manifest
        for policy in policies if policy is not None
        for card in policy.all_scorecards
    }  # fmt: skip


def follows(spread: ScoreSpread, before: Iterable[ScoreSpread]) -> ScoreSpread | None:
    """Of the spreads before, that of the scorecard of the same name over the most customers."""
    same = [one for one in before if one.scorecard == spread.scorecard]
    return max(same, key=lambda one: one.customers, default=None)

"""Scores of many decisions: what was recorded where the very same model gave it, else scored again in one go.

A score depends on the customer's numbers alone, so a recorded one stands where the model that gave it is the model that
would give it now (same manifest, by its SHA-256: the manifest names the model file's) and its features still mean what
they meant. Elsewhere the margins of all rows are computed together and read as `Scorecard.read` reads one.

Who is scored by a challenger is a matter of the customer's id (`core.scorecards.roles`), so it is asked of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.backtest.batch import Batch, Ints
from decision_service.backtest.forest_rows import margins
from decision_service.core.expressions.columns import Floats, Mask, Texts
from decision_service.core.scene import ChallengedSlots, ScoreSlots
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.scorecards.tree_scorer import TreeScorer

NO_GRADE: Final = -1


@dataclass(frozen=True, slots=True)
class Scores:
    """What one scorecard says of many decisions; NaN and null where it could not score. `again`: how many were
    scored anew, the others are as recorded."""

    points: Floats
    pd: Floats
    grade: Texts
    again: int


def cards_of(slots: ScoreSlots) -> tuple[Scorecard, ...]:
    """The champion and, if there is one, its challenger."""
    if isinstance(slots, ChallengedSlots):
        return (slots.scorecard, slots.challenger.scorecard)
    return (slots.scorecard,)


def scores(batch: Batch, slots: ScoreSlots, reusable: bool) -> Scores:
    """The scores of a batch. `reusable`: the features of these scorecards mean what they meant."""
    scoring = _Scoring(batch, slots.scorecard, reusable)
    if not isinstance(slots, ChallengedSlots):
        scoring.score(slots.scorecard, np.ones(batch.count, np.bool_))
        return scoring.found()
    challenger = slots.challenger
    takes = np.fromiter((challenger.takes(customer) for customer in batch.customers), np.bool_, batch.count)
    scoring.score(challenger.scorecard, takes)
    scoring.score(slots.scorecard, np.isnan(scoring.points))  # also of customers whom the challenger could not score
    return scoring.found()


class _Scoring:
    def __init__(self, batch: Batch, card: Scorecard, reusable: bool) -> None:
        self._batch = batch
        self._name = card.name
        self._before = batch.scored.get(card.name) if reusable and batch.has(f"{card.name}.points") else None
        self.points, self._pd = np.full(batch.count, np.nan), np.full(batch.count, np.nan)
        self._grades = {name: code for code, name in enumerate(card.manifest.grades.names)}
        self._grade = np.full(batch.count, NO_GRADE, np.int32)
        self._again = 0

    def score(self, card: Scorecard, where: Mask) -> None:
        """Score these decisions with a version of the scorecard."""
        kept = self._recorded(card, where)
        rows = np.flatnonzero(where & ~kept)
        if len(rows):
            self._again += len(rows)
            values = self._batch.rows(card.names, rows)
            points, pd, grade = score_rows(card, values)
            self.points[rows], self._pd[rows] = points, pd
            codes = np.array([*(self._grades.setdefault(g, len(self._grades)) for g in card.manifest.grades.names), -1])
            self._grade[rows] = codes[grade]

    def _recorded(self, card: Scorecard, where: Mask) -> Mask:
        """Take the recorded scores of this very model; whose they are."""
        before = self._before
        if before is None or card.manifest.sha256 not in before.models:
            return np.zeros(len(where), np.bool_)
        kept: Mask = where & (before.codes == before.models.index(card.manifest.sha256))
        batch = self._batch
        points, pd = batch.columns((f"{self._name}.points", f"{self._name}.pd"), 0, batch.count)
        self.points[kept], self._pd[kept] = points[kept], pd[kept]
        told = batch.texts[f"{self._name}.grade"]
        codes = np.array([*(self._grades.setdefault(g, len(self._grades)) for g in told.values), NO_GRADE], np.int32)
        self._grade[kept] = codes[told.codes[kept]]
        return kept

    def found(self) -> Scores:
        """What they all come to."""
        return Scores(self.points, self._pd, Texts(self._grade, tuple(self._grades)), self._again)


def score_rows(card: Scorecard, rows: npt.NDArray[np.float64]) -> tuple[Floats, Floats, Ints]:
    """`(points, pd, place of the grade)` of float64[n, len(names)]; NaN and NO_GRADE where the card refuses."""
    points, pd = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    grade = np.full(len(rows), NO_GRADE)
    places = {name: place for place, name in enumerate(card.manifest.grades.names)}
    sound = np.flatnonzero(_is_scored(card, rows))
    for i, margin in zip(sound.tolist(), _margins(card, rows[sound]), strict=True):
        score = card.read(margin)
        if score.points is not None and score.pd is not None and score.grade is not None:
            points[i], pd[i], grade[i] = score.points, score.pd, places[score.grade]
    return points, pd, grade


def _is_scored(card: Scorecard, rows: npt.NDArray[np.float64]) -> Mask:
    """Which rows a scorecard does not refuse (`Scorecard.score`)."""
    null = np.isnan(rows)
    required = np.array([not feature.nulls_allowed for feature in card.manifest.features], np.bool_)
    refused = np.isinf(rows).any(axis=1) | null.all(axis=1) | (null & required).any(axis=1)
    return ~np.asarray(refused)


def _margins(card: Scorecard, rows: npt.NDArray[np.float64]) -> Sequence[float]:
    scorer: Any = card.scorer
    if isinstance(scorer, TreeScorer):
        found: list[float] = margins(np.ascontiguousarray(rows), *scorer.walking).tolist()
        return found
    return [scorer.margin(row) for row in rows]

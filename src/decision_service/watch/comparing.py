"""Comparing: champion against challenger, and against shadows.

A challenger decides for a share of the customers, the same for ever, so the two sides are different customers, and
figures are compared as those of two samples: the share realised against the declared one by customers (Wilson's
interval), and differences of rates with their 95 % intervals (Newcombe) and a two-proportion test. All outcomes are by
one target, the champion's.

A shadow scores the very customers that the champion scored, so the two are compared row by row: the *swap set*. At the
champion's approval rate (of those that both scored: the best by each one's own pd) every customer is in one of four
cells, and where outcomes have matured each cell has a bad rate.

    kept      approved by both                in     by the shadow, not by the champion
    out       by the champion, not the shadow held   by neither

A good swap has a bad rate of those that come in below that of those that go out. Bads are known of held customers only
as far as their other loans tell, which is the limit of every swap set.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.manifest import Target
from decision_service.watch.decisions import Decided, Scored
from decision_service.watch.manifests import CardName
from decision_service.watch.outcomes import Outcome
from decision_service.watch.quality import (
    Interval,
    Quality,
    mean_difference,
    quality,
    share,
    share_difference,
    two_proportion_p,
)
from decision_service.watch.record import Part, Record, Rows
from decision_service.watch.said import CHALLENGER, CHAMPION, SHADOW

CELLS: Final = ("kept", "in", "out", "held")


@dataclass(frozen=True, slots=True)
class Side:
    """One version in one role."""

    card: CardName
    role: str
    decisions: int
    customers: int
    refused: int
    approved: Interval
    holds: dict[str, int]
    grades: dict[str, int]
    points_mean: float
    pd_mean: float
    matured: int
    bad_rate: Interval
    quality: Quality | None


@dataclass(frozen=True, slots=True)
class Difference:
    """The challenger's figure minus the champion's."""

    figure: str
    value: Interval
    p: float  # NaN where no test is made


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a swap set."""

    cell: str
    customers: int  # decisions, in fact: a customer counts once for each
    matured: int
    bad_rate: Interval


@dataclass(frozen=True, slots=True)
class Swap:
    """A shadow beside the champion, at the champion's approval rate."""

    shadow: CardName
    both_scored: int
    approval_rate: float
    pd_correlation: float  # of ranks
    cells: tuple[Cell, ...]
    in_less_out: Interval  # bad rates
    champion: Quality | None  # of the decisions that both scored and that matured
    quality: Quality | None  # of the shadow, on the same


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything that is said of one scorecard's versions."""

    scorecard: str
    target: Target
    sides: tuple[Side, ...]
    declared_share: float  # NaN if the policy in force names no challenger
    realised_share: Interval  # of the customers, by challenger
    share_holds: bool | None  # whether the declared share lies in the interval; None without one
    differences: tuple[Difference, ...]
    swaps: tuple[Swap, ...]


@dataclass(slots=True)
class Pairs:
    """Decisions that the champion and a shadow both scored: 17 bytes each."""

    champion_pd: array[float] = field(default_factory=lambda: array("d"))
    shadow_pd: array[float] = field(default_factory=lambda: array("d"))
    approved: array[int] = field(default_factory=lambda: array("b"))
    outcome: array[int] = field(default_factory=lambda: array("b"))

    def take(self, champion: Scored, shadow: Scored, approved: bool) -> None:
        """Keep one, if both have a score."""
        if champion.score.pd is not None and shadow.score.pd is not None:
            self.champion_pd.append(champion.score.pd)
            self.shadow_pd.append(shadow.score.pd)
            self.approved.append(approved)
            self.outcome.append(champion.outcome)


def take_pairs(page: Iterable[Decided], scorecard: str, pairs: dict[CardName, Pairs]) -> None:
    """Keep what champion and shadows said of the same decisions."""
    for one in page:
        said = [scored for scored in one.scored if scored.card.scorecard == scorecard]
        champion = next((scored for scored in said if scored.role == CHAMPION), None)
        for scored in said:
            if champion is not None and scored.role == SHADOW:
                pairs.setdefault(scored.card, Pairs()).take(champion, scored, one.answered.approved)


def compared(
    scorecard: str, target: Target, records: Mapping[Part, Record], pairs: Mapping[CardName, Pairs],
    declared_share: float,
) -> Compared:  # fmt: skip
    """What the records of one scorecard say."""
    some = {part: record for part, record in sorted(records.items()) if part.card.scorecard == scorecard}
    champion = _largest(some, CHAMPION)
    challenger = _largest(some, CHALLENGER)
    realised = _realised_share(some)
    known = challenger is not None and not math.isnan(declared_share)
    return Compared(
        scorecard=scorecard, target=target, sides=tuple(map(_side, some.values())), declared_share=declared_share,
        realised_share=realised, share_holds=realised.low <= declared_share <= realised.high if known else None,
        differences=() if champion is None or challenger is None else tuple(_differences(challenger, champion)),
        swaps=tuple(_swap(card, one) for card, one in sorted(pairs.items()) if len(one.outcome)),
    )  # fmt: skip


def _largest(records: Mapping[Part, Record], role: str) -> Record | None:
    """The version that was longest in a role: the two sides of a comparison are those that decided most."""
    return max((one for part, one in records.items() if part.role == role), key=lambda one: one.n, default=None)


def _realised_share(records: Mapping[Part, Record]) -> Interval:
    """The challenger's share of the customers who drew; one whom the challenger could not score is the challenger's."""
    customers: dict[str, set[int]] = {CHAMPION: set(), CHALLENGER: set()}
    for part, record in records.items():
        if part.role in customers:
            customers[part.role] |= record.customers
    theirs = customers[CHALLENGER]
    return share(len(theirs), len(theirs | customers[CHAMPION]))


def _side(record: Record) -> Side:
    total, rows = record.total, record.rows
    matured = rows.matured
    words = total.words
    return Side(
        card=record.part.card, role=record.part.role, decisions=record.n, customers=len(record.customers),
        refused=record.n - len(rows.pd), approved=share(words["a"], record.n),
        holds={word[2:]: count for word, count in sorted(words.items()) if word.startswith("h:")},
        grades={word[2:]: count for word, count in sorted(words.items()) if word.startswith("g:")},
        points_mean=_mean(rows.points), pd_mean=_mean(rows.pd), matured=len(matured.pd),
        bad_rate=share(int(matured.bad.sum()), len(matured.pd)), quality=_quality(matured.pd, matured.bad),
    )  # fmt: skip


def _mean(values: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _quality(pd: npt.NDArray[np.float64], bad: npt.NDArray[np.bool_]) -> Quality | None:
    return quality(pd, bad) if len(pd) else None


def _differences(challenger: Record, champion: Record) -> Iterable[Difference]:
    one, other = challenger.total.words, champion.total.words
    yield _of_shares("approved", one["a"], challenger.n, other["a"], champion.n)
    for kind in sorted({word for word in (one | other) if word.startswith("h:")}):
        yield _of_shares(f"held: {kind[2:]}", one[kind], challenger.n, other[kind], champion.n)
    for grade in sorted({word for word in (one | other) if word.startswith("g:")}):
        yield _of_shares(f"grade {grade[2:]}", one[grade], challenger.n, other[grade], champion.n)
    rows, others = challenger.rows, champion.rows
    yield Difference("points", _of_points(rows, others), math.nan)
    yield Difference("pd", mean_difference(rows.pd, others.pd), math.nan)
    matured, grown = rows.matured, others.matured
    if len(matured.pd) and len(grown.pd):
        yield _of_shares("bad rate", _bads(matured), len(matured.pd), _bads(grown), len(grown.pd))
        paid, lent = matured.where(matured.approved), grown.where(grown.approved)
        yield _of_shares("bad rate of the approved", _bads(paid), len(paid.pd), _bads(lent), len(lent.pd))


def _of_points(rows: Rows, others: Rows) -> Interval:
    return mean_difference(rows.points.astype(np.float64), others.points.astype(np.float64))


def _bads(rows: Rows) -> int:
    return int(rows.bad.sum())


def _of_shares(figure: str, count: int, n: int, other: int, other_n: int) -> Difference:
    return Difference(figure, share_difference(count, n, other, other_n), two_proportion_p(count, n, other, other_n))


# --- shadows --------------------------------------------------------------------------------------------------------


def _swap(card: CardName, pairs: Pairs) -> Swap:
    ours, theirs = np.array(pairs.champion_pd), np.array(pairs.shadow_pd)
    outcome = np.array(pairs.outcome, np.int8)
    rate = float(np.mean(np.array(pairs.approved)))
    kept_n = round(rate * len(ours))
    by_us, by_them = _best(ours, kept_n), _best(theirs, kept_n)
    matured = (outcome == Outcome.GOOD) | (outcome == Outcome.BAD)
    bad = outcome == Outcome.BAD
    where = {"kept": by_us & by_them, "in": ~by_us & by_them, "out": by_us & ~by_them, "held": ~by_us & ~by_them}
    cells = tuple(_cell(name, where[name], matured, bad) for name in CELLS)
    counts = {name: (int((where[name] & bad).sum()), int((where[name] & matured).sum())) for name in CELLS}
    return Swap(
        shadow=card, both_scored=len(ours), approval_rate=rate, pd_correlation=_rank_correlation(ours, theirs),
        cells=cells, in_less_out=share_difference(*counts["in"], *counts["out"]),
        champion=_quality(ours[matured], bad[matured]), quality=_quality(theirs[matured], bad[matured]),
    )  # fmt: skip


def _best(pd: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.bool_]:
    """The n lowest; of equal ones the first, so that both sides approve as many."""
    best = np.zeros(len(pd), np.bool_)
    best[np.argsort(pd, kind="stable")[:n]] = True
    return best


def _cell(name: str, here: npt.NDArray[np.bool_], matured: npt.NDArray[np.bool_], bad: npt.NDArray[np.bool_]) -> Cell:
    n = int((here & matured).sum())
    return Cell(name, int(here.sum()), n, share(int((here & bad).sum()), n))


def _rank_correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Spearman's, with the mean rank of ties; NaN if either side is constant."""
    ranks, others = _ranks(one), _ranks(other)
    if len(one) < 2 or ranks.std() == 0.0 or others.std() == 0.0:
        return math.nan
    return float(np.corrcoef(ranks, others)[0, 1])


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    middles: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return middles

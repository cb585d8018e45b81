"""Tallies: what a backtest counts. Tallies of parts add up to that of the whole, so processes count for themselves.

    mixes      [before, after] counts of each part of the answers
    swap       by cell: neither pays, in (only the candidate pays), out (only the archive paid), kept
    curves     what each side pays by how risky it finds it: bins of log-odds of its own PD
    rules      by rule: hits before and after, new and lost ones
    segments   by dimension and band
    days       by UTC day

What is added up of decisions is a row of MEASURES. Expected loss is PD x exposure x LGD with one PD for both sides: the
candidate's, and the recorded one where the candidate has none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from decision_service.backtest.facts import UNKNOWN_OUTCOME, Facts
from decision_service.backtest.outcome import DECISIONS, HOLDS, LIMITS, NONE
from decision_service.core.expressions.columns import Floats, Mask
from decision_service.core.limits import DAY_MS

Sums = npt.NDArray[np.float64]

MEASURES: Final = (
    "decisions", "asked", "paying_before", "paying_after", "paid_before", "paid_after", "with_pd",
    "expected_loss_before", "expected_loss_after", "known", "bad", "known_before", "bad_before", "known_after",
    "bad_after", "with_loss", "loss",
)  # fmt: skip
CELLS: Final = ("neither", "in", "out", "kept")  # by before + 2 * after, with `in` and `out` as named
_CELL_OF: Final = np.array([0, 2, 1, 3])  # before + 2 * after -> cell
PRICES: Final = ("stays", "falls", "rises")
BINS: Final = 2_048
_LOG_ODDS: Final = 14.0  # of PDs from 1e-6 to 1 - 1e-6
CURVE: Final = ("decisions", "exposure", "expected_loss", "known", "bad")
UTILISATION: Final = (0.2, 0.5, 0.8, 0.95, 1.0)
AMOUNTS: Final = (100.0, 500.0, 1_000.0, 5_000.0, 10_000.0, 50_000.0)
POINTS: Final = tuple(float(p) for p in range(500, 721, 20))
FLIPS: Final = ("in", "out")


class Flip(NamedTuple):
    """A drawdown that one side pays and the other does not."""

    asked: float
    place: int
    position: int
    decision_id: str
    t_ms: int
    direction: str
    scene: str
    currency: str


@dataclass(slots=True)
class SceneTally:
    """The counts of one scene in one currency."""

    decisions: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((len(DECISIONS),) * 2, np.int64))
    holds: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((len(HOLDS),) * 2, np.int64))
    limits: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((len(LIMITS),) * 2, np.int64))
    prices: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((len(PRICES),) * 2, np.int64))
    capped: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    price_bps: Sums = field(default_factory=lambda: np.zeros(2))  # sum of changes, before and after
    swap: Sums = field(default_factory=lambda: np.zeros((len(CELLS), len(MEASURES))))
    curves: Sums = field(default_factory=lambda: np.zeros((2, BINS, len(CURVE))))
    segments: dict[tuple[str, str], Sums] = field(default_factory=dict)
    days: dict[int, Sums] = field(default_factory=dict)
    rules: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)  # RULE_COUNTS

    def add(self, other: SceneTally) -> None:
        """Add another one."""
        for name in ("decisions", "holds", "limits", "prices", "capped", "price_bps", "swap", "curves"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("segments", "days", "rules"):
            mine: dict[Any, Any] = getattr(self, name)
            for key, counts in getattr(other, name).items():
                mine[key] = mine[key] + counts if key in mine else counts


RULE_COUNTS: Final = ("asked_before", "asked_after", "before", "after", "new", "lost", "new_on_out", "lost_on_in")


@dataclass(slots=True)
class Tally:
    """Everything a backtest counts. `ways`: how many decisions were answered how; `skips`: left out, by why."""

    lgd: float
    flips_max: int
    scenes: dict[tuple[str, str], SceneTally] = field(default_factory=dict)
    ways: Counter[str] = field(default_factory=Counter)
    skips: Counter[str] = field(default_factory=Counter)
    flips: dict[str, list[Flip]] = field(default_factory=lambda: {name: [] for name in FLIPS})
    links: set[str] = field(default_factory=set)  # features of entity logs that were null for want of a record
    computed: set[str] = field(default_factory=set)  # features that were computed from logs
    policies: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add another one."""
        for key, scene in other.scenes.items():
            self.scenes.setdefault(key, SceneTally()).add(scene)
        self.ways.update(other.ways)
        self.skips.update(other.skips)
        self.policies.update(other.policies)
        self.links |= other.links
        self.computed |= other.computed
        for name, flips in other.flips.items():
            self.flips[name] = nlargest(self.flips_max, [*self.flips[name], *flips])

    def count(self, facts: Facts) -> None:
        """Count some decisions of one scene and currency."""
        if not len(facts):
            return
        tally = self.scenes.setdefault((facts.scene, facts.currency), SceneTally())
        before, after = facts.before, facts.after
        tally.decisions += _crossed(before.decision, after.decision, len(DECISIONS))
        tally.holds += _crossed(before.hold, after.hold, len(HOLDS))
        tally.limits += _crossed(before.limit, after.limit, len(LIMITS))
        moves = [_price_move(side.price_bps, facts) for side in (before, after)]
        tally.prices += _crossed(moves[0], moves[1], len(PRICES))
        capped = [(side.paid > 0) & (side.paid < facts.asked) for side in (before, after)]
        tally.capped += _crossed(capped[0], capped[1], 2)
        for i, side in enumerate((before, after)):
            there = side.price_bps != NONE
            tally.price_bps[i] += float((side.price_bps - facts.apr_bps)[there].sum())
        pays_before, pays_after = before.paid > 0, after.paid > 0
        measures = self._measures(facts, pays_before, pays_after)
        cell = _CELL_OF[pays_before.astype(np.int64) + 2 * pays_after]
        tally.swap += _summed(cell, measures, len(CELLS))
        self._curve(tally, 0, facts, before.pd, before.paid)
        self._curve(tally, 1, facts, after.pd, after.paid)
        for dimension, codes, labels in bands(facts):
            for label, sums in zip(labels, _summed(codes, measures, len(labels)), strict=True):
                if sums[0]:
                    key = (dimension, label)
                    tally.segments[key] = tally.segments[key] + sums if key in tally.segments else sums
        days, at = np.unique(facts.t_ms // DAY_MS, return_inverse=True)
        for day, sums in zip(days.tolist(), _summed(at, measures, len(days)), strict=True):
            tally.days[day] = tally.days[day] + sums if day in tally.days else sums
        _count_rules(tally, facts, cell)
        self._keep_flips(facts, cell)

    def _measures(self, facts: Facts, pays_before: Mask, pays_after: Mask) -> list[Floats | None]:
        """The columns of MEASURES, as `_summed` takes them."""
        pd = np.where(np.isnan(facts.after.pd), facts.before.pd, facts.after.pd)
        has_pd = ~np.isnan(pd)
        rate = np.where(has_pd, pd, 0.0) * self.lgd
        known, bad = facts.bad != UNKNOWN_OUTCOME, facts.bad == 1
        lost = ~np.isnan(facts.loss)
        measures: list[Any] = [
            None, facts.asked, pays_before, pays_after, facts.before.paid, facts.after.paid, has_pd,
            rate * facts.before.paid, rate * facts.after.paid, known, bad, known & pays_before, bad & pays_before,
            known & pays_after, bad & pays_after, lost, np.where(lost, facts.loss, 0.0),
        ]  # fmt: skip
        return [one if one is None or one.any() else one[:0] for one in measures]

    def _curve(self, tally: SceneTally, side: int, facts: Facts, pd: Floats, paid: Floats) -> None:
        rows = np.flatnonzero((paid > 0) & ~np.isnan(pd))
        if not len(rows):
            return
        shown = np.where(np.isnan(facts.after.pd), facts.before.pd, facts.after.pd)[rows]
        known = facts.bad[rows] != UNKNOWN_OUTCOME
        measures: list[Any] = [None, paid[rows], shown * self.lgd * paid[rows], known, facts.bad[rows] == 1]
        tally.curves[side] += _summed(bin_of(pd[rows]), measures, BINS)

    def _keep_flips(self, facts: Facts, cell: npt.NDArray[np.int64]) -> None:
        for direction in FLIPS:
            rows = np.flatnonzero(cell == CELLS.index(direction))
            if not len(rows) or not self.flips_max:
                continue
            largest = rows[np.argsort(-facts.asked[rows], kind="stable")[: self.flips_max]]
            found = [
                Flip(
                    float(facts.asked[i]), facts.place, int(facts.positions[i]), facts.ids[i].as_py(),
                    int(facts.t_ms[i]), direction, facts.scene, facts.currency,
                )
                for i in largest.tolist()
            ]  # fmt: skip
            self.flips[direction] = nlargest(self.flips_max, [*self.flips[direction], *found])


def bin_of(pd: Floats) -> npt.NDArray[np.int64]:
    """The bin of a PD: even in log-odds."""
    clipped = np.clip(pd, 1e-6, 1 - 1e-6)
    odds = np.log(clipped / (1 - clipped))
    return np.clip(((odds + _LOG_ODDS) * (BINS / (2 * _LOG_ODDS))).astype(np.int64), 0, BINS - 1)


def bands(facts: Facts) -> list[tuple[str, npt.NDArray[np.int64], list[str]]]:
    """The segments of each decision: dimension, place among the labels, labels."""
    found = []
    for name, texts in facts.texts.items():
        codes = np.where(texts.codes < 0, len(texts.values), texts.codes).astype(np.int64)
        found.append((name.rpartition(".")[2], codes, [*texts.values, "none"]))
    points = np.where(np.isnan(facts.after.points), facts.before.points, facts.after.points)
    for name, values, edges in (
        ("utilisation", facts.use, UTILISATION), ("points", points, POINTS), ("amount", facts.asked, AMOUNTS),
    ):  # fmt: skip
        codes = np.searchsorted(np.array(edges), values, side="right" if name == "points" else "left")
        found.append((name, np.where(np.isnan(values), len(edges) + 1, codes).astype(np.int64), _labels(name, edges)))
    return found


def _labels(name: str, edges: tuple[float, ...]) -> list[str]:
    def text(edge: float) -> str:
        return f"{edge:.0%}" if name == "utilisation" else f"{edge:,.0f}"

    if name == "points":  # an edge belongs to the band above it
        inner = [f"{text(a)} to {text(b - 1)}" for a, b in pairwise(edges)]
        return [f"below {text(edges[0])}", *inner, f"{text(edges[-1])} and more", "unknown"]
    inner = [f"above {text(a)} to {text(b)}" for a, b in pairwise(edges)]
    return [f"up to {text(edges[0])}", *inner, f"above {text(edges[-1])}", "unknown"]


def _crossed(before: Any, after: Any, size: int) -> npt.NDArray[np.int64]:
    both = before.astype(np.int64) * size + after
    return np.bincount(both, minlength=size * size).reshape(size, size)


def _price_move(price_bps: Any, facts: Facts) -> npt.NDArray[np.uint8]:
    moves = price_bps != NONE
    return np.where(moves, np.where(price_bps > facts.apr_bps, 2, 1), 0).astype(np.uint8)


def _summed(codes: npt.NDArray[np.int64], measures: list[Floats | None], size: int) -> Sums:
    """[size, measures]: each measure added up by code; None is a column of ones, an empty one of zeros."""
    out = np.zeros((size, len(measures)))
    for i, one in enumerate(measures):
        if one is None or len(one):
            out[:, i] = np.bincount(codes, one, minlength=size)
    return out


def _count_rules(tally: SceneTally, facts: Facts, cell: npt.NDArray[np.int64]) -> None:
    n = len(facts)
    out, came_in = cell == CELLS.index("out"), cell == CELLS.index("in")
    places = {rule: i for i, rule in enumerate(facts.rules_before)}
    nothing = np.zeros(n, np.bool_)
    for i, rule in enumerate(facts.rules_after):
        was = places.pop(rule, None)
        before = nothing if was is None else facts.before.fired[was]
        _count_rule(tally, rule, (0 if was is None else n, n), before, facts.after.fired[i], out, came_in)
    for rule, was in places.items():
        _count_rule(tally, rule, (n, 0), facts.before.fired[was], nothing, out, came_in)


def _count_rule(
    tally: SceneTally, rule: str, asked: tuple[int, int], before: Mask, after: Mask, out: Mask, came_in: Mask
) -> None:
    changed = before != after
    new_lost = [0, 0, 0, 0]
    if changed.any():
        new, lost = after & changed, before & changed
        new_lost = [int(np.count_nonzero(one)) for one in (new, lost, new & out, lost & came_in)]
    counts = np.array([*asked, np.count_nonzero(before), np.count_nonzero(after), *new_lost], np.int64)
    tally.rules[rule] = tally.rules[rule] + counts if rule in tally.rules else counts

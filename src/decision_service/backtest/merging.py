"""Merging what was asked for into outcomes, as columns: `core.merge.merge` and `core.bounds` line by line.

Guardrails that look back on the log (cool-offs, the raises of a year, the dwell of a tier) cannot be told from an
archived decision's numbers. Where one of them might change the answer, the decision is marked `plain`; where the answer
is the same whatever the log says (a raise that the step or the cap leaves nothing of), it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.backtest.batch import Ints
from decision_service.backtest.effects import NO_PRICE, NONE_MINOR, REVIEW, Asked
from decision_service.backtest.outcome import (
    APPROVE,
    CUT,
    DRAW_CAP,
    FREEZE,
    HOLD,
    LIMIT_CHANGE,
    NONE,
    RAISE,
    REPRICE,
    Outcomes,
)
from decision_service.core.decide import HISTORY_LOST
from decision_service.core.expressions.columns import Mask
from decision_service.core.merge import NO_OUTCOME, PRICE_ABOVE_CAP
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.core.rules.spec import Bound, Guardrails

_EPSILON: Final = 1e-6  # of a minor unit, as in `core.bounds`
_MANUAL: Final = 2  # 1 + rank


@dataclass(frozen=True, slots=True)
class Standings:
    """What merging looks at besides what is asked for. Money in minor units; `customer_limit` is of all open lines."""

    t_ms: Ints
    used: Ints  # outstanding and reserved
    customer_limit: Ints
    history_lost: Mask
    frozen: Mask | None = None  # of a review: whether the line is
    tiers: npt.NDArray[np.int8] | None = None


def merged(asked: Asked, at: Standings, rails: Guardrails, scene: str) -> Outcomes:
    """The outcomes of a scene's decisions."""
    return _Merging(asked, at, rails, scene).outcomes()


class _Merging:
    def __init__(self, asked: Asked, at: Standings, rails: Guardrails, scene: str) -> None:
        self._asked, self._at, self._rails = asked, at, rails
        self._is_draw = scene == DRAWDOWN_SCENE
        self._scene = scene
        self._out = Outcomes(asked.count)
        self._out.plain |= asked.unsure

    def outcomes(self) -> Outcomes:
        asked, out = self._asked, self._out
        self._hold_what_must_be()
        price = self._price()
        hold, approved = self._payout()
        self._reprice(price, hold)
        capped = (approved > 0) & (approved < asked.amount_minor)
        self._limit(hold, approved, capped)
        out.hold, out.approved_minor = hold, approved
        out.renewal = np.where(asked.renew > 0, np.maximum(asked.renew, np.where(hold > 0, _MANUAL, 0)), 0).astype("u1")
        out.alerts, out.offers, out.tags = asked.alerts, asked.offers, asked.tags
        if self._scene == "warning":
            self._tier()
        out.decision = np.select(
            [hold > 0, out.limit > 0, out.price_bps != NONE], [HOLD, LIMIT_CHANGE, REPRICE], APPROVE
        ).astype(np.uint8)  # fmt: skip
        self._reasons(hold)
        return out

    # --- hold, price, payout ----------------------------------------------------------------------------------------

    def _hold_what_must_be(self) -> None:
        asked = self._asked
        if self._at.history_lost.any():
            self._review(self._at.history_lost, HISTORY_LOST)
        if self._is_draw:
            nothing_said = ~asked.approve & (asked.hold == 0)
            if nothing_said.any():
                self._review(nothing_said, NO_OUTCOME)

    def _review(self, where: Mask, effect: Any) -> None:
        asked = self._asked
        np.maximum(asked.hold, np.where(where, np.uint8(REVIEW), np.uint8(0)), out=asked.hold)
        asked.give("any", (effect.reason, effect.source), where)

    def _price(self) -> Mask:
        """Whether another price than today's is asked for; one above the cap is held."""
        asked, cap = self._asked, self._rails.apr_cap_bps
        wanted: Mask = (asked.price != NO_PRICE) & (asked.price != asked.apr_bps)
        if cap is not None and wanted.any():
            above = wanted & (asked.price > self._bound(cap))
            if above.any():
                self._review(above, PRICE_ABOVE_CAP)
        return wanted

    def _payout(self) -> tuple[npt.NDArray[np.uint8], Ints]:
        asked = self._asked
        held = asked.hold > 0
        capped = asked.cap != NONE_MINOR
        approved = np.where(capped, asked.cap, asked.amount_minor)
        nothing_left = capped & (approved == 0) & ~held & ~asked.freeze
        approved[held | asked.freeze] = 0
        return np.where(nothing_left, np.uint8(REVIEW), asked.hold), approved

    def _reprice(self, wanted: Mask, hold: npt.NDArray[np.uint8]) -> None:
        rows = np.flatnonzero(wanted & (hold == 0))
        if not len(rows):
            return
        rails, now, to = self._rails, self._asked.apr_bps[rows], self._asked.price[rows]
        if rails.apr_floor_bps is not None:
            floor = np.minimum(now, np.ceil(self._bound(rails.apr_floor_bps, rows)).astype(np.int64))
            to = np.where(to < now, np.maximum(to, floor), to)
        if rails.price_step_max_bps is not None:
            step = np.floor(self._bound(rails.price_step_max_bps, rows)).astype(np.int64)
            to = np.minimum(np.maximum(to, now - step), now + step)
        if rails.apr_cap_bps is not None:
            to = np.minimum(to, np.floor(self._bound(rails.apr_cap_bps, rows)).astype(np.int64))
        moves = to != now
        if rails.price_cooldown_ms is not None:
            self._out.plain[rows[moves]] = True
        self._out.price_bps[rows[moves]] = to[moves]

    # --- the limit --------------------------------------------------------------------------------------------------

    def _limit(self, hold: npt.NDArray[np.uint8], approved: Ints, capped: Mask) -> None:
        asked, out = self._asked, self._out
        free = ~asked.freeze
        cuts = free & (asked.cut != NONE_MINOR)
        self._change(np.flatnonzero(asked.freeze), FREEZE, asked.limit_minor)
        self._cut(np.flatnonzero(cuts), approved)
        self._raise(np.flatnonzero(free & ~cuts & (asked.lift != NONE_MINOR) & (hold == 0) & ~capped))
        self._change(np.flatnonzero(capped & (out.limit == 0)), DRAW_CAP, approved)
        if not self._is_draw and self._at.frozen is not None:
            again = (out.limit == FREEZE) & self._at.frozen
            out.limit[again], out.limit_to_minor[again] = 0, NONE

    def _change(self, rows: Ints, kind: int, to: Ints) -> None:
        self._out.limit[rows] = kind
        self._out.limit_to_minor[rows] = to[rows]

    def _cut(self, rows: Ints, approved: Ints) -> None:
        if not len(rows):
            return
        used = self._at.used[rows] + approved[rows]
        cushion = self._rails.limit_cut_cushion
        spare = 0 if cushion is None else np.ceil(self._bound(cushion, rows) * used - _EPSILON).astype(np.int64)
        to = np.maximum(self._asked.cut[rows], used + spare)
        left = to < self._asked.limit_minor[rows]
        self._out.limit[rows[left]], self._out.limit_to_minor[rows[left]] = CUT, to[left]

    def _raise(self, rows: Ints) -> None:
        if not len(rows):
            return
        rails, limit, to = self._rails, self._asked.limit_minor[rows], self._asked.lift[rows]
        if rails.limit_step_max is not None:
            to = np.minimum(to, limit + _share(self._bound(rails.limit_step_max, rows), limit))
        if rails.limit_cap is not None:
            cap = _share(self._bound(rails.limit_cap, rows), self._asked.scale[rows])
            to = np.minimum(to, limit + cap - self._at.customer_limit[rows])
        left = to > limit
        rows, to = rows[left], to[left]
        if rails.limit_raise_cooldown_ms or rails.limit_raise_after_cut_ms or rails.limit_year_max:
            self._out.plain[rows] = True
        self._out.limit[rows], self._out.limit_to_minor[rows] = RAISE, to

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _tier(self) -> None:
        """A tier that is none stays none or becomes what the alerts say; any other needs the log."""
        tiers = self._at.tiers
        none = np.zeros(self._asked.count, np.bool_) if tiers is None else tiers == 0
        self._out.plain |= ~none
        highest = np.zeros(self._asked.count, np.uint8)
        for rank in self._asked.alerts.values():
            np.maximum(highest, rank, out=highest)
        self._out.tier = np.where(highest > 0, highest.astype(np.int8), NONE).astype(np.int8)

    def _reasons(self, hold: npt.NDArray[np.uint8]) -> None:
        """Every cause that was given; but what the guardrails left nothing of is the cause of nothing."""
        out, reasons = self._out, self._out.reasons
        price_stands = (hold > 0) | (out.price_bps != NONE)
        limit_stands = (hold > 0) | ((out.limit != 0) & (out.limit != DRAW_CAP))
        for (cause, key), given in self._asked.reasons.items():
            stands = given
            if cause == "price":
                stands = given & price_stands
            elif cause == "limit":
                stands = given & limit_stands
            reasons[key] = reasons[key] | stands if key in reasons else stands

    def _bound(self, bound: Bound, rows: Ints | None = None) -> npt.NDArray[np.float64]:
        """The value in force at each decision's instant."""
        t_ms = self._at.t_ms if rows is None else self._at.t_ms[rows]
        if len(bound.values) == 1:
            return np.full(len(t_ms), float(bound.values[0]))
        place = np.searchsorted(np.array(bound.starts_ms, np.int64), t_ms, side="right") - 1
        return np.array(bound.values, np.float64)[np.maximum(place, 0)]


def _share(share: npt.NDArray[np.float64], of: Ints) -> Ints:
    """A share of an amount, rounded down to a minor unit."""
    return np.floor(share * of + _EPSILON).astype(np.int64)

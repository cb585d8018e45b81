"""What the guardrails of a rule set let through of a merged limit change, price or warning tier.

    raise   dropped within `limit_raise_cooldown` of the last raise or `limit_raise_after_cut` of the last cut;
            else reduced to one step, to what is left of the year, and to what is left under the customer's cap
    cut     never below what is used, outstanding and reserved and this draw, and the cushion on top
    price   dropped within `price_cooldown` of the last change; else a fall stops at the floor, and either way at one
            step, but where a fall started above the cap it comes down to it at least. (A price above the cap is for
            `merge`, which holds it.)
    tier    a higher one takes force at once; a lower one when the tier in force was not asserted for its dwell

A bound never turns a change around: what it leaves nothing of is no change. Every guardrail that alone would have
changed what was asked for is noted in `signs`, so that an analyst sees why a raise did not come. History that was
trimmed counts as the cautious thing (`standing`): a raise that cannot be shown to be allowed is none.

Money in minor units, rates in basis points, instants in ms UTC.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from decision_service.core.decision import TIER_RANK, TIERS, Alert, Reprice, TierChange
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS
from decision_service.core.money import SCALES
from decision_service.core.rules.spec import Bound, Guardrails
from decision_service.core.standing import LimitHistory, Standing, TierInForce

_EPSILON: Final = 1e-6  # of a minor unit: a share such as 0.29 is not exact


class Bounds:
    """The guardrails of a rule set for one decision on one facility."""

    __slots__ = ("_facility", "_rails", "_standing", "_t_ms", "signs")

    def __init__(self, facility: Facility, guardrails: Guardrails, standing: Standing, t_ms: int) -> None:
        self._facility = facility
        self._rails = guardrails
        self._standing = standing
        self._t_ms = t_ms
        self.signs: set[str] = set()

    def raised(self, asked: int) -> int | None:
        """The limit that a raise to `asked` comes to, or None if nothing is left of it."""
        rails, limit = self._rails, self._facility.limit_minor
        history = self._limit_history()
        waits = self._waits("limit_raise_cooldown", rails.limit_raise_cooldown_ms, history.last_raise_ms)
        waits |= self._waits("limit_raise_after_cut", rails.limit_raise_after_cut_ms, history.last_cut_ms)
        to = min(self._step(asked), self._year(asked, history), self._cap(asked))
        return to if to > limit and not waits else None

    def cut(self, asked: int, used: int) -> int | None:
        """The limit that a cut to `asked` comes to, or None if nothing is left of it. `used` includes this draw."""
        cushion = self._rails.limit_cut_cushion
        spare = 0 if cushion is None else math.ceil(cushion.at(self._t_ms) * used - _EPSILON)
        to = max(asked, used + spare)
        self._note("limit_cut_cushion", to != asked)
        return to if to < self._facility.limit_minor else None

    def price_above_cap(self, asked_bps: int) -> bool:
        """Whether a price is above the cap in force."""
        cap = self._rails.apr_cap_bps
        above = cap is not None and asked_bps > cap.at(self._t_ms)
        self._note("apr_cap", above)
        return above

    def price(self, asked_bps: int) -> Reprice | None:
        """What a price that is asked for comes to, or None if it stays as it is."""
        rails, now = self._rails, self._facility.apr_bps
        to = asked_bps
        if to < now and rails.apr_floor_bps is not None:
            to = max(to, min(now, math.ceil(rails.apr_floor_bps.at(self._t_ms))))
            self._note("apr_floor", to != asked_bps)
        if rails.price_step_max_bps is not None:
            step = math.floor(rails.price_step_max_bps.at(self._t_ms))
            self._note("price_step_max_bps", abs(asked_bps - now) > step)
            to = min(max(to, now - step), now + step)
        if rails.apr_cap_bps is not None:  # a step must not leave a fall above the cap; what is asked for is not above
            to = min(to, math.floor(rails.apr_cap_bps.at(self._t_ms)))
        cooldown = rails.price_cooldown_ms
        last_ms = 0 if cooldown is None else self._standing.last_price_change_ms()
        return None if self._waits("price_cooldown", cooldown, last_ms) or to == now else Reprice(now, to)

    def tier(self, alerts: Iterable[Alert]) -> TierChange | None:
        """What alerts make of the tier in force; None if there neither was one nor is."""
        alerts = tuple(alerts)
        force = self._standing.tier()
        asked = max((TIER_RANK[alert.tier] for alert in alerts), default=0)
        dwell_ms = self._rails.tier_dwell_ms(TIERS[force.rank], self._t_ms)
        kept = asked < force.rank and self._t_ms - force.asserted_ms < dwell_ms
        self._note("tier_dwell", kept)
        to = force.rank if kept else asked
        if to == force.rank == 0:
            return None
        speaking = tuple(sorted(alert.indicator for alert in alerts if TIER_RANK[alert.tier] == to))
        recorded = to != force.rank or self._is_due(force, asked == to or dwell_ms == math.inf)
        return TierChange(TIERS[force.rank], TIERS[to], speaking, recorded)

    def _is_due(self, force: TierInForce, asserted: bool) -> bool:
        """Whether the tier in force is to be recorded again: once a day (UTC) when it is asserted, or when it never
        falls by itself, lest retention forgets it."""
        return asserted and self._t_ms // DAY_MS > force.asserted_ms // DAY_MS

    def _note(self, name: str, changed: bool) -> None:
        if changed:
            self.signs.add(f"guardrail:{name}")

    def _waits(self, name: str, wait: Bound | None, last_ms: int) -> bool:
        """Whether a change has to wait: the last one may have been less than `wait` ago."""
        waits = wait is not None and last_ms > self._t_ms - wait.at(self._t_ms)
        self._note(name, waits)
        return waits

    def _limit_history(self) -> LimitHistory:
        """Read from the log only if a guardrail looks back."""
        rails, limit = self._rails, self._facility.limit_minor
        if rails.limit_raise_cooldown_ms or rails.limit_raise_after_cut_ms or rails.limit_year_max:
            return self._standing.limit_history()
        return LimitHistory(0, 0, 0, limit)

    def _step(self, asked: int) -> int:
        step = self._rails.limit_step_max
        if step is None:
            return asked
        limit = self._facility.limit_minor
        return self._at_most("limit_step_max", asked, limit + _share(step.at(self._t_ms), limit))

    def _year(self, asked: int, history: LimitHistory) -> int:
        """What is left of a year's raises; nothing if it is not known what they were."""
        year, raised = self._rails.limit_year_max, history.raised_minor
        if year is None:
            return asked
        left = 0 if raised is None else _share(year.at(self._t_ms), history.limit_before_minor) - raised
        return self._at_most("limit_year_max", asked, self._facility.limit_minor + left)

    def _cap(self, asked: int) -> int:
        cap = self._rails.limit_cap
        if cap is None:
            return asked
        cap_minor = _share(cap.at(self._t_ms), SCALES[self._facility.currency])
        left = cap_minor - self._standing.customer_limit_minor()
        return self._at_most("limit_cap", asked, self._facility.limit_minor + left)

    def _at_most(self, name: str, asked: int, most: int) -> int:
        self._note(name, most < asked)
        return min(asked, most)


def _share(share: float, of: int) -> int:
    """A share of an amount, rounded down to a minor unit."""
    return math.floor(share * of + _EPSILON)

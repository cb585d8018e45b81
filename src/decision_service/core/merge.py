"""Merging the effects of many rules into one outcome: commutative, idempotent, and never approving by default.

Each part of the outcome is the extreme of what was asked for, so order and repetition cannot matter:

    hold          the most severe kind
    draw cap      the smallest; one that does not bind is no effect and gives no reason
    limit         freeze, else the lowest of the cuts (never below what is used), else the lowest of the raises
    price         the highest rate
    alerts, offers, tags   the union, sorted

Guardrails act on the merged outcome: a raise is limited to one step and a cooling-off period and is dropped beside a
hold or a cut; a price above the cap for the date is not clipped (that would lend at a loss) but sent to review.

Money in minor units, rates in basis points, instants in ms UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from decision_service.core.decision import (
    HOLD_RANK,
    Action,
    Alert,
    Approve,
    CapDraw,
    ChangeLimit,
    ChangePrice,
    Effect,
    Hold,
    HoldKind,
    LimitChange,
    Offer,
    Renew,
    Reprice,
    Tag,
)
from decision_service.core.facility import Facility, Position
from decision_service.core.reasons import Reason


class Guardrails(Protocol):
    """The bounds a rule set puts on its own effects (`rules/schema.py` reads them)."""

    @property
    def limit_step_max(self) -> float | None:
        """Largest raise as a share of the limit."""
        ...

    def apr_cap_at(self, t_ms: int) -> int | None:
        """The cap in basis points in force at an instant."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the merged effects come to."""

    decision: Literal["approve", "hold", "reprice", "limit_change"]
    approved_minor: int
    hold: HoldKind | None
    reprice: Reprice | None
    limit_change: LimitChange | None
    alerts: tuple[Alert, ...]
    offers: tuple[str, ...]
    tags: tuple[str, ...]
    reasons: tuple[Reason, ...]


NO_OUTCOME = Effect(Hold("review"), "policy:no_outcome", "RC90")
PRICE_ABOVE_CAP = Effect(Hold("review"), "guardrail:apr_cap", "RC36")
Asked = dict[type[Action], list[Effect]]  # the effects by what they ask for


def merge(
    effects: Iterable[Effect],
    amount_minor: int,
    facility: Facility,
    position: Position,
    guardrails: Guardrails,
    t_ms: int,
    raise_allowed: bool,
) -> Outcome:
    """One outcome from the effects of all rules. `raise_allowed` is False during the cooling-off period."""
    asked = _sorted_out(effects, amount_minor)
    reprice = _reprice(asked, facility)
    if reprice is not None:
        cap_bps = guardrails.apr_cap_at(t_ms)
        if cap_bps is not None and reprice.to_bps > cap_bps:
            asked.setdefault(Hold, []).append(PRICE_ABOVE_CAP)
    hold, approved = _payout(asked, amount_minor)
    if hold:
        reprice = None
    change = _limit_change(asked, amount_minor, approved, facility, position, guardrails, raise_allowed and not hold)
    return Outcome(
        _headline(hold, change, reprice), approved, hold, reprice, change,
        tuple(sorted({e.action for e in asked.get(Alert, ()) if isinstance(e.action, Alert)})),
        tuple(sorted({e.action.name for e in asked.get(Offer, ()) if isinstance(e.action, Offer)})),
        _tags(asked),
        _reasons(asked),
    )  # fmt: skip


def _sorted_out(effects: Iterable[Effect], amount_minor: int) -> Asked:
    """The effects by type of action, without caps that do not bind, and with a hold if nobody said yes or no."""
    asked: Asked = {}
    for effect in effects:
        action = effect.action
        if not (isinstance(action, CapDraw) and action.amount_minor >= amount_minor):
            asked.setdefault(type(action), []).append(effect)
    if Approve not in asked and Hold not in asked:
        asked[Hold] = [NO_OUTCOME]
    return asked


def _payout(asked: Asked, amount_minor: int) -> tuple[HoldKind | None, int]:
    """The hold, if any, and what is paid out: nothing beside a hold or a freeze, else the smallest cap."""
    kinds: list[HoldKind] = [e.action.kind for e in asked.get(Hold, ()) if isinstance(e.action, Hold)]
    if kinds:
        return max(kinds, key=lambda kind: HOLD_RANK[kind]), 0
    if _freezes(asked):
        return None, 0
    caps = [e.action.amount_minor for e in asked.get(CapDraw, ()) if isinstance(e.action, CapDraw)]
    approved = max(0, min(caps, default=amount_minor))
    return ("review" if caps and approved == 0 else None), approved  # a cap of nothing is no approval


def _freezes(asked: Asked) -> bool:
    changes = (e.action for e in asked.get(ChangeLimit, ()))
    return any(isinstance(change, ChangeLimit) and change.kind == "freeze" for change in changes)


def _reprice(asked: Asked, facility: Facility) -> Reprice | None:
    rates = [e.action.apr_bps for e in asked.get(ChangePrice, ()) if isinstance(e.action, ChangePrice)]
    if not rates or max(rates) == facility.apr_bps:
        return None
    return Reprice(facility.apr_bps, max(rates))


def _reasons(asked: Asked) -> tuple[Reason, ...]:
    given = {(e.reason, e.source) for of_type in asked.values() for e in of_type if e.reason}
    return tuple(Reason(code, source) for code, source in sorted(given))


def _tags(asked: Asked) -> tuple[str, ...]:
    tags = {e.action.name for e in asked.get(Tag, ()) if isinstance(e.action, Tag)}
    tags |= {f"renew_{e.action.how}" for e in asked.get(Renew, ()) if isinstance(e.action, Renew)}
    return tuple(sorted(tags))


def _limit_change(
    asked: Asked, amount: int, approved: int, facility: Facility, position: Position,
    guardrails: Guardrails, raise_allowed: bool,
) -> LimitChange | None:  # fmt: skip
    limit = facility.limit_minor
    if _freezes(asked):
        return LimitChange("freeze", limit, limit)
    targets = [e.action.to_minor for e in asked.get(ChangeLimit, ()) if isinstance(e.action, ChangeLimit)]
    cuts = [to for to in targets if to < limit]
    used = position.outstanding_minor + position.reserved_minor + approved
    if cuts and max(min(cuts), used) < limit:
        return LimitChange("cut", limit, max(min(cuts), used))
    if 0 < approved < amount:
        return LimitChange("draw_cap", amount, approved)
    raises = [to for to in targets if to > limit]
    if raises and not cuts and raise_allowed:
        step = guardrails.limit_step_max
        to = min(raises) if step is None else min(min(raises), int(limit * (1.0 + step)))
        return LimitChange("raise", limit, to) if to > limit else None
    return None


def _headline(
    hold: HoldKind | None, change: LimitChange | None, reprice: Reprice | None
) -> Literal["approve", "hold", "reprice", "limit_change"]:
    if hold:
        return "hold"
    if change:
        return "limit_change"
    return "reprice" if reprice else "approve"

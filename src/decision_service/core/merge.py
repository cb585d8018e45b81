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
    asked = [e for e in effects if not (isinstance(e.action, CapDraw) and e.action.amount_minor >= amount_minor)]
    if not any(isinstance(e.action, Approve | Hold) for e in asked):
        asked.append(NO_OUTCOME)
    reprice = _reprice(asked, facility)
    cap_bps = guardrails.apr_cap_at(t_ms)
    if reprice is not None and cap_bps is not None and reprice.to_bps > cap_bps:
        asked.append(Effect(Hold("review"), "guardrail:apr_cap", "RC36"))
        reprice = None
    hold: HoldKind | None = _hold(asked)
    frozen = any(isinstance(e.action, ChangeLimit) and e.action.kind == "freeze" for e in asked)
    cap = min((e.action.amount_minor for e in asked if isinstance(e.action, CapDraw)), default=amount_minor)
    approved = 0 if hold or frozen else max(0, min(amount_minor, cap))
    if not (hold or frozen) and approved == 0:  # a cap of nothing is no approval
        hold = "review"
    change = _limit_change(asked, amount_minor, approved, facility, position, guardrails, raise_allowed and not hold)
    if hold:
        reprice = None
    return Outcome(
        _headline(hold, change, reprice), approved, hold, reprice, change,
        tuple(sorted({e.action for e in asked if isinstance(e.action, Alert)})),
        tuple(sorted({e.action.name for e in asked if isinstance(e.action, Offer)})),
        tuple(sorted(_tags(asked))),
        tuple(sorted({Reason(e.reason, e.source) for e in asked if e.reason})),
    )  # fmt: skip


def _hold(asked: list[Effect]) -> HoldKind | None:
    kinds: list[HoldKind] = [e.action.kind for e in asked if isinstance(e.action, Hold)]
    return max(kinds, key=lambda kind: HOLD_RANK[kind], default=None)


def _reprice(asked: list[Effect], facility: Facility) -> Reprice | None:
    rates = [e.action.apr_bps for e in asked if isinstance(e.action, ChangePrice)]
    if not rates or max(rates) == facility.apr_bps:
        return None
    return Reprice(facility.apr_bps, max(rates))


def _tags(asked: list[Effect]) -> set[str]:
    tags = {e.action.name for e in asked if isinstance(e.action, Tag)}
    return tags | {f"renew_{e.action.how}" for e in asked if isinstance(e.action, Renew)}


def _limit_change(
    asked: list[Effect], amount: int, approved: int, facility: Facility, position: Position,
    guardrails: Guardrails, raise_allowed: bool,
) -> LimitChange | None:  # fmt: skip
    limit = facility.limit_minor
    changes = [e.action for e in asked if isinstance(e.action, ChangeLimit)]
    if any(c.kind == "freeze" for c in changes):
        return LimitChange("freeze", limit, limit)
    targets = [c.to_minor for c in changes]
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

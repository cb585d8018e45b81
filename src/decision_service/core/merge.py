"""Merging the effects of many rules into one outcome: commutative, idempotent, and never approving by default.

Each part of the outcome is the extreme of what was asked for, so order and repetition cannot matter:

    hold          the most severe kind
    draw cap      the smallest; one that does not bind is no effect and gives no reason
    limit         freeze, else the lowest of the cuts, else (and beside no cut) the lowest of the raises
    price         the highest rate
    alerts        one an indicator, of the highest tier it was raised with
    renewal       decline, else manual, else auto; beside a hold auto is manual
    offers, tags  the union, sorted

Reasons are ordered by code, then source; those of a scorecard follow them later (`model_reasons`).

Guardrails act on what that comes to (`bounds`). A price above the cap for the date is not clipped (that would lend at a
loss) but sent to review, whatever else would have become of it. Beside a hold nothing gets better: no raise, no price,
no renewal by itself; a cut or a freeze stands.

A drawdown that nobody approves is held: there is no default outcome. All other scenes are reviews, which pay nothing
out: one in which nobody asks for anything approves, that is, leaves everything as it is.

Money in minor units, rates in basis points, instants in ms UTC.
"""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter
from typing import Final, Literal, NamedTuple

from decision_service.core.bounds import Bounds
from decision_service.core.decision import (
    HOLD_RANK,
    RENEWALS,
    TIER_RANK,
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
    Renewal,
    Reprice,
    Tag,
    TierChange,
)
from decision_service.core.facility import Facility, Position
from decision_service.core.reasons import Reason
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.core.rules.spec import Guardrails
from decision_service.core.standing import Standing

_WARNING: Final = "warning"
_TIER_AND_INDICATOR: Final = attrgetter("tier", "indicator")  # the order of alerts, without comparing objects


class Outcome(NamedTuple):
    """What the merged effects come to. `bounded` names the guardrails that changed it: `guardrail:limit_step_max`."""

    decision: Literal["approve", "hold", "reprice", "limit_change"]
    approved_minor: int
    hold: HoldKind | None
    reprice: Reprice | None
    limit_change: LimitChange | None
    alerts: tuple[Alert, ...]
    offers: tuple[str, ...]
    tags: tuple[str, ...]
    reasons: tuple[Reason, ...]
    tier: TierChange | None = None  # of the scene `warning`
    renewal: Renewal | None = None
    bounded: tuple[str, ...] = ()


NO_OUTCOME = Effect(Hold("review"), "policy:no_outcome", "RC90")
PRICE_ABOVE_CAP = Effect(Hold("review"), "guardrail:apr_cap", "RC36")
Asked = dict[type[Action], list[Effect]]  # the effects by what they ask for


def merge(
    effects: Collection[Effect],
    amount_minor: int,
    facility: Facility,
    position: Position,
    guardrails: Guardrails,
    t_ms: int,
    standing: Standing,
    scene: str,
) -> Outcome:
    """One outcome from the effects of all rules of a scene. `amount_minor` is 0 but for a drawdown; `standing` is read
    only if something that the guardrails bound was asked for."""
    if scene == DRAWDOWN_SCENE and (plain := _plain(effects, amount_minor, guardrails, t_ms)):
        return plain
    asked = _sorted_out(effects, amount_minor, scene)
    bounds = Bounds(facility, guardrails, standing, t_ms)
    price = _price(asked, facility)
    if price is not None and bounds.price_above_cap(price):
        asked.setdefault(Hold, []).append(PRICE_ABOVE_CAP)
    hold, approved = _payout(asked, amount_minor)
    reprice = None if price is None or hold else bounds.price(price)
    used = position.outstanding_minor + position.reserved_minor + approved
    capped = 0 < approved < amount_minor
    change = _limit_change(asked, facility, used, bounds, may_rise=not hold and not capped)
    if change is None and capped:
        change = LimitChange("draw_cap", amount_minor, approved)
    elif change is not None and change.kind == "freeze" and facility.status == "frozen" and scene != DRAWDOWN_SCENE:
        change = None  # it is: a review that finds the same every night says so once
    alerts = _alerts(asked)
    tier = bounds.tier(alerts) if scene == _WARNING else None
    return Outcome(
        _headline(hold, change, reprice), approved, hold, reprice, change, alerts,
        _names(asked, Offer), _names(asked, Tag),
        _reasons(asked, hold, change, reprice), tier, _renewal(asked, hold), tuple(sorted(bounds.signs)),
    )  # fmt: skip


def _plain(effects: Collection[Effect], amount_minor: int, guardrails: Guardrails, t_ms: int) -> Outcome | None:
    """What `merge` makes of a drawdown that is only approved or held, perhaps with alerts, as nearly all are; None for
    any other. What is held besides a cap or a price is only held, unless the price is above its own cap."""
    hold: HoldKind | None = None
    approved, altered, price = False, False, 0
    told: set[Reason] = set()
    raised: list[Effect] = []
    for effect in effects:
        action = effect.action
        if isinstance(action, Hold):
            if hold is None or HOLD_RANK[action.kind] > HOLD_RANK[hold]:
                hold = action.kind
        elif isinstance(action, Approve):
            approved = True
        elif isinstance(action, Alert):
            raised.append(effect)
        elif isinstance(action, CapDraw):
            if action.amount_minor >= amount_minor:
                continue
            altered = True
        elif isinstance(action, ChangePrice):
            altered, price = True, max(price, action.apr_bps)
        else:
            return None
        if effect.told is not None:
            told.add(effect.told)
    if hold is None and (altered or not approved):  # or nobody said anything: `_sorted_out`
        return None
    cap = guardrails.apr_cap_bps
    if price and cap is not None and price > cap.at(t_ms):
        return None
    alerts = _highest(raised) if raised else ()
    return Outcome(
        "hold" if hold else "approve", 0 if hold else amount_minor, hold, None, None, alerts, (), (),
        tuple(sorted(told)),
    )  # fmt: skip


def _sorted_out(effects: Collection[Effect], amount_minor: int, scene: str) -> Asked:
    """The effects by type of action, without caps that do not bind, and with a hold if nobody said yes or no to a
    drawdown."""
    asked: Asked = {}
    for effect in effects:
        action = effect.action
        if not (isinstance(action, CapDraw) and action.amount_minor >= amount_minor):
            asked.setdefault(type(action), []).append(effect)
    if scene == DRAWDOWN_SCENE and Approve not in asked and Hold not in asked:
        asked[Hold] = [NO_OUTCOME]
    return asked


def _payout(asked: Asked, amount_minor: int) -> tuple[HoldKind | None, int]:
    """The hold, if any, and what is paid out: nothing beside a hold or a freeze, else the smallest cap."""
    if Hold in asked:
        kinds: list[HoldKind] = [e.action.kind for e in asked[Hold] if isinstance(e.action, Hold)]
        return max(kinds, key=HOLD_RANK.__getitem__), 0
    if _freezes(asked):
        return None, 0
    if CapDraw not in asked:
        return None, amount_minor
    caps = [e.action.amount_minor for e in asked.get(CapDraw, ()) if isinstance(e.action, CapDraw)]
    approved = max(0, min(caps, default=amount_minor))
    return ("review" if caps and approved == 0 else None), approved  # a cap of nothing is no approval


def _freezes(asked: Asked) -> bool:
    if ChangeLimit not in asked:
        return False
    changes = (e.action for e in asked[ChangeLimit])
    return any(isinstance(change, ChangeLimit) and change.kind == "freeze" for change in changes)


def _price(asked: Asked, facility: Facility) -> int | None:
    """The rate asked for, in basis points; None if nobody asks for another than there is."""
    if ChangePrice not in asked:
        return None
    highest = max(e.action.apr_bps for e in asked[ChangePrice] if isinstance(e.action, ChangePrice))
    return None if highest == facility.apr_bps else highest


def _reasons(
    asked: Asked, hold: HoldKind | None, change: LimitChange | None, reprice: Reprice | None
) -> tuple[Reason, ...]:
    """Every cause that was given; but what the guardrails left nothing of is the cause of nothing."""
    void: set[type[Action]] = set()
    if not hold and reprice is None:
        void.add(ChangePrice)
    if not hold and (change is None or change.kind == "draw_cap"):
        void.add(ChangeLimit)
    return tuple(sorted({e.told for sort, of_sort in asked.items() if sort not in void for e in of_sort if e.told}))


def _names(asked: Asked, sort: type[Offer] | type[Tag]) -> tuple[str, ...]:
    if sort not in asked:
        return ()
    return tuple(sorted({e.action.name for e in asked[sort] if isinstance(e.action, sort)}))


def _alerts(asked: Asked) -> tuple[Alert, ...]:
    return _highest(asked[Alert]) if Alert in asked else ()


def _highest(raised: Collection[Effect]) -> tuple[Alert, ...]:
    """One alert an indicator, of the highest tier it was raised with."""
    highest: dict[str, Alert] = {}
    for effect in raised:
        alert = effect.action
        if isinstance(alert, Alert):
            known = highest.setdefault(alert.indicator, alert)
            if TIER_RANK[alert.tier] > TIER_RANK[known.tier]:
                highest[alert.indicator] = alert
    return tuple(sorted(highest.values(), key=_TIER_AND_INDICATOR))


def _renewal(asked: Asked, hold: HoldKind | None) -> Renewal | None:
    if Renew not in asked:
        return None
    ranks = [RENEWALS.index(e.action.how) for e in asked[Renew] if isinstance(e.action, Renew)]
    return RENEWALS[max(*ranks, 1 if hold else 0)]


def _limit_change(asked: Asked, facility: Facility, used: int, bounds: Bounds, *, may_rise: bool) -> LimitChange | None:
    """What becomes of the limit itself. `used` includes what this drawdown pays out."""
    if ChangeLimit not in asked:
        return None
    limit = facility.limit_minor
    if _freezes(asked):
        return LimitChange("freeze", limit, limit)
    targets = [e.action.to_minor for e in asked[ChangeLimit] if isinstance(e.action, ChangeLimit)]
    cuts, raises = [to for to in targets if to < limit], [to for to in targets if to > limit]
    if cuts:
        to = bounds.cut(min(cuts), used)
        return None if to is None else LimitChange("cut", limit, to)
    to = bounds.raised(min(raises)) if raises and may_rise else None
    return None if to is None else LimitChange("raise", limit, to)


def _headline(
    hold: HoldKind | None, change: LimitChange | None, reprice: Reprice | None
) -> Literal["approve", "hold", "reprice", "limit_change"]:
    if hold:
        return "hold"
    if change:
        return "limit_change"
    return "reprice" if reprice else "approve"

"""The reasons a score gives for an answer that it made adverse: the features behind the score, not the rule's own code.

They are told only where both hold:

  * the answer is adverse: a hold, a limit cut or frozen, a draw capped, a dearer price, a renewal declined or left to a
    person, a warning tier that went up;
  * an effect that made it so was asked for by something that looked at the score (`rules/score_references.py`).

An effect of the other kind, and one for something unknown (RC9x), is not the score's doing; a score that is null has
nothing to tell. Which codes, and how many, is `scorecards/adverse.py`. They follow the other reasons, heaviest first,
as `scorecard:<name>`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from decision_service.core.decision import (
    TIER_RANK,
    Action,
    Alert,
    CapDraw,
    ChangeLimit,
    ChangePrice,
    Effect,
    Hold,
    Renew,
    Score,
)
from decision_service.core.facility import Facility
from decision_service.core.merge import PRICE_ABOVE_CAP, Outcome
from decision_service.core.reasons import Reason
from decision_service.core.scene import Scene

_OF_THE_SERVICE = "RC9"


def model_reasons(
    scene: Scene, effects: Collection[Effect], outcome: Outcome, facility: Facility, amount_minor: int,
    scores: Mapping[str, Score], cells: Collection[str],
) -> tuple[Reason, ...]:  # fmt: skip
    """The reasons of the scorecards that made the answer adverse; almost always none.

    The rows that were scored must still stand in the scene's slots.
    """
    cards: frozenset[str] = frozenset()
    if not scene.score_references.among(effects):
        return ()
    for effect in _adverse(effects, outcome, facility, amount_minor):
        if not effect.reason.startswith(_OF_THE_SERVICE):
            cards |= scene.score_references.cards(effect.source, cells)
    return tuple(_reasons(scene, cards, scores)) if cards else ()


def _reasons(scene: Scene, cards: frozenset[str], scores: Mapping[str, Score]) -> Iterator[Reason]:
    for slot in scene.score_slots:
        score = scores[slot.scorecard.name]
        if slot.scorecard.name in cards and score.points is not None:
            behind = slot.behind(score)
            card, row = behind.scorecard, behind.row
            for adverse in card.adverse(row, card.scorer.contributions(row)):
                yield Reason(adverse.code, f"scorecard:{card.name}")


def _adverse(effects: Iterable[Effect], outcome: Outcome, facility: Facility, amount_minor: int) -> Iterator[Effect]:
    """The effects that an adverse part of the outcome is made of."""
    sorts = _adverse_sorts(outcome, amount_minor)
    for effect in effects if sorts else ():
        if type(effect.action) in sorts and _against(effect.action, outcome, facility, amount_minor):
            yield effect


def _adverse_sorts(outcome: Outcome, amount_minor: int) -> set[type[Action]]:
    """What may have been asked for by an effect that made the outcome adverse."""
    sorts: set[type[Action]] = set()
    kind = None if outcome.limit_change is None else outcome.limit_change.kind
    if outcome.hold:
        sorts |= {Hold, CapDraw}
        above_cap = any(reason.source == PRICE_ABOVE_CAP.source for reason in outcome.reasons)
        sorts |= {ChangePrice} if above_cap else set()
    if 0 < outcome.approved_minor < amount_minor:  # perhaps beside a cut, which then is what the limit change tells
        sorts.add(CapDraw)
    if kind in ("cut", "freeze"):
        sorts.add(ChangeLimit)
    if outcome.reprice is not None and outcome.reprice.to_bps > outcome.reprice.from_bps:
        sorts.add(ChangePrice)
    if outcome.renewal in ("manual", "decline"):
        sorts.add(Renew)
    if outcome.tier is not None and TIER_RANK.get(outcome.tier.to_tier, 0) > TIER_RANK.get(outcome.tier.from_tier, 0):
        sorts.add(Alert)
    return sorts


def _against(action: Action, outcome: Outcome, facility: Facility, amount_minor: int) -> bool:
    """Whether an action asks for what the outcome came to, and that speaks against the customer."""
    match action:
        case CapDraw(amount_minor=cap):
            return cap <= 0 if outcome.hold else cap < amount_minor  # only a cap of nothing holds
        case ChangeLimit(kind=kind, to_minor=to):
            frozen = outcome.limit_change is not None and outcome.limit_change.kind == "freeze"
            return kind == "freeze" if frozen else kind == "set" and to < facility.limit_minor
        case ChangePrice(apr_bps=apr_bps):
            return apr_bps > facility.apr_bps
        case Renew(how=how):
            return how == outcome.renewal
        case Alert(tier=tier, indicator=indicator):
            return outcome.tier is not None and tier == outcome.tier.to_tier and indicator in outcome.tier.indicators
    return True

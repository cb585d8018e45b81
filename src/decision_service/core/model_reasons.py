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

from collections.abc import Collection, Iterator, Mapping

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
    references = scene.score_references
    for effect in references.among(effects):
        of_the_service = effect.reason.startswith(_OF_THE_SERVICE)
        if not of_the_service and _against(effect.action, outcome, facility, amount_minor):
            cards |= references.cards(effect.source, cells)
    return tuple(_reasons(scene, cards, scores)) if cards else ()


def _reasons(scene: Scene, cards: frozenset[str], scores: Mapping[str, Score]) -> Iterator[Reason]:
    for slot in scene.score_slots:
        score = scores[slot.scorecard.name]
        if slot.scorecard.name in cards and score.points is not None:
            behind = slot.behind(score)
            card, row = behind.scorecard, behind.row
            for adverse in card.adverse(row, card.scorer.contributions(row)):
                yield Reason(adverse.code, f"scorecard:{card.name}")


def _against(action: Action, outcome: Outcome, facility: Facility, amount_minor: int) -> bool:
    """Whether an action asks for what the outcome came to, and that speaks against the customer."""
    match action:
        case Hold():
            return outcome.hold is not None
        case CapDraw(amount_minor=cap):
            if outcome.hold:
                return cap <= 0  # only a cap of nothing holds
            return 0 < outcome.approved_minor < amount_minor and cap < amount_minor
        case ChangeLimit(kind=kind, to_minor=to):
            came_to = None if outcome.limit_change is None else outcome.limit_change.kind
            if came_to == "freeze":
                return kind == "freeze"
            return came_to == "cut" and kind == "set" and to < facility.limit_minor
        case ChangePrice(apr_bps=apr_bps):
            return apr_bps > facility.apr_bps and _is_dearer(outcome)
        case Renew(how=how):
            return how == outcome.renewal and how in ("manual", "decline")
        case Alert(tier=tier, indicator=indicator):
            change = outcome.tier
            rose = change is not None and TIER_RANK.get(change.to_tier, 0) > TIER_RANK.get(change.from_tier, 0)
            return change is not None and rose and tier == change.to_tier and indicator in change.indicators
    return False


def _is_dearer(outcome: Outcome) -> bool:
    """Whether the price went up, or would have, above its cap."""
    if outcome.hold:
        return any(reason.source == PRICE_ABOVE_CAP.source for reason in outcome.reasons)
    return outcome.reprice is not None and outcome.reprice.to_bps > outcome.reprice.from_bps

"""The guard: what a candidate would have decided on what was decided lately, looked at before it comes into force.

A mistake can compile: a threshold with a digit too few blocks everybody, a condition turned round approves everybody.
So a worker keeps its last DECISIONS_KEPT drawdowns, each with the request and the state it was decided on (one append a
decision), and the worker that is first to load a candidate decides all of them again with it, in the thread that
compiled it. If the share of approved drawdowns moves by more than the setting allows, or everybody or nobody would be
approved who was a mixture before, the candidate is refused with both shares and the rules that changed most.

Like is compared with like: the same requests, states and instants. What is compared with is the outcome that was
recorded, not the active policy's decision anew: it is what the customers got, it costs nothing, and the active policy
is busy (its buffers are for one thread at a time); for the decisions it made itself the two are the same, for `decide`
is a pure function. Reviews have no approvals and are not kept. Below DECISIONS_MIN decisions nothing is refused.

The scores of the same decisions are judged as well (`score_spread`): a candidate whose scorecard gives everybody the
same score, nobody any, or scores far from what it was trained on is refused with the figures. What only shows later is
seen by `score_watch`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from decision_service.core.decide import decide
from decision_service.core.decision import Decision
from decision_service.core.errors import InvalidInput, PolicyRejected
from decision_service.core.policy import Policy
from decision_service.core.request import DRAWDOWN_SCENE, DecisionRequest
from decision_service.core.source import Diagnostic, Place
from decision_service.core.state import CustomerState
from decision_service.interpreter import beside_the_loop
from decision_service.policies.score_spread import ScoreSpread, cards_of, follows, spreads

DECISIONS_KEPT: Final = 256
DECISIONS_MIN: Final = 50
LOG_BYTES_MAX: Final = 65_536  # of a state that is kept: at most 16 MB a worker
RULES_SHOWN: Final = 5
GIVE_WAY_S: Final = 0.0005  # after each, which takes a third of a millisecond
FIRED: Final = frozenset((1, 3, 4))  # verdicts by which a rule had its say

Decided = tuple[DecisionRequest, CustomerState, Decision]


@dataclass(frozen=True, slots=True)
class FireRate:
    """How often a rule had its say, as a share; None where one of the policies has no such rule."""

    rule: str
    before: float | None
    after: float | None

    @property
    def change(self) -> float:
        """How far it moved."""
        return abs((self.after or 0.0) - (self.before or 0.0))


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a candidate makes of what was decided lately: shares of approved drawdowns, and the rules that moved."""

    decisions: int
    approved_before: float
    approved_after: float
    rules: tuple[FireRate, ...]
    scores_before: tuple[ScoreSpread, ...] = ()
    scores_after: tuple[ScoreSpread, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For a machine."""
        rules = [{"rule": r.rule, "before": r.before, "after": r.after} for r in self.rules]
        return {
            "decisions": self.decisions, "approved_before": self.approved_before,
            "approved_after": self.approved_after, "rules": rules,
            "scores_before": [spread.as_json() for spread in self.scores_before],
            "scores_after": [spread.as_json() for spread in self.scores_after],
        }  # fmt: skip


class ActivationGuard:
    """What was decided lately, and the judgement of candidates on it. `change_max` is a share of approvals; 1 refuses
    nothing for them. `judges_scores`: refuses also for scores that are far off."""

    def __init__(self, change_max: float, *, judges_scores: bool = True) -> None:
        self._change_max = change_max
        self._judges_scores = judges_scores
        self._lately: deque[Decided] = deque(maxlen=DECISIONS_KEPT)

    def keep(self, request: DecisionRequest, state: CustomerState, decision: Decision) -> None:
        """Keep a drawdown that was committed; of reviews none is, for a nightly run over the book would leave no
        drawdown to judge by."""
        if request.scene == DRAWDOWN_SCENE and len(state.log) <= LOG_BYTES_MAX:
            self._lately.append((request, state, decision))

    @property
    def lately(self) -> tuple[Decided, ...]:
        """The drawdowns decided lately, oldest first. Ask in the event loop, where they are kept."""
        return tuple(self._lately)

    @property
    def takes_any(self) -> bool:
        """Whether nothing is refused, whatever it does to approvals and scores."""
        return self._change_max >= 1 and not self._judges_scores

    def rehearse(self, candidate: Policy, active: Policy | None, lately: tuple[Decided, ...]) -> Rehearsal | None:
        """The candidate on what was decided lately; None if that is nothing. `candidate` must not be in force: it
        decides here, in the thread that calls."""
        with beside_the_loop():
            again = []
            for one in lately:
                again.append((one[2], _again(one, candidate)))
                time.sleep(GIVE_WAY_S)  # requests come first
            pairs = [(was, now) for was, now in again if now]
        if not pairs:
            return None
        return Rehearsal(
            len(pairs), _approved(was for was, _ in pairs), _approved(now for _, now in pairs),
            _fire_rates(pairs, candidate, active),
            spreads((was for was, _ in pairs), cards_of(active, candidate)),
            spreads((now for _, now in pairs), cards_of(candidate)),
        )  # fmt: skip

    def refuse(self, rehearsal: Rehearsal | None, candidate: Policy) -> None:
        """PolicyRejected if the approvals would move too far, or scores are far off."""
        if rehearsal is None or not has_evidence(rehearsal):
            return
        before, after = rehearsal.approved_before, rehearsal.approved_after
        all_alike = after in (0.0, 1.0) and 0.0 < before < 1.0
        wrong = _scores_far_off(rehearsal) if self._judges_scores else []
        if self._change_max < 1 and (abs(after - before) > self._change_max or all_alike):
            wrong = [*_diagnostics(rehearsal, candidate, self._change_max), *wrong]
        if wrong:
            raise PolicyRejected(wrong)


def has_evidence(rehearsal: Rehearsal | None) -> bool:
    """Whether there was enough to judge by."""
    return rehearsal is not None and rehearsal.decisions >= DECISIONS_MIN


def _again(decided: Decided, candidate: Policy) -> Decision | None:
    request, state, was = decided
    try:
        return decide(request, state, candidate, was.decided_at_ms, was.decision_id)
    except InvalidInput:  # the candidate does not know the scene
        return None


def _approved(decisions: Iterable[Decision]) -> float:
    shares = [decision.approved_minor > 0 for decision in decisions]
    return sum(shares) / len(shares)


def _fire_rates(
    pairs: list[tuple[Decision, Decision]], candidate: Policy, active: Policy | None
) -> tuple[FireRate, ...]:
    """The rules that moved most; before is known of the decisions that the active policy made."""
    known = {} if active is None else _rates([was for was, _ in pairs if was.policy_id == active.id], active)
    found = _rates([now for _, now in pairs], candidate)
    rates = [FireRate(rule, known.get(rule), found.get(rule)) for rule in {**known, **found}]
    moved = sorted((rate for rate in rates if rate.change > 0), key=lambda rate: (-rate.change, rate.rule))
    return tuple(moved[:RULES_SHOWN])


def _rates(decisions: list[Decision], policy: Policy) -> dict[str, float]:
    scene = policy.scenes.get(DRAWDOWN_SCENE)
    if scene is None or not decisions:
        return {}
    verdicts = [decision.trace.verdicts for decision in decisions if decision.trace is not None]
    return {
        rule.id: sum(one[i] in FIRED for one in verdicts) / len(verdicts) for i, rule in enumerate(scene.rule_set.rules)
    }


def _scores_far_off(rehearsal: Rehearsal) -> list[Diagnostic]:
    expected = "scores of these customers spread as in the scorecard's training; or `force`, if it is meant"
    return [
        Diagnostic(Place(f"models/{spread.scorecard}/{spread.version}/manifest.yaml", 1, 1), off, expected)
        for spread in rehearsal.scores_after
        if (off := spread.off(follows(spread, rehearsal.scores_before)))
    ]


def _diagnostics(rehearsal: Rehearsal, candidate: Policy, change_max: float) -> list[Diagnostic]:
    spec = candidate.scenes[DRAWDOWN_SCENE].rule_set.spec
    place = Place(spec.place.file, 1, 1)
    expected = f"a change of at most {change_max:.0%} and neither all nor nobody approved; or `force`, if it is meant"
    head = (
        f"would approve {rehearsal.approved_after:.0%} of the last {rehearsal.decisions} drawdowns, "
        f"of which {rehearsal.approved_before:.0%} were approved"
    )
    moved = [
        f"rule `{rate.rule}` would have its say in {_shown(rate.after)} of them, before in {_shown(rate.before)}"
        for rate in rehearsal.rules
    ]
    return [Diagnostic(place, head, expected), *(Diagnostic(place, line) for line in moved)]


def _shown(share: float | None) -> str:
    return "none" if share is None else f"{share:.0%}"

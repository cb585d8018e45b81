"""Decisions that columns cannot decide, decided by `core.decide` itself: from the state that the archive rebuilds.

The logs of entities are not archived, so their features are taken as they were recorded, by name; what was not recorded
is null. Everything else is computed from the log, as in the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from decision_service.backtest.archived import View
from decision_service.backtest.facts import Facts
from decision_service.backtest.outcome import DECISIONS, HOLDS, LIMITS, NONE
from decision_service.core.decide import decide
from decision_service.core.decision import Decision
from decision_service.core.event import Words
from decision_service.core.features.grains import CUSTOMER
from decision_service.core.features.plans import FeaturePlans
from decision_service.core.inputs import RequestWords
from decision_service.core.money import SCALES
from decision_service.core.policy import Policy
from decision_service.core.rules.codegen import SILENT, UNKNOWN_SKIPPED
from decision_service.core.scene import Numbers, Scenes

if TYPE_CHECKING:
    from decision_service.archive.histories import Decided


class LinksByName(FeaturePlans):
    """Plans that read no entity log: `recorded` holds what stands in the slots of their features."""

    def __init__(self, plans: FeaturePlans) -> None:
        super().__init__(plans.plans, plans.first_slot)
        self.link_names = tuple(name for grain in plans.link_grains for name in plans.plans[grain].names)
        self._filled = slice(plans.first_slot, plans.first_slot + len(self.link_names))
        self._of_customer = plans.plans[CUSTOMER]
        self.link_grains = ()  # nothing is to be read
        self.recorded: npt.NDArray[np.float64] = np.full(len(self.link_names), np.nan)

    def compute(self, words: Words, links: Mapping[str, Words | None], row: RequestWords, numbers: Numbers) -> bool:
        """See `FeaturePlans.compute`."""
        del links
        numbers[self._filled] = self.recorded
        self._of_customer.compute(words, row, numbers)
        return False


class Plainly:
    """Decides single decisions again under the candidate. One thread: a policy owns buffers."""

    def __init__(self, candidate: Policy) -> None:
        self._plans = {name: LinksByName(scene.plan) for name, scene in candidate.scenes.items()}
        scenes = Scenes({name: replace(s, plan=self._plans[name]) for name, s in candidate.scenes.items()})
        self._candidate = replace(candidate, scenes=scenes)
        self._places: dict[tuple[str, str], npt.NDArray[np.intp]] = {}

    def decide(self, one: Decided, view: View) -> Decision:
        """The candidate's answer, with the lists as they were. Errors as `core.decide`."""
        row, scene = one.row, one.request.scene
        plan = self._plans[scene]
        key = (view.policy.id, scene)
        if key not in self._places:
            there = {name: i for i, name in enumerate(view.scene.number_names) if name in view.shared.same}
            self._places[key] = np.array([there.get(name, -1) for name in plan.link_names], np.intp)
        places = self._places[key]
        numbers = np.frombuffer(row.numbers or b"", "<f8")
        plan.recorded = np.where(places >= 0, numbers[np.maximum(places, 0)], np.nan)
        policy = replace(self._candidate, rule_lists=view.lists)
        return decide(one.request, one.state_before, policy, row.decided_at_ms or 0, row.decision_id or "")


@dataclass(frozen=True, slots=True)
class Left:
    """Decisions of one view that were left to `Plainly`: their facts, of which the candidate's half is yet to come."""

    view: View
    facts: Facts


def put(left: Left, i: int, decision: Decision, card: str | None) -> None:
    """Take the candidate's answer to a decision into its facts."""
    after, change = left.facts.after, decision.limit_change
    after.decision[i] = DECISIONS.index(decision.decision)
    after.hold[i] = HOLDS.index(decision.hold or "")
    after.paid[i] = decision.approved_minor / SCALES[decision.currency]
    after.price_bps[i] = NONE if decision.reprice is None else decision.reprice.to_bps
    after.limit[i] = 0 if change is None else LIMITS.index(change.kind)
    score = decision.scores.get(card) if card else None
    after.pd[i] = np.nan if score is None or score.pd is None else score.pd
    after.points[i] = np.nan if score is None or score.points is None else score.points
    assert decision.trace is not None, "decisions keep their trace"
    verdicts = np.frombuffer(decision.trace.verdicts, np.uint8)
    after.fired[:, i] = (verdicts != SILENT) & (verdicts != UNKNOWN_SKIPPED)


def told(decision: Decision) -> dict[str, Any]:
    """A decision in the words of `Outcomes.answer`, for comparing the two ways."""
    change = decision.limit_change
    return {
        "decision": decision.decision,
        "approved_minor": decision.approved_minor,
        "hold": decision.hold,
        "price_bps": None if decision.reprice is None else decision.reprice.to_bps,
        "limit": None if change is None else change.kind,
        "limit_to_minor": None if change is None else change.to_minor,
        "renewal": decision.renewal,
        "tier": None if decision.tier is None else decision.tier.to_tier,
        "alerts": sorted((alert.tier, alert.indicator) for alert in decision.alerts),
        "offers": sorted(decision.offers),
        "tags": sorted(decision.tags),
        "reasons": sorted((r.code, r.source) for r in decision.reasons if not r.source.startswith("scorecard:")),
    }

"""The record of one decision in shadow: what the policy in shadow says, in the answer's words, and where that differs.

Kept as JSON beside the decision (`Store.save_shadow_policy`) and told in the outbox as an entry of kind
`shadow_policy`:

    {"policy_id": "9f2c51d07a3b", "label": "2026.12.1", "active_policy_id": "1c0d…", "scene": "drawdown",
     "outcome": "hold", "approved_minor": 0, "currency": "CNY", "hold": "review", "limit_change": null,
     "reprice": null, "reasons": ["RC10"], "rules": ["odd_hour_large"], "rules_new": ["odd_hour_large"],
     "rules_lost": [], "cells": ["score_by_utilisation:C,<=0.8"],
     "rung": "full", "scores": {"behaviour": {"version": "…", "points": 612, "pd": 0.0135, "grade": "C"}},
     "differs": ["outcome", "approved", "hold", "reasons"], "problem": null}

Money in minor units, `limit_change` is [kind, from, to], `reprice` [from, to] in basis points. `rules` are those that
had their say (fired, or unknown and taken for it), `rules_new` those of them that had none in what was answered,
`rules_lost` those that had theirs only there. With a `problem` (the shadow has no rule set for the scene, or
raised) everything it would have said is null. `active_policy_id` is without lists, as tallies name policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from decision_service.core.decision import Decision
from decision_service.core.policy import Policy
from decision_service.policies.guard import FIRED
from decision_service.shadow_policy.wire import Active

TERMS: Final = ("outcome", "approved", "hold", "limit_change", "reprice")
"""In which two answers may differ so that they disagree; reasons may differ between answers that agree."""


class Side(NamedTuple):
    """One side of a comparison."""

    outcome: str
    approved_minor: int
    currency: str
    hold: str | None
    limit_change: tuple[str, int, int] | None
    reprice: tuple[int, int] | None
    reasons: tuple[str, ...]
    rules: tuple[str, ...]  # that had their say
    cells: tuple[str, ...]


class Compared(NamedTuple):
    """One decision by both policies. `shadow` is None if there is a `problem`."""

    decision_id: str
    at_ms: int
    scene: str
    active: Side
    shadow: Side | None
    rung: str
    differs: tuple[str, ...]
    problem: str

    @property
    def agrees(self) -> bool:
        """Whether both answer the same, whatever the reasons."""
        return self.shadow is not None and not set(self.differs).intersection(TERMS)


def active_side(active: Active, rules: Sequence[str]) -> Side:
    """What was answered; `rules` are the ids of the active policy's rules in the order of verdicts."""
    outcome, approved_minor, currency, hold, limit_change, reprice, reasons, verdicts, cells = active
    return Side(
        outcome, approved_minor, currency, hold, limit_change, reprice, reasons, _fired(rules, verdicts), tuple(cells)
    )


def shadow_side(decision: Decision, policy: Policy) -> Side:
    """What the shadow would have answered."""
    trace = decision.trace
    assert trace is not None
    limit, price = decision.limit_change, decision.reprice
    rules = [rule.id for rule in policy.scenes[decision.scene].rule_set.rules]
    return Side(
        decision.decision, decision.approved_minor, decision.currency, decision.hold,
        None if limit is None else (limit.kind, limit.from_minor, limit.to_minor),
        None if price is None else (price.from_bps, price.to_bps), tuple(reason.code for reason in decision.reasons),
        _fired(rules, trace.verdicts), trace.cells,
    )  # fmt: skip


def _fired(rules: Sequence[str], verdicts: bytes) -> tuple[str, ...]:
    return tuple(rule for rule, verdict in zip(rules, verdicts, strict=True) if verdict in FIRED)


def changes(before: tuple[str, ...], after: tuple[str, ...]) -> list[tuple[str, str]]:
    """What had its say in both, newly, or no longer: names with `both`, `new`, `lost`."""
    if before == after:
        return [(name, "both") for name in before]
    were, are = set(before), set(after)
    return [(name, "both" if name in are else "lost") for name in before] + [
        (name, "new") for name in after if name not in were
    ]


def differing(active: Side, shadow: Side) -> tuple[str, ...]:
    """In what two sides differ: of TERMS, and `reasons`."""
    pairs = (
        ("outcome", active.outcome, shadow.outcome), ("approved", active.approved_minor, shadow.approved_minor),
        ("hold", active.hold, shadow.hold), ("limit_change", active.limit_change, shadow.limit_change),
        ("reprice", active.reprice, shadow.reprice), ("reasons", set(active.reasons), set(shadow.reasons)),
    )  # fmt: skip
    return tuple(name for name, one, other in pairs if one != other)


def body(one: Compared, decision: Decision | None, policy: Policy, active_policy_id: str) -> bytes:
    """The record as it is kept."""
    told: dict[str, Any] = dict.fromkeys(Side._fields) if one.shadow is None else one.shadow._asdict()
    scores = {} if decision is None else decision.scores
    changed: dict[str, list[str]] = {"both": [], "new": [], "lost": []}
    for rule, change in () if one.shadow is None else changes(one.active.rules, one.shadow.rules):
        changed[change].append(rule)
    return orjson.dumps(
        {
            "policy_id": policy.id, "label": policy.label, "active_policy_id": active_policy_id, "scene": one.scene,
            **told, "rules_new": changed["new"], "rules_lost": changed["lost"], "rung": one.rung or None,
            "scores": {
                name: {"version": score.version, "points": score.points, "pd": score.pd, "grade": score.grade}
                for name, score in scores.items()
            },
            "differs": one.differs, "problem": one.problem or None,
        }
    )  # fmt: skip

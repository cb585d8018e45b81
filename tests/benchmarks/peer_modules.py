"""Answers of the stack and of this service without a server between them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from peer_benchmarks import PEERS

from decision_service.api.parse import Clock, parse_decision, parse_event, parse_facility, read_events
from decision_service.core.decide import decide
from decision_service.core.event import header
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import Policy
from decision_service.core.state import CustomerState
from decision_service.policies.loading import load_policy
from peer_histories import Customer, mixed, mixed_draws
from stack import as_read
from stack_app import Draw, Line, Parts, judge, kept_line
from stack_features import Histories
from stack_rules import Rule, load_rules
from stack_score import StackScorecard

POLICY = PEERS.parent / "policies" / "peers"
Answer = dict[str, Any]


@cache
def policy() -> Policy:
    """The peers' policy."""
    return load_policy(POLICY / "rules", POLICY / "models", "Asia/Shanghai", DAY_MS)[0]


@cache
def scorecard() -> StackScorecard:
    """The stack's scorecard."""
    return StackScorecard(POLICY / "models" / "behaviour" / "1")


def both_answers(
    numbers: Sequence[int], rules: Sequence[Rule] | None = None
) -> Iterator[tuple[Answer, Answer, Answer]]:
    """The first request of each of some mixed customers, what this service answers, and what the stack does."""
    now_ms = time.time_ns() // 1_000_000
    for number in numbers:
        customer = mixed(number, now_ms)
        request = next(mixed_draws(customer, now_ms, 1))
        yield request, ours(customer, request, now_ms), theirs(customer, request, list(rules or load_rules()))


def ours(customer: Customer, request: Answer, now_ms: int) -> Answer:
    """This service's answer, as far as it is compared."""
    clock = Clock(now_ms, DAY_MS, 3 * DAY_MS)
    events = read_events(json.dumps({"events": customer.events}).encode()) if customer.events else ()
    packed = b"".join(parse_event(event, i, clock).event.pack() for i, event in enumerate(events))
    facility = parse_facility(json.dumps(customer.line).encode(), customer.facility_id, clock)
    state = CustomerState(1, header() + packed, {facility.facility_id: facility})
    asked, _ = parse_decision(json.dumps(request).encode(), clock)
    decision = decide(asked, state, policy(), now_ms, "0" * 36)
    scene = policy().scenes["drawdown"]
    assert decision.trace is not None
    values = dict(zip(scene.number_names, np.frombuffer(decision.trace.numbers).tolist(), strict=True))
    score = decision.scores["behaviour"]
    return {
        "decision": decision.decision, "hold": {"kind": decision.hold} if decision.hold else None,
        "approved_amount": decision.approved_minor / 100,
        "reasons": [{"code": reason.code, "source": reason.source} for reason in decision.reasons],
        "scores": {"behaviour": {"points": score.points, "grade": score.grade}},
        "features": {
            name: None if math.isnan(values[name]) else values[name]
            for name in scene.plan.names if name in policy().catalogue.by_name
        },
    }  # fmt: skip


def theirs(customer: Customer, request: Answer, rules: list[Rule]) -> Answer:
    """The stack's answer, as far as it is compared."""
    draw = Draw(**request)
    assert draw.occurred_at is not None
    t_ms = round(draw.occurred_at.timestamp() * 1000)
    line = kept_line(Line(**customer.line))
    judged = judge(Parts(None, scorecard(), rules), draw, line, Histories(as_read(customer, t_ms), t_ms), t_ms)  # type: ignore[arg-type]
    return {
        "decision": judged.outcome.decision, "hold": judged.outcome.hold,
        "approved_amount": judged.outcome.approved_cents / 100,
        "reasons": [{"code": code, "source": source} for code, source in judged.reasons],
        "scores": {"behaviour": {"points": judged.score[2], "grade": judged.score[3]}},
        "features": {name: None if value != value else float(value) for name, value in judged.values.items()},
    }  # fmt: skip

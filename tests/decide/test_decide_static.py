"""The static answer: held, unless a small amount is asked for on a snapshot that shows a clean line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from decision_service.answer import answer_bytes
from decision_service.core.decision import Decision
from decision_service.core.errors import InvalidInput, StoreUnavailable
from decision_service.core.facility import Facility
from decision_service.core.fallback import SNAPSHOT_AGE_MAX_MS, decide_static
from decision_service.core.limits import DAY_MS, MINUTE_MS
from decision_service.core.policy import Policy
from decision_service.core.reasons import Reason
from decision_service.core.request import DecisionRequest
from decision_service.decision_log import decode, encode
from decision_service.policies.loading import load_policy
from decision_service.trace import render_trace
from small_policy import write_rules

NOW_MS = 1_795_000_000_000
LINE = Facility(
    "f-1", "c-1", "revolver", "CNY", 1_000_00, 400_00, NOW_MS - MINUTE_MS, 1_800, "active", NOW_MS - 90 * DAY_MS,
    days_past_due=0,
)  # fmt: skip
DRAWDOWN = """
rule_set: drawdown
scene: drawdown
rules:
  - {id: otherwise, when: request.amount > 0, on_null: skip, then: approve}
guardrails: {hold_expiry: {step_up: 10m}}
fallback: {static: {hold: step_up, reason: RC91}, small_amount: 500}
"""
PRICE = """
rule_set: price
scene: price
rules:
  - {id: otherwise, when: facility.apr > 0, on_null: skip, then: approve}
fallback: {static: {hold: review, reason: RC90}}
"""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A small policy with fallbacks of its own for two scenes."""
    folder = write_rules(tmp_path_factory.mktemp("rules"), DRAWDOWN)
    (folder / "price.yaml").write_text(PRICE)
    return load_policy(folder, folder / "no-models", "Asia/Shanghai", DAY_MS)[0]


def asked(amount: int = 500_00, **more: Any) -> DecisionRequest:
    """A drawdown with a clean snapshot."""
    request = DecisionRequest(
        "r-1", "c-1", "f-1", amount, "CNY", None, None, "d-1", "m-1", None, None, None, LINE, b"f" * 16, b"{}"
    )
    return replace(request, **more)


def static(request: DecisionRequest, policy: Policy, *, small_allowed: bool = True) -> Decision:
    """The static answer to it."""
    return decide_static(request, policy, NOW_MS, "d" + "0" * 35, small_allowed=small_allowed)


def test_what_is_not_small_and_clean_is_held(policy: Policy) -> None:
    """The hold, its reason and its expiry are those of the rule set's own words."""
    decision = static(asked(500_01), policy)
    assert (decision.decision, decision.hold, decision.approved_minor) == ("hold", "step_up", 0)
    assert decision.reasons == (Reason("RC91", "fallback:static"),)
    assert decision.hold_expires_at_ms == NOW_MS + 10 * MINUTE_MS
    assert (decision.rung, decision.scores, decision.policy_id) == ("static", {}, policy.id)


def test_a_small_amount_on_a_clean_line_is_paid(policy: Policy) -> None:
    """Up to the small amount, and to the last cent of what the snapshot leaves."""
    decision = static(asked(500_00), policy)
    assert (decision.decision, decision.approved_minor, decision.hold, decision.reasons) == (
        "approve",
        500_00,
        None,
        (),
    )
    tight = replace(LINE, outstanding_minor=500_00)
    assert static(asked(500_00, facility=tight), policy).approved_minor == 500_00


@pytest.mark.parametrize(
    "spoiled",
    [
        {"status": "frozen"}, {"status": "closed"}, {"days_past_due": 1}, {"days_past_due": None},
        {"expires_at_ms": NOW_MS}, {"granted_at_ms": NOW_MS + 1}, {"outstanding_minor": 500_01},
        {"as_of_ms": NOW_MS - SNAPSHOT_AGE_MAX_MS - 1}, {"customer_id": "c-2"}, {"facility_id": "f-2"},
        {"currency": "USD"},
    ],
    ids=str,
)  # fmt: skip
def test_one_blemish_is_enough_to_hold(policy: Policy, spoiled: dict[str, Any]) -> None:
    """A snapshot must show all of it."""
    assert static(asked(facility=replace(LINE, **spoiled)), policy).decision == "hold"


def test_without_a_snapshot_or_leave_it_is_held(policy: Policy) -> None:
    """No snapshot, or another small amount of the customer under way: held."""
    assert static(asked(facility=None), policy).decision == "hold"
    assert static(asked(), policy, small_allowed=False).decision == "hold"


@pytest.mark.parametrize("value", ["c-1", "d-1", "m-1"])
def test_who_stands_on_a_list_is_held(policy: Policy, value: str) -> None:
    """Lists are for rules to read, and no rule was asked: customer, device and payee must stand on none."""
    listed = policy.with_lists({"block": frozenset({value})})
    assert static(asked(), listed).decision == "hold"
    assert static(asked(), policy.with_lists({"block": frozenset({"c-9"})})).decision == "approve"


def test_a_review_has_its_own_fallback(policy: Policy) -> None:
    """It is held as its own rule set says, in the facility's currency; without one there is nothing to say."""
    review = asked(0, scene="price", currency="")
    decision = static(review, policy)
    assert (decision.scene, decision.hold, decision.currency) == ("price", "review", "CNY")
    with pytest.raises(StoreUnavailable):
        static(replace(review, facility=None), policy)
    with pytest.raises(InvalidInput):
        static(asked(0, scene="limit"), policy)


def test_it_says_the_same_twice_and_is_explained(policy: Policy) -> None:
    """Same inputs, same bytes; its frame is taken apart and explained as any other."""
    request = asked(500_00, body=b'{"request_id": "r-1"}')
    one, other = (answer_bytes(static(request, policy), 100) for _ in range(2))
    assert one == other
    decision = static(request, policy)
    assert decision.trace is not None
    frame = decode(encode(decision, decision.trace, request, one, {}))
    trace = render_trace(frame, policy.describe(), ())
    assert (trace["cells"], trace["rules"], trace["seq"]) == (["fallback:small_amount"], [], None)
    assert trace["request"] == {"request_id": "r-1"}

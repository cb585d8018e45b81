"""The rung of a decision: what stood behind the answer, the lowest that holds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from decision_service.core.decide import decide
from decision_service.core.decision import Decision, Score
from decision_service.core.event import EMPTY_LOG, KINDS, Event, counterparty_key
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.links import NO_LINKS, Links, customer_key, entity_header, link_record
from decision_service.core.policy import Policy, compile_policy
from decision_service.core.request import DecisionRequest
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Findings
from decision_service.core.state import CustomerState
from decision_service.core.zone import zone_named
from decision_service.policies.files import read_text

T_MS = 1_795_000_000_000
LINE = Facility("f-1", "c-1", "revolver", "CNY", 1_000_00, 0, T_MS - DAY_MS, 1_800, "active", T_MS - 90 * DAY_MS)
ASKED = DecisionRequest(
    "r-1", "c-1", "f-1", 100_00, "CNY", T_MS, None, None, "payee-1", None, None, None, None, bytes(16), b"{}"
)
FEATURES = """
segments: {draw: kind == "drawdown"}
features:
  payers: {agg: distinct, of: draw, by: customer, grain: payee, window: 7d, null: [Z, X], unit: n, en: x, zh: x}
  devices: {agg: count, of: draw, grain: device, window: 7d, null: [Z, X], unit: n, en: x, zh: x}
"""
RULES = """
rule_set: drawdown
scene: drawdown
constants: {crowd: {value: 2, unit: n}}
rules:
  - {id: crowded, when: payers >= crowd, on_null: {hold: step_up}, then: {hold: review}, reason: RC18}
  - {id: otherwise, when: request.amount > 0, on_null: skip, then: approve}
fallback: {static: {hold: review, reason: RC90}}
"""


@dataclass
class Card:
    """A scorecard that says what it is told to say."""

    points: int | None
    name: str = "card"
    version: str = "1"
    names: tuple[str, ...] = ("request.amount",)
    manifest: Any = field(
        default_factory=lambda: SimpleNamespace(sha256="0", grain="customer", grades=SimpleNamespace(names=()))
    )

    def score(self, _row: object) -> Score:
        """The points, whatever the row."""
        return Score(self.points, None, None, self.version, None if self.points else "cannot score")


def policy_of(points: int | None = 600) -> Policy:
    """A policy with one rule on a payee and a scorecard."""
    findings = Findings()
    texts = {"features/links.yaml": FEATURES, "drawdown.yaml": RULES}
    documents = {name: read_text(text, name, findings) for name, text in texts.items()}
    known = {name: document for name, document in documents.items() if document is not None}
    cards = {"card": cast(Scorecard, Card(points))}
    return compile_policy(known, cards, zone_named("Asia/Shanghai"), HOUR_MS, findings)


def payee_log(*customers: str) -> bytes:
    """A payee's log with one draw of each customer."""
    records = [
        link_record(
            Event(k, KINDS["drawdown"], 1, T_MS - HOUR_MS, 100, counterparty=counterparty_key("payee-1")).pack(),
            customer_key(name),
        )
        for k, name in enumerate(customers, 1)
    ]
    return entity_header("payee") + b"".join(records)


def decided(policy: Policy, links: Links = NO_LINKS, request: DecisionRequest = ASKED) -> Decision:
    """The decision on a request of a customer without history."""
    state = CustomerState(1, EMPTY_LOG, {LINE.facility_id: LINE}, links=links)
    return decide(request, state, policy, T_MS, "0" * 36)


def test_only_logs_that_features_look_at_are_asked_for() -> None:
    """The policy reads payees; the device feature is declared but nobody uses it."""
    assert policy_of().drawdown.link_grains == ("payee",)


def test_a_log_that_was_read_decides_and_the_rung_is_full() -> None:
    """Two customers of a payee are a crowd, one is not, none is a true zero."""
    policy = policy_of()
    crowd = decided(policy, NO_LINKS._replace(payee=payee_log("c-1", "c-2")))
    alone = decided(policy, NO_LINKS._replace(payee=payee_log("c-2")))
    nobody = decided(policy, NO_LINKS._replace(payee=entity_header("payee")))
    assert [(d.decision, d.rung) for d in (crowd, alone, nobody)] == [
        ("hold", "full"), ("approve", "full"), ("approve", "full"),
    ]  # fmt: skip


def test_a_log_that_was_not_read_is_unknown_and_lowers_the_rung() -> None:
    """The rule cannot be known and says what to do then; the decision says that a log was missing."""
    answer = decided(policy_of())
    assert (answer.decision, answer.hold, answer.rung) == ("hold", "step_up", "no_links")


def test_a_request_that_names_no_payee_misses_no_log() -> None:
    """There was nothing to read: the feature is null all the same, and the rung is full."""
    answer = decided(policy_of(), request=replace(ASKED, counterparty_id=None))
    assert (answer.hold, answer.rung) == ("step_up", "full")


@pytest.mark.parametrize("links", [NO_LINKS, NO_LINKS._replace(payee=entity_header("payee"))])
def test_the_lowest_rung_holds(links: Links) -> None:
    """Without a score it is no_score, whatever was read."""
    assert decided(policy_of(None), links).rung == "no_score"

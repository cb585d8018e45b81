"""A small policy with a rule set for each scene: throw-away rules, each about one thing a scene may do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from conftest_service import LINE, T0_MS, ask

from decision_service.core.decide import decide
from decision_service.core.decision import Decision, Score
from decision_service.core.event import EMPTY_LOG
from decision_service.core.facility import Facility
from decision_service.core.limits import HOUR_MS
from decision_service.core.policy import Policy, compile_policy
from decision_service.core.request import DecisionRequest
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Findings
from decision_service.core.state import CustomerState
from decision_service.core.zone import zone_named
from decision_service.policies.files import read_text

FEATURES = """
segments:
  draw: kind == "drawdown"
  paid: kind == "repayment"
features:
  vel_prior: {agg: count, of: draw, windows: [10m], null: Z, unit: n, en: "requests", zh: "请求数"}
  vel_drawn: {agg: count, of: draw, windows: [30d], null: Z, unit: n, en: "draws", zh: "支用次数"}
  vel_paid: {agg: count, of: paid, windows: [30d], null: Z, unit: n, en: "repayments", zh: "还款次数"}
  payee_draws: {agg: count, of: draw, grain: payee, window: 7d, null: [Z, X], unit: n, en: "draws", zh: "支用次数"}
"""
FALLBACK = "fallback: {static: {hold: review, reason: RC90}}\n"
DRAWDOWN = f"""
rule_set: drawdown
scene: drawdown
rules:
  - {{id: burst, when: vel_prior_10m >= 1000, then: {{hold: step_up}}, reason: RC11, on_null: skip}}
  - {{id: over_limit, when: request.amount > facility.available, on_null: hold, then: {{hold: block}}, reason: RC04}}
  - {{id: otherwise, when: request.amount > 0, then: approve}}
{FALLBACK}"""
LIMIT = f"""
rule_set: limit
scene: limit
rules:
  - {{id: burst, when: vel_paid_30d >= 1000, then: {{limit: {{cut: 0.5}}}}, reason: RC20}}
  - {{id: raise_all, when: facility.outstanding >= 0, then: {{limit: {{raise: 0.10}}}}}}
guardrails: {{limit_step_max: 0.2, limit_raise_cooldown: 180d}}
{FALLBACK}"""
PRICE = f"""
rule_set: price
scene: price
rules:
  - {{id: dearer, when: facility.apr < 0.19, then: {{price: {{add_bps: 50}}}}, reason: RC30}}
{FALLBACK}"""
WARNING = f"""
rule_set: warning
scene: warning
rules:
  - {{id: busy, when: vel_drawn_30d >= 1, then: {{alert: {{tier: yellow, indicator: busy}}}}}}
guardrails: {{tier_dwell: {{blue: 30d, yellow: 60d, orange: manual, red: manual}}}}
{FALLBACK}"""
MARKETING = f"""
rule_set: marketing
scene: marketing
rules:
  - {{id: idle, when: vel_drawn_30d == 0, then: {{offer: coupon}}}}
{FALLBACK}"""
RENEWAL = f"""
rule_set: renewal
scene: renewal
rules:
  - {{id: never_renew, when: vel_paid_30d == 0, then: {{renew: decline}}}}
{FALLBACK}"""
RULE_SETS = {
    "drawdown.yaml": DRAWDOWN, "warning.yaml": WARNING, "limit.yaml": LIMIT, "price.yaml": PRICE,
    "marketing.yaml": MARKETING, "renewal.yaml": RENEWAL,
}  # fmt: skip
FILES = {
    "policy.yaml": 'label: "test"\nlists: [block]\n',
    "features/velocity.yaml": FEATURES,
    **RULE_SETS,
}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """The policy of six scenes on disk."""
    for name, text in FILES.items():
        path = tmp_path / "rules" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "rules"


@dataclass
class Card:
    """A scorecard that always says the same."""

    name: str = "card"
    version: str = "1"
    names: tuple[str, ...] = ("vel_paid_30d",)
    manifest: Any = field(
        default_factory=lambda: SimpleNamespace(sha256="0", grain="customer", grades=SimpleNamespace(names=()))
    )

    def score(self, _row: object) -> Score:
        """600 points."""
        return Score(600, 0.02, "B", self.version)


def compiled(files: dict[str, str], *cards: str, findings: Findings | None = None) -> Policy:
    """A policy from texts by file name, with a scorecard of each name."""
    findings = findings or Findings()
    read = {name: read_text(text, name, findings) for name, text in files.items()}
    documents = {name: document for name, document in read.items() if document is not None}
    scorecards = {name: cast(Scorecard, Card(name)) for name in cards}
    return compile_policy(documents, scorecards, zone_named("Asia/Shanghai"), HOUR_MS, findings)


def review(scene: str, request_id: str = "", **more: Any) -> DecisionRequest:
    """A review of the line, its currency left to the facility."""
    return ask(request_id or f"review-{scene}", 0, currency="", scene=scene, **more)


def decided(
    policy: Policy, request: DecisionRequest, log: bytes = EMPTY_LOG, line: Facility = LINE, t_ms: int = T0_MS
) -> Decision:
    """The decision about the line of a customer with this log."""
    state = CustomerState(1, log, {line.facility_id: line})
    return decide(replace(request, occurred_at_ms=t_ms), state, policy, t_ms, "0" * 36)

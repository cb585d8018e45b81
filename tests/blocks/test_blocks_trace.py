"""Blocks in a whole decision: what they compute, hit and ask for can be read back from its trace."""

from __future__ import annotations

import orjson

from decision_service.answer import answer_bytes
from decision_service.core.decide import decide
from decision_service.core.event import EMPTY_LOG
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.policy import compile_policy
from decision_service.core.request import DecisionRequest
from decision_service.core.source import Findings
from decision_service.core.state import CustomerState
from decision_service.core.zone import zone_named
from decision_service.decision_log import decode, encode
from decision_service.explanation import explained
from decision_service.policies.files import read_text
from decision_service.trace import render_trace

T_MS = 1_795_000_000_000
LINE = Facility("f-1", "c-1", "revolver", "CNY", 1_000_00, 0, T_MS - DAY_MS, 1_800, "active", T_MS - 90 * DAY_MS)
ASKED = DecisionRequest(
    "r-1", "c-1", "f-1", 100_00, "CNY", T_MS, None, None, None, None, None, None, None, bytes(16), b"{}"
)
RULES = """
rule_set: drawdown
scene: drawdown
points:
  - id: intent
    base: 500
    of:
      - {value: request.amount / facility.limit, bins: {"<= 0.3": 30, any: 0}}
      - {value: facility.product, bins: {revolver: -20, any: 0}}
    grades: {A: 520, B: 505, C: 0}
tables:
  - id: by_intent
    hit: first
    inputs: [intent.grade, facility.age_d]
    rows:
      - {if: [A, any], then: approve}
      - {if: [B, ">= 30"], then: [approve, {tag: fair}], id: fair}
    otherwise: {hold: review}
    on_null: hold
    reason: RC30
trees:
  - id: size
    root: {if: request.amount > 50, then: {tag: large}, else: nothing}
    on_null: skip
fallback: {static: {hold: review, reason: RC90}}
"""


def test_points_rows_and_leaves_can_be_read_back() -> None:
    """500 + 30 - 20 makes grade B, which hits the row `fair`; the trace shows the sum, the row and the leaf."""
    findings = Findings()
    document = read_text(RULES, "drawdown.yaml", findings)
    assert document is not None
    policy = compile_policy({"drawdown.yaml": document}, {}, zone_named("Asia/Shanghai"), HOUR_MS, findings)
    assert not findings.diagnostics
    decision = decide(ASKED, CustomerState(1, EMPTY_LOG, {"f-1": LINE}), policy, T_MS, "0" * 36)
    assert (decision.decision, decision.tags) == ("approve", ("fair", "large"))
    assert decision.trace is not None
    answer = answer_bytes(decision, 0)
    frame = decode(encode(decision, decision.trace, ASKED, answer, {}))
    trace = render_trace(frame, orjson.loads(orjson.dumps(policy.describe())), {})
    assert trace["cells"] == ["by_intent:fair", "size:then"]
    (card,) = trace["points"]
    assert (card["points"], card["grade"], [one["points"] for one in card["of"]]) == (510.0, "B", [30.0, -20.0])
    told = " ".join(" ".join(explained(orjson.loads(answer), trace)).split())
    assert "points intent: 510 points, grade B = 500 + 30 (request.amount / facility.limit) - 20 (facility" in told


def test_rows_for_all_grades_of_a_scorecard_leave_no_gap() -> None:
    """The grades of a scorecard, and null, are all the values there are."""
    findings = Findings()
    rows = '[{if: [A, any], then: approve}, {if: [[B, C], any], then: approve}, {if: ["null", any], then: nothing}]'
    start, end = RULES.index("    rows:"), RULES.index("    on_null: hold")
    document = read_text(f"{RULES[:start]}    rows: {rows}\n{RULES[end:]}", "drawdown.yaml", findings)
    assert document is not None
    compile_policy({"drawdown.yaml": document}, {}, zone_named("Asia/Shanghai"), HOUR_MS, findings)
    assert not findings.diagnostics

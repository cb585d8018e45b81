"""Inline tests that say what is asked for: of every sort of block, in any order, computed under the values given."""

from __future__ import annotations

import pytest
from rule_cases import HEAD, VOCABULARY
from table_cases import filled_layout

from decision_service.core.rules.compile import compile_rule_set
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.source import Findings
from decision_service.policies.files import read_text

RULE = """
rules:
  - {id: one, when: vel_req_cnt_10m >= 4, on_null: %s, then: %s, reason: RC11, tests: [%s]}
"""
MATRIX = """
matrices:
  - id: one
    rows: behaviour.grade in [A, B]
    columns: utl_after <= [0.5, inf]
    cells: {A: [approve, nothing], B: [{cap_draw: 0.5 * request.amount}, {hold: review}]}
    on_null: {hold: block}
    reason: RC30
    tests: [%s]
"""
TABLE = """
tables:
  - id: one
    hit: %s
    inputs: [behaviour.grade, utl_after]
    rows:
      - {id: weak, if: [B, any], then: {limit: {cut: 0.2}}}
      - {id: full, if: [any, "> 0.9"], then: {renew: decline, tag: full}}
    otherwise: {renew: auto}
    on_null: {hold: step_up}
    reason: RC30
    tests: [%s]
"""
TREE = """
trees:
  - id: one
    root:
      if: utl_after > 0.8
      then: {price: {add_bps: 100}}
      else: {price: {set_apr: "min(0.18, facility.apr)"}}
    on_null: skip
    reason: RC20
    tests: [%s]
"""
DATED = """
constants: {share: {effective_from: {2026-01-01: 0.5, 2026-07-01: 0.4}, unit: ratio}}
rules:
  - {id: one, when: request.amount > 0, on_null: skip, then: {cap_draw: share * request.amount}, reason: RC11,
     tests: [%s]}
"""
FREEZE = "[{hold: block, limit: freeze}, {tag: late}]"
FIRES, UNKNOWN = "given: {vel_req_cnt_10m: 4}, expect: fires", "given: {}, expect: unknown"
B_LOW = "given: {behaviour.grade: B, utl_after: 0.5, request.amount: 100}, expect: B/0.5"
WEAK = "given: {behaviour.grade: B}, expect: weak"
NEITHER = "given: {behaviour.grade: A, utl_after: 0.5}, expect: otherwise"
WEAK_FULL = "given: {behaviour.grade: B, utl_after: 0.95}, expect: [weak, full]"
LOW_USE = "given: {utl_after: 0.5, facility.apr: 0.24}, expect: else"
MAY = "given: {request.amount: 100}, at: 2026-05-01, expect: fires"
CASES = [  # the rule set, the test, what it asks for, and something else
    (RULE % ("skip", FREEZE, "%s"), FIRES, "[{limit: freeze, tag: late}, {hold: block}]", "{hold: block, tag: late}"),
    (RULE % ("skip", FREEZE, "%s"), UNKNOWN, "nothing", "{hold: review}"),
    (RULE % ("hold", FREEZE, "%s"), UNKNOWN, "{hold: review}", FREEZE),
    (RULE % ("{hold: step_up}", FREEZE, "%s"), UNKNOWN, "{hold: step_up}", "{hold: review}"),
    (RULE % ("fire", FREEZE, "%s"), UNKNOWN, FREEZE, "{hold: review}"),
    (RULE % ("skip", "approve", "%s"), FIRES, "approve", "nothing"),
    (MATRIX, B_LOW, "[approve, {cap_draw: 50}]", "[approve, {cap_draw: 50.01}]"),
    (MATRIX, B_LOW, "[{cap_draw: request.amount / 2}, approve]", "[approve, {cap_draw: request.amount / 3}]"),
    (MATRIX, "given: {behaviour.grade: B, utl_after: 0.5}, expect: B/0.5", "[approve, {hold: review}]", "approve"),
    (MATRIX, "given: {behaviour.grade: A, utl_after: 0.6}, expect: A/inf", "nothing", "approve"),
    (MATRIX, UNKNOWN, "{hold: block}", "{hold: review}"),
    (TABLE % ("first", "%s"), WEAK, "{limit: {cut: 0.20}}", "{limit: {cut: 0.1}}"),
    (TABLE % ("all", "%s"), WEAK_FULL, "{renew: decline, tag: full, limit: {cut: 0.2}}", "{renew: decline, tag: full}"),
    (TABLE % ("all", "%s"), UNKNOWN, "{hold: step_up}", "{renew: auto}"),
    (TABLE % ("first", "%s"), NEITHER, "{renew: auto}", "nothing"),
    (TREE, "given: {utl_after: 0.9}, expect: then", "{price: {add_bps: 100}}", "{price: {add_bps: 101}}"),
    (TREE, LOW_USE, "{price: {set_apr: 0.18}}", "{price: {set_apr: 0.24}}"),
    (TREE, LOW_USE, "{price: {add_bps: -600}}", "{price: {add_bps: 600}}"),
    (TREE, UNKNOWN, "nothing", "{hold: review}"),
    (DATED, MAY, "{cap_draw: 50}", "{cap_draw: 40}"),
    (DATED, MAY, "{cap_draw: share * 100}", "{cap_draw: share * 90}"),
]  # fmt: skip


def mistakes(text: str) -> list[str]:
    """What is wrong with a rule set."""
    findings = Findings()
    document = read_text(HEAD + text, "drawdown.yaml", findings)
    assert document is not None
    spec = read_rule_set(document, VOCABULARY, findings)
    if spec is not None:
        compile_rule_set(spec, filled_layout(spec), findings)
    return [finding.message for finding in findings.errors]


@pytest.mark.parametrize(("rule_set", "test", "asked", "other"), CASES)
def test_a_test_holds_for_exactly_what_is_asked_for(rule_set: str, test: str, asked: str, other: str) -> None:
    """The effects in any order pass; any other set of them is an error that says what is asked for."""
    assert mistakes(rule_set % f"{{{test}, asks: {asked}}}") == []
    wrong = mistakes(rule_set % f"{{{test}, asks: {other}}}")
    assert len(wrong) == 1
    assert "`one` fails: it asks for" in wrong[0]


def test_an_amount_that_the_test_leaves_unknown_is_never_right() -> None:
    """Even where the rule, of an unknown amount too, asks for the same hold beside it."""
    test = "given: {request.amount: 100}, at: 2025-05-01, expect: unknown"
    assert mistakes(DATED % f"{{{test}, asks: {{hold: review}}}}") == []
    assert len(mistakes(DATED % f"{{{test}, asks: [{{cap_draw: share * 100}}, {{hold: review}}]}}")) == 1


def test_a_constant_that_only_a_test_reads_is_not_in_use() -> None:
    """Asking by a name does not hide that no rule uses it."""
    findings = Findings()
    text = HEAD + "constants: {unused: 50}\n" + MATRIX % f"{{{B_LOW}, asks: {{cap_draw: unused}}}}"
    document = read_text(text, "drawdown.yaml", findings)
    assert document is not None
    assert read_rule_set(document, VOCABULARY, findings) is not None
    assert ["unused" in finding.message for finding in findings.diagnostics] == [True]

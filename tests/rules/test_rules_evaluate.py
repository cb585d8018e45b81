"""What a compiled rule set asks for."""

from __future__ import annotations

from dataclasses import fields

import pytest
from rule_cases import LAYOUT, compiled, evaluate

from decision_service.core.decision import (
    Action,
    Alert,
    Approve,
    CapDraw,
    ChangeLimit,
    ChangePrice,
    Effect,
    Hold,
    Offer,
    Renew,
    Tag,
)
from decision_service.core.rules.guardrails import GUARDRAILS
from decision_service.core.rules.spec import Bound, Guardrails

JANUARY_2026_MS = 1_767_225_600_000
DAY_MS = 86_400_000


def rule(then: str, when: str = "vel_req_cnt_10m >= 4", on_null: str = "skip") -> str:
    """One rule as YAML."""
    return f"rules:\n  - id: one\n    when: {when}\n    on_null: {on_null}\n    then: {then}\n    reason: RC11\n"


@pytest.mark.parametrize(
    ("on_null", "verdict", "effects"),
    [
        ("skip", 2, []),
        ("fire", 3, [Effect(Hold("step_up"), "rule:one", "RC11")]),
        ("hold", 4, [Effect(Hold("review"), "rule:one", "RC91")]),
        ("{hold: block}", 4, [Effect(Hold("block"), "rule:one", "RC91")]),
    ],
)
def test_an_unknown_condition_does_what_on_null_says(on_null: str, verdict: int, effects: list[Effect]) -> None:
    """Unknown is skipped, fired or held; a hold for something unknown gives RC91, not the rule's credit reason."""
    evaluation = evaluate(compiled(rule("{hold: step_up}", on_null=on_null)), {})
    assert (list(evaluation.verdicts), evaluation.effects) == ([verdict], effects)


def test_a_rule_fires_or_stays_silent_whatever_on_null_says() -> None:
    """A known condition gives verdict 1 with its effect, or 0 with none."""
    rules = compiled(rule("{hold: step_up}", on_null="hold"))
    fired, silent = evaluate(rules, {"vel_req_cnt_10m": 4.0}), evaluate(rules, {"vel_req_cnt_10m": 3.0})
    assert (fired.verdicts, fired.effects) == (b"\1", [Effect(Hold("step_up"), "rule:one", "RC11")])
    assert (silent.verdicts, silent.effects) == (b"\0", [])


@pytest.mark.parametrize(
    ("then", "action"),
    [
        ("{hold: block}", Hold("block")),
        ("approve", Approve()),
        ("{cap_draw: 0.8 * request.amount}", CapDraw(39_920)),
        ("{cap_draw: 0 - request.amount}", CapDraw(0)),
        ("{cap_draw: request.amount / 3}", CapDraw(16_633)),
        ("{limit: freeze}", ChangeLimit("freeze")),
        ("{limit: {raise: 0.10}}", ChangeLimit("set", 110_000)),
        ("{limit: {cut: 0.333333}}", ChangeLimit("set", 66_666)),
        ("{limit: {set: 500}}", ChangeLimit("set", 50_000)),
        ("{price: {add_bps: 150}}", ChangePrice(1_950)),
        ("{price: {set_apr: 0.0575}}", ChangePrice(575)),
        ("{alert: {tier: yellow, indicator: velocity}}", Alert("yellow", "velocity")),
        ("{offer: coupon}", Offer("coupon")),
        ("{renew: auto}", Renew("auto")),
        ("{tag: seen}", Tag("seen")),
    ],
)
def test_every_effect_becomes_its_action(then: str, action: Action) -> None:
    """Money is floored to minor units, rates are rounded to basis points."""
    evaluation = evaluate(compiled(rule(then)), {"vel_req_cnt_10m": 4.0, "request.amount": 499.0})
    assert [effect.action for effect in evaluation.effects] == [action]


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("{limit: {cut: 0.10}}", "RC11"), ("{limit: {cut: 0}}", ""), ("{limit: {raise: 0.10}}", ""),
        ("{limit: {set: 999}}", "RC11"), ("{limit: {set: 1000}}", ""), ("{price: {add_bps: 1}}", "RC11"),
        ("{price: {add_bps: -1}}", ""), ("{price: {set_apr: 0.18}}", ""), ("{price: {set_apr: 0.19}}", "RC11"),
        ("{cap_draw: 1}", "RC11"), ("{hold: block}", "RC11"), ("approve", ""),
    ],
)  # fmt: skip
def test_only_what_speaks_against_a_customer_gives_a_reason(then: str, reason: str) -> None:
    """A change in his favour, or one that turns out to be none, has nothing to explain."""
    evaluation = evaluate(compiled(rule(then)), {"vel_req_cnt_10m": 4.0})
    assert [effect.reason for effect in evaluation.effects] == [reason]


@pytest.mark.parametrize(("share", "minor"), [("0.29", 2_900), ("0.57", 5_700), ("0.07", 700), ("0.999999", 9_999)])
def test_a_cap_is_the_whole_number_it_means(share: str, minor: int) -> None:
    """0.29 * 100 is 28.999999999999996 as a double and still caps at 29.00."""
    rules = compiled(rule(f"{{cap_draw: {share} * request.amount}}"))
    evaluation = evaluate(rules, {"vel_req_cnt_10m": 4.0, "request.amount": 100.0})
    assert evaluation.effects[0].action == CapDraw(minor)


@pytest.mark.parametrize("then", ["{cap_draw: con_amt_p90_365d}", "{price: {add_bps: con_amt_p90_365d}}"])
def test_an_amount_that_is_null_holds_even_where_on_null_skips(then: str) -> None:
    """We do not know how much is safe, so somebody looks."""
    evaluation = evaluate(compiled(rule(then)), {"vel_req_cnt_10m": 4.0})
    assert (evaluation.verdicts, evaluation.effects) == (b"\4", [Effect(Hold("review"), "rule:one", "RC91")])


def test_a_raise_by_a_null_share_is_not_given() -> None:
    """A raise is a favour: without its size it is left out."""
    evaluation = evaluate(compiled(rule("{limit: {raise: con_amt_p90_365d}}")), {"vel_req_cnt_10m": 4.0})
    assert evaluation.effects == []


TWO_RULES = """rules:
  - id: poisoned
    when: request.customer_id in ["x"] or vel_req_cnt_10m < 1
    on_null: hold
    then: {hold: block}
    reason: RC01
  - {id: sound, when: vel_req_cnt_1h >= 6, on_null: skip, then: {hold: step_up}, reason: RC11}
"""


@pytest.mark.fault("F08")
def test_a_rule_that_goes_wrong_takes_its_on_null_and_the_others_run() -> None:
    """A value of a type no rule expects makes its rule a verdict 5 with a hold, and nothing else suffers."""
    rules = compiled(TWO_RULES)
    numbers, strings = [0.0] * 40, [["unhashable"]] * 12
    numbers[LAYOUT.numbers["vel_req_cnt_1h"]] = 6.0
    evaluation = rules.evaluate(numbers, strings, {}, 0, 100, 0, 0)  # type: ignore[arg-type]
    assert evaluation.verdicts == b"\5\1"
    assert evaluation.effects == [
        Effect(Hold("review"), "rule:poisoned", "RC91"), Effect(Hold("step_up"), "rule:sound", "RC11"),
    ]  # fmt: skip


LISTED = rule("{hold: block}", "request.customer_id in list.block", "hold")


def test_lists_are_looked_up_at_decision_time() -> None:
    """The same compiled rules see whatever the lists hold now; a list nobody filled is empty."""
    rules = compiled(LISTED)
    values = {"request.customer_id": "c-1"}
    assert evaluate(rules, values, {"list.block": frozenset(["c-1"])}).verdicts == b"\1"
    assert evaluate(rules, values, {"list.block": frozenset(["c-2"])}).verdicts == b"\0"
    assert evaluate(rules, values, {}).verdicts == b"\0"


DATED = """constants:
  burst: {effective_from: {2026-01-01: 4, 2026-02-01: 6}, unit: n}
"""


@pytest.mark.fault("F17")
@pytest.mark.parametrize(
    ("t_ms", "verdict"),
    [
        (JANUARY_2026_MS - 1, 4),
        (JANUARY_2026_MS, 1),
        (JANUARY_2026_MS + 31 * DAY_MS - 1, 1),
        (JANUARY_2026_MS + 31 * DAY_MS, 0),
    ],
)
def test_a_dated_constant_changes_at_its_date(t_ms: int, verdict: int) -> None:
    """Unknown before its first date, then the value in force, to the millisecond."""
    rules = compiled(DATED + rule("{hold: step_up}", "vel_req_cnt_10m >= burst", "hold"))
    assert evaluate(rules, {"vel_req_cnt_10m": 5.0}, t_ms=t_ms).verdicts == bytes([verdict])


MATRIX = """rules:
  - {id: quiet, when: tod_is_odd, then: {tag: night}}
matrices:
  - id: m
    rows: behaviour.grade in [A, B, null]
    columns: utl_after <= [0.5, 0.8, inf]
    cells:
      A: [approve, approve, {cap_draw: 0.5 * request.amount}]
      B: [approve, {hold: review}, [{hold: block}, {limit: freeze}]]
      null: [approve, {hold: step_up}, {hold: block}]
    on_null: {hold: review}
    reason: RC30
"""


@pytest.mark.parametrize(
    ("values", "cell", "actions"),
    [
        ({"behaviour.grade": "A", "utl_after": 0.5}, "m:A/0.5", [Approve()]),
        ({"behaviour.grade": "A", "utl_after": 0.5000001}, "m:A/0.8", [Approve()]),
        ({"behaviour.grade": "A", "utl_after": 9.0, "request.amount": 10.0}, "m:A/inf", [Approve(), CapDraw(500)]),
        ({"behaviour.grade": "A", "utl_after": 9.0}, "m:A/inf", [Approve(), Hold("review")]),
        ({"behaviour.grade": "B", "utl_after": 2.0}, "m:B/inf", [Hold("block"), ChangeLimit("freeze")]),
        ({"utl_after": 0.6}, "m:null/0.8", [Hold("step_up")]),
        ({"behaviour.grade": "Z", "utl_after": 0.6}, "m:unknown", [Hold("review")]),
        ({"behaviour.grade": "A"}, "m:unknown", [Hold("review")]),
        ({}, "m:unknown", [Hold("review")]),
    ],
)
def test_a_matrix_gives_the_cell_two_values_fall_into(
    values: dict[str, float | str], cell: str, actions: list[Action]
) -> None:
    """Edges belong to the column they close; what is in no row, or null without a row for it, is unknown."""
    evaluation = evaluate(compiled(MATRIX), {"tod_is_odd": 0.0, **values})
    assert evaluation.cells == (cell,)
    assert [effect.action for effect in evaluation.effects] == actions


NUMERIC = """rules:
  - {id: quiet, when: tod_is_odd, then: {tag: night}}
matrices:
  - id: m
    rows: ext_inq_cnt_30d in [0, 1]
    columns: utl_after <= [inf, null]
    cells: {0: [approve, {hold: step_up}], 1: [{hold: review}, {hold: block}]}
    on_null: skip
    reason: RC33
"""


@pytest.mark.parametrize(
    ("values", "cell"),
    [
        ({"ext_inq_cnt_30d": 1.0, "utl_after": 3.0}, "m:1/inf"),
        ({"ext_inq_cnt_30d": 1.0}, "m:1/null"),
        ({"ext_inq_cnt_30d": 2.0}, "m:unknown"),
        ({"utl_after": 3.0}, "m:unknown"),
    ],
)
def test_numbers_may_head_rows_and_null_a_column(values: dict[str, float | str], cell: str) -> None:
    """A numeric axis of single values works like one of strings; a last `null` gives unknown values a column."""
    assert evaluate(compiled(NUMERIC), values).cells == (cell,)


STAGED = """stages: [first, second]
rules:
  - {id: late, stage: second, when: tod_is_odd, then: {tag: b}}
  - {id: early, stage: first, when: tod_is_odd, then: {tag: a}}
"""


def test_rules_run_and_are_traced_in_stage_order() -> None:
    """The order of the file gives way to the order of the stages."""
    rules = compiled(STAGED)
    assert [r.id for r in rules.rules] == ["early", "late"]
    assert [e.source for e in evaluate(rules, {"tod_is_odd": 1.0}).effects] == ["rule:early", "rule:late"]


def test_a_rule_describes_what_a_trace_needs() -> None:
    """Names are those with a value, not lists and not constants."""
    when = "request.customer_id in list.block and top < 4"
    rules = compiled("constants: {top: 3}\n" + rule("{hold: block}", when, "hold"))
    described = rules.rules[0].describe()
    assert (described["names"], described["reason"]) == (["request.customer_id"], "RC11")
    assert (set(rules.spec.names_used), set(rules.spec.lists_used)) == ({"request.customer_id"}, {"list.block"})


def test_guardrails_and_fallback_are_exposed() -> None:
    """Rates in basis points by date (the first holds before it), durations in ms, the fallback as written."""
    rules = compiled(
        rule("{tag: x}")
        + "guardrails: {apr_cap: {2026-01-01: 0.24, 2026-07-01: 0.2}, limit_step_max: 0.2,\n"
        + "  limit_raise_cooldown: 180d, hold_expiry: {step_up: 5m}}\n"
    )
    bounds = rules.guardrails
    assert bounds.apr_cap_bps is not None
    caps = [bounds.apr_cap_bps.at(t) for t in (0, JANUARY_2026_MS, JANUARY_2026_MS + 180 * DAY_MS, 2**50)]
    assert caps == [2_400, 2_400, 2_400, 2_000]
    assert (bounds.limit_step_max, bounds.limit_raise_cooldown_ms) == (Bound((0.2,)), Bound((180 * DAY_MS,)))
    assert (bounds.hold_expiry_ms("step_up", 0), bounds.hold_expiry_ms("review", 0)) == (300_000, DAY_MS)
    assert (rules.fallback.hold, rules.fallback.reason, rules.fallback.small_amount) == ("review", "RC90", 0.0)


def test_a_guardrail_may_be_a_number_dates_or_a_constant_of_its_unit() -> None:
    """Durations of constants are in days or seconds; a tier that never falls by itself dwells for ever; what is not
    given does not bound, and a hold stands as long as it does everywhere."""
    rules = compiled(
        rule("{tag: x}")
        + "constants:\n"
        + "  cap: {effective_from: {2026-01-01: 0.24, 2026-07-01: 0.2}, unit: ratio}\n"
        + "  per_borrower: {value: 200000, unit: money}\n"
        + "  wait: {value: 90, unit: d}\n"
        + "  soon: {effective_from: {2026-01-01: 600}, unit: s}\n"
        + "guardrails:\n"
        + "  apr_cap: cap\n"
        + "  apr_floor: 0.0301\n"
        + "  limit_cap: per_borrower\n"
        + "  limit_raise_after_cut: wait\n"
        + "  price_cooldown: {2026-01-01: 30d, 2026-07-01: 60d}\n"
        + "  tier_dwell: {blue: 30d, yellow: wait, orange: manual, red: {2026-01-01: 60d, 2026-07-01: manual}}\n"
        + "  hold_expiry: {block: soon}\n"
    )
    july = JANUARY_2026_MS + 181 * DAY_MS
    assert rules.guardrails == Guardrails(
        apr_cap_bps=Bound((2_400.0, 2_000.0), (JANUARY_2026_MS, july)),
        apr_floor_bps=Bound((301.0,)),
        limit_cap=Bound((200_000.0,)),
        limit_raise_after_cut_ms=Bound((90.0 * DAY_MS,)),
        price_cooldown_ms=Bound((30.0 * DAY_MS, 60.0 * DAY_MS), (JANUARY_2026_MS, july)),
        tier_dwells_ms={
            "blue": Bound((30.0 * DAY_MS,)),
            "yellow": Bound((90.0 * DAY_MS,)),
            "orange": Bound((float("inf"),)),
            "red": Bound((60.0 * DAY_MS, float("inf")), (JANUARY_2026_MS, july)),
        },
        hold_expiries_ms={**Guardrails().hold_expiries_ms, "block": Bound((600_000.0,), (JANUARY_2026_MS,))},
    )
    assert [rules.guardrails.tier_dwell_ms(tier, july) for tier in ("none", "yellow", "red")] == [
        0, 90 * DAY_MS, float("inf")
    ]  # fmt: skip
    assert rules.spec.dated == ()


def test_every_guardrail_is_in_the_list_that_the_reference_is_made_of() -> None:
    """Its example is a value that compiles."""
    each = {"tiers": "{blue: %s, yellow: %s, orange: %s, red: manual}", "holds": "{step_up: %s, review: %s, block: %s}"}
    lines = []
    for spec in GUARDRAILS:
        form = each.get(spec.form, "%s")
        lines.append(f"  {spec.key}: {form.replace('%s', spec.example)}")
    bounds = compiled(rule("{tag: x}") + "guardrails:\n" + "\n".join(lines) + "\n").guardrails
    assert len(lines) == len(fields(Guardrails))
    assert all(getattr(bounds, item.name) for item in fields(Guardrails))

"""What tables, trees and points scorecards ask for, and what they leave in the trace."""

from __future__ import annotations

import numpy as np
import pytest
from rule_cases import JULY_2026_MS, LAYOUT, compiled, evaluate
from table_cases import columns_of, filled_layout, judged_many, judged_one, loaded, loaded_spec

from decision_service.core.decision import Approve, CapDraw, ChangeLimit, Effect, Hold, Tag
from decision_service.core.expressions.columns import Columns
from decision_service.core.rules.columns import VectorRuleSet
from decision_service.core.rules.compile import compile_rule_set
from decision_service.core.source import Findings

DAY_MS = 86_400_000
TABLE = """tables:
  - id: t
    hit: {hit}
    inputs: [behaviour.grade, utl_after]
    rows:
      - {{if: [A, "<= 0.8"], then: [approve, {{limit: {{raise: 0.10}}}}]}}
      - {{if: [[A, B], any], then: {{cap_draw: 0.5 * request.amount}}, reason: RC31, id: half}}
      - {{if: ["null", any], then: {{tag: no_grade}}}}
    otherwise: {{hold: block}}
    on_null: {{hold: step_up}}
    reason: RC30
"""


def asked(text: str, values: dict[str, float | str]) -> tuple[list[Effect], tuple[str, ...]]:
    """The effects and what the blocks hit."""
    evaluation = evaluate(compiled(text), {"request.amount": 100.0, **values})
    return evaluation.effects, evaluation.cells


HALF = Effect(CapDraw(5_000), "table:t", "RC31")
RAISED = [Effect(Approve(), "table:t"), Effect(ChangeLimit("set", 110_000), "table:t")]
UNKNOWN = Effect(Hold("step_up"), "table:t", "RC91")


@pytest.mark.parametrize(
    ("values", "effects", "label"),
    [
        ({"behaviour.grade": "A", "utl_after": 0.5}, RAISED, "t:1"),
        ({"behaviour.grade": "A", "utl_after": 0.9}, [HALF], "t:half"),
        ({"behaviour.grade": "B"}, [HALF], "t:half"),
        ({}, [Effect(Tag("no_grade"), "table:t", "RC30")], "t:3"),
        ({"behaviour.grade": "C", "utl_after": 0.9}, [Effect(Hold("block"), "table:t", "RC30")], "t:otherwise"),
        ({"behaviour.grade": "A"}, [UNKNOWN], "t:unknown"),
    ],
)
def test_a_first_table_does_what_its_first_row_says(
    values: dict[str, float | str], effects: list[Effect], label: str
) -> None:
    """The first true row decides, with its own reason if it gives one; before it an unknown row makes it unknown."""
    assert asked(TABLE.format(hit="first"), values) == (effects, (label,))


@pytest.mark.parametrize(
    ("values", "effects", "labels"),
    [
        ({"behaviour.grade": "A", "utl_after": 0.5}, [*RAISED, HALF], ("t:1", "t:half")),
        ({"behaviour.grade": "A"}, [HALF, UNKNOWN], ("t:half", "t:unknown")),
        ({"behaviour.grade": "C"}, [Effect(Hold("block"), "table:t", "RC30")], ("t:otherwise",)),
    ],
)
def test_an_all_table_does_what_every_true_row_says(
    values: dict[str, float | str], effects: list[Effect], labels: tuple[str, ...]
) -> None:
    """Rows that are unknown take the `on_null` once, beside those that are true."""
    assert asked(TABLE.format(hit="all"), values) == (effects, labels)


DATED = """constants:
  late: {effective_from: {2026-07-02: 10, 2026-07-04: 20}}
tables:
  - id: t
    hit: first
    inputs: [vel_req_cnt_10m]
    rows: [{if: ["<= late"], then: {tag: early}}, {if: ["> late"], then: {tag: late}}]
    on_null: skip
"""


def test_dated_bounds_are_those_of_the_decision_instant() -> None:
    """Before its first date a constant is unknown, and so is the table; columns look at each decision's own instant."""
    rule_set, findings = loaded(DATED)
    assert rule_set is not None, findings.errors
    assert not findings.diagnostics
    instants = [JULY_2026_MS + i * DAY_MS for i in (0, 1, 2, 3, 4)]
    expected = [["t:unknown"], ["t:2"], ["t:2"], ["t:1"], ["t:1"]]
    assert [judged_one(rule_set, {"vel_req_cnt_10m": 15.0}, t_ms) for t_ms in instants] == expected
    assert judged_many(rule_set, columns_of([{"vel_req_cnt_10m": 15.0}] * 5), instants) == expected


TREE = """trees:
  - id: how
    root:
      if: utl_after > 0.8
      then: {if: vel_req_cnt_10m > 3, then: {hold: review}, else: {cap_draw: 0.5 * request.amount}}
      else: nothing
      unknown: {tag: no_use}
    on_null: {hold: step_up}
    reason: RC20
"""


@pytest.mark.parametrize(
    ("values", "effects", "label"),
    [
        ({"utl_after": 0.9, "vel_req_cnt_10m": 4.0}, [Effect(Hold("review"), "tree:how", "RC20")], "how:then/then"),
        ({"utl_after": 0.9, "vel_req_cnt_10m": 1.0}, [Effect(CapDraw(5_000), "tree:how", "RC20")], "how:then/else"),
        ({"utl_after": 0.1}, [], "how:else"),
        ({}, [Effect(Tag("no_use"), "tree:how", "RC20")], "how:unknown"),
        ({"utl_after": 0.9}, [Effect(Hold("step_up"), "tree:how", "RC91")], "how:unknown"),
    ],
)
def test_a_tree_asks_for_what_its_leaf_says(values: dict[str, float | str], effects: list[Effect], label: str) -> None:
    """A question that cannot be answered goes its own way if it has one, else the tree's `on_null`."""
    assert asked(TREE, values) == (effects, (label,))


WRONG = TREE + TABLE.format(hit="first")


def test_a_block_that_goes_wrong_takes_its_on_null_and_the_others_run() -> None:
    """A value of a type that no table expects: the table says so in the trace, and the tree is none the worse."""
    rule_set = compiled(WRONG)
    width = max(*LAYOUT.numbers.values(), *LAYOUT.strings.values()) + 1
    numbers, strings = [0.0] * width, [["unhashable"]] * width
    evaluation = rule_set.evaluate(numbers, strings, {}, 0, 100, 0, 0)  # type: ignore[arg-type]
    assert evaluation.cells == ("t:wrong", "how:else")
    assert evaluation.effects == [UNKNOWN]


MATRIX = """matrices:
  - id: m
    rows: behaviour.grade in [A, B]
    columns: utl_after <= [0.5, inf]
    cells: {A: [approve, nothing], B: [nothing, {hold: review}]}
    on_null: skip
    reason: RC30
"""


def test_a_cell_may_ask_for_nothing() -> None:
    """`nothing` is a cell that says so: it is hit, and no effect comes of it."""
    assert asked(MATRIX, {"behaviour.grade": "A", "utl_after": 0.9}) == ([], ("m:A/inf",))


POINTS = """points:
  - id: intent
    base: 500
    of:
      - {value: utl_after, bins: {"<= 0.3": 30, "> 0.3": -20, null: 0}}
      - {value: behaviour.grade, bins: {A: 20, any: 0}}
    grades: {high: 530, low: 0}
rules:
  - {id: keen, when: 'intent.points >= 540 or intent.grade == "low"', then: {tag: keen}, on_null: fire}
"""


@pytest.mark.parametrize(
    ("values", "numbers", "grade", "verdict"),
    [
        ({"utl_after": 0.2, "behaviour.grade": "A"}, [30.0, 20.0, 550.0], "high", 1),
        ({"behaviour.grade": "B"}, [0.0, 0.0, 500.0], "low", 1),
        ({"utl_after": 0.2, "behaviour.grade": "B"}, [30.0, 0.0, 530.0], "high", 0),
    ],
)
def test_points_stand_in_the_vectors_before_any_rule_looks(
    values: dict[str, float | str], numbers: list[float], grade: str, verdict: int
) -> None:
    """Each characteristic's points, their sum and the grade are values that rules read and traces show."""
    spec, findings = loaded_spec(POINTS)
    assert spec is not None, findings.errors
    layout = filled_layout(spec)
    rule_set = compile_rule_set(spec, layout, Findings())
    v, s = [float("nan")] * len(layout.numbers), [None] * len(layout.strings)
    for name, value in values.items():
        if isinstance(value, str):
            s[layout.strings[name]] = value  # type: ignore[call-overload]
        else:
            v[layout.numbers[name]] = value
    evaluation = rule_set.evaluate(v, s, {}, 0, 100, 0, 0)  # type: ignore[arg-type]
    assert [v[layout.numbers[name]] for name in spec.numbers_filled] == numbers
    assert s[layout.strings["intent.grade"]] == grade
    assert list(evaluation.verdicts) == [verdict]


def test_columns_of_points_leave_the_caller_s_columns_as_they_are() -> None:
    """Judging fills places of its own copy, so that a table read from a file can be judged twice."""
    spec, _ = loaded_spec(POINTS)
    assert spec is not None
    layout = filled_layout(spec)
    columns: Columns = columns_of([{"utl_after": 0.2, "behaviour.grade": "A"}], layout)
    vector = VectorRuleSet(spec, layout)
    instants = np.zeros(1, np.int64)
    assert vector.judge(columns, instants).verdicts.tolist() == [[1]]
    assert all(column[0] != 550.0 for column in columns.numbers)

"""The vector form of a rule set against the single function, verdict by verdict."""

from __future__ import annotations

import random

import numpy as np
import pytest
from rule_cases import JULY_2026_MS, LAYOUT, VOCABULARY, compiled
from test_rules_starter import starter  # noqa: F401  (a fixture)

from decision_service.core.expressions.columns import CHUNK, Columns, Texts
from decision_service.core.policy import Policy
from decision_service.core.rules.codegen import FIRED, UNKNOWN_HELD, WENT_WRONG
from decision_service.core.rules.columns import VectorRuleSet
from decision_service.core.rules.compile import RuleSet
from decision_service.core.vocabulary import Kind, Layout

DAY_MS = 86_400_000
GRADES = (None, "A", "B", "C", "D", "E", "Z")
TEXTS = (None, "consumption", "app", "active", "frozen", "closed", "CNY", "f-1")
NUMBERS = (None, 0.0, 1.0, 2.0, 0.5, 0.81, 0.96, 3.0, 30.0, 600.0, 4990.0, 60_000.0, -1.0)


def random_columns(layout: Layout, strings: tuple[str, ...], count: int, seed: int) -> Columns:
    """Decisions made of values that thresholds lie between; a grade column holds grades."""
    rng = random.Random(seed)
    width = max([*layout.numbers.values(), *layout.strings.values()]) + 1
    numbers = [
        np.array([float("nan") if (x := rng.choice(NUMBERS)) is None else x for _ in range(count)])
        for _ in range(width)
    ]
    by_slot = {slot: name for name, slot in layout.strings.items() if name in strings}
    texts = [
        Texts.of([rng.choice(GRADES if "grade" in by_slot.get(slot, "") else TEXTS) for _ in range(count)])
        for slot in range(width)
    ]
    return Columns(count, numbers, texts, {"list.block": frozenset({"f-1"})})


def agree(rule_set: RuleSet, layout: Layout, columns: Columns, t_ms: list[int], read: list[int] | None = None) -> int:
    """Check every verdict and cell; how many rules fired. `read`: where the numbers stand that the rule set sees, if it
    does not see them all."""
    judged = VectorRuleSet(rule_set.spec, layout).judge(columns, np.array(t_ms, np.int64))
    texts = [column.plain() for column in columns.strings]
    for i in range(columns.count):
        numbers = [float(columns.numbers[place][i]) for place in read or range(len(columns.numbers))]
        single = rule_set.evaluate(numbers, [c[i] for c in texts], columns.lists, t_ms[i], 100, 100_000, 1_800)
        for rule, one, many in zip(rule_set.rules, single.verdicts, judged.verdicts[:, i].tolist(), strict=True):
            assert one != WENT_WRONG
            assert one == many or (one == UNKNOWN_HELD and many == FIRED), (rule.id, one, many)
        for matrix, cell, number in zip(rule_set.matrices, single.cells, judged.cells[:, i].tolist(), strict=True):
            expected = "unknown" if number < 0 else matrix.labels[number]
            assert cell == f"{matrix.id}:{expected}"
    return int((judged.verdicts == FIRED).sum())


def test_the_shipped_rules_agree_on_random_decisions(starter: Policy) -> None:  # noqa: F811
    """Every verdict and cell of the starter set is the same for a column as for its decisions."""
    drawdown = starter.scenes["drawdown"]
    columns = random_columns(drawdown.layout, tuple(drawdown.layout.strings), 800, 7)
    t_ms = [JULY_2026_MS + i * DAY_MS for i in range(800)]
    assert agree(drawdown.rule_set, drawdown.layout, columns, t_ms, drawdown.read.tolist()) > 1_000


DATED = """
constants:
  odd_share: {effective_from: {2026-07-02: 0.5, 2026-07-04: 0.9}}
rules:
  - {id: dated, when: utl_after > odd_share, on_null: skip, then: {tag: high}}
  - {id: lists, when: "request.facility_id in list.block", on_null: fire, then: {tag: listed}}
matrices:
  - id: m
    rows: behaviour.grade in [A, B, "null"]
    columns: utl_after <= [0.50, 0.95, inf]
    cells:
      A: [approve, approve, {hold: review}]
      B: [approve, approve, {hold: review}]
      "null": [{hold: review}, {hold: review}, {hold: review}]
    on_null: {hold: review}
    reason: RC30
"""


def test_dated_constants_lists_and_null_rows_agree() -> None:
    """A dated constant is what it was at each decision's own instant; a named list and a null row count."""
    rule_set = compiled(DATED)
    strings = tuple(n for n, s in VOCABULARY.items() if s.kind is Kind.STRING)
    columns = random_columns(LAYOUT, strings, 400, 3)
    assert agree(rule_set, LAYOUT, columns, [JULY_2026_MS + (i % 6) * DAY_MS for i in range(400)]) > 50


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_the_size_of_a_chunk_shows_nowhere(count: int) -> None:
    """Verdicts of a table of any length are those of its parts."""
    rule_set = compiled(DATED)
    strings = tuple(n for n, s in VOCABULARY.items() if s.kind is Kind.STRING)
    columns = random_columns(LAYOUT, strings, count, 5)
    t_ms = np.full(count, JULY_2026_MS, np.int64)
    vector = VectorRuleSet(rule_set.spec, LAYOUT)
    whole = vector.judge(columns, t_ms).verdicts
    halves = [vector.judge(columns.part(a, b), t_ms[a:b]).verdicts for a, b in ((0, count // 2), (count // 2, count))]
    assert np.array_equal(whole, np.concatenate(halves, axis=1))

"""What goes wrong at run time: a rule that raises takes its `on_null`, the others run; nothing can run for long."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from rule_cases import HEAD, JULY_2026_MS, LAYOUT, VOCABULARY, compiled, rendered

from decision_service.core.decision import Effect, Hold, Tag
from decision_service.core.expressions.columns import Columns, Texts
from decision_service.core.limits import (
    EXPRESSION_CHARS_MAX,
    EXPRESSION_DEPTH_MAX,
    EXPRESSION_NODES_MAX,
    LIST_VALUES_MAX,
    MATRIX_CELLS_MAX,
    POLICY_FILE_BYTES_MAX,
    RULES_MAX,
)
from decision_service.core.rules.codegen import FIRED, UNKNOWN_FIRED, UNKNOWN_HELD, UNKNOWN_SKIPPED, WENT_WRONG
from decision_service.core.rules.columns import VectorRuleSet
from decision_service.core.rules.compile import RuleSet
from decision_service.core.vocabulary import Kind

COUNT, SHARE = "vel_req_cnt_10m", "utl_after"
RULES = f"""rules:
  - {{id: before, when: vel_req_cnt_1h >= 6, on_null: skip, then: {{tag: before}}}}
  - {{id: skips, when: {COUNT} >= 4, on_null: skip, then: {{hold: step_up}}, reason: RC11}}
  - {{id: holds, when: {COUNT} >= 5, on_null: hold, then: {{hold: step_up}}, reason: RC11}}
  - {{id: blocks, when: {COUNT} >= 6, on_null: {{hold: block}}, then: {{hold: block}}, reason: RC11}}
  - {{id: fires, when: {COUNT} >= 7, on_null: fire, then: {{tag: fired}}}}
  - {{id: caps, when: {COUNT} >= 8, on_null: fire, then: {{cap_draw: 0.5 * {COUNT}}}, reason: RC22}}
  - {{id: after, when: vel_req_cnt_1h >= 6, on_null: skip, then: {{tag: after}}}}
"""
BEFORE, AFTER = Effect(Tag("before"), "rule:before"), Effect(Tag("after"), "rule:after")


class Raising:
    """A value that raises whatever is asked of it."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("poisoned")

    def __lt__(self, other: object) -> bool:
        raise OverflowError("poisoned")

    __gt__ = __le__ = __ge__ = __mul__ = __rmul__ = __lt__
    __hash__ = None  # type: ignore[assignment]


def values(**given: object) -> list[object]:
    """The numbers of a decision; what is not given is 0."""
    numbers: list[object] = [0.0] * len(LAYOUT.numbers)
    for name, value in given.items():
        numbers[LAYOUT.numbers[name]] = value
    return numbers


@pytest.mark.fault("F08")
@pytest.mark.parametrize(
    "poison", [Raising, lambda: "text", object, lambda: [1.0]], ids=["raises", "text", "object", "list"]
)
def test_a_poisoned_value_makes_its_rules_take_their_on_null(poison: Callable[[], object]) -> None:
    """Each verdict says that it went wrong, each asks for what it would if it did not know, and the rules before and
    after fire as ever; an amount that cannot be computed is a review."""
    rules = compiled(RULES)
    numbers = values(**{COUNT: poison(), "vel_req_cnt_1h": 6.0})
    evaluation = rules.evaluate(numbers, [None] * 12, {}, JULY_2026_MS, 100, 0, 0)  # type: ignore[arg-type]
    assert evaluation.verdicts == bytes([FIRED, *[WENT_WRONG] * 5, FIRED])
    assert evaluation.effects == [
        BEFORE,
        Effect(Hold("review"), "rule:holds", "RC91"),
        Effect(Hold("block"), "rule:blocks", "RC91"),
        Effect(Tag("fired"), "rule:fires"),
        Effect(Hold("review"), "rule:caps", "RC91"),
        AFTER,
    ]


UNDEFINED = f"""rules:
  - {{id: zero, when: 1 / {SHARE} > 3, on_null: hold, then: {{tag: a}}}}
  - {{id: zero_by_zero, when: {SHARE} / {SHARE} > 3, on_null: skip, then: {{tag: a}}}}
  - {{id: overflow, when: exp({COUNT}) > 3, on_null: hold, then: {{tag: a}}}}
  - {{id: too_large, when: {COUNT} * 1e308 > 3, on_null: fire, then: {{tag: b}}}}
  - {{id: root, when: sqrt(-{COUNT}) > 3, on_null: hold, then: {{tag: a}}}}
  - {{id: logarithm, when: log({SHARE}) > 3, on_null: {{hold: block}}, then: {{tag: a}}}}
  - {{id: sound, when: {COUNT} > 3, on_null: hold, then: {{tag: c}}}}
"""
UNDEFINED_VERDICTS = [
    UNKNOWN_HELD, UNKNOWN_SKIPPED, UNKNOWN_HELD, UNKNOWN_FIRED, UNKNOWN_HELD, UNKNOWN_HELD, FIRED,
]  # fmt: skip


def columns_of(numbers: list[object], count: int) -> Columns:
    """The same decision `count` times."""
    width = max([*LAYOUT.numbers.values(), *LAYOUT.strings.values()]) + 1
    filled = [*numbers, *[0.0] * (width - len(numbers))]
    texts = [Texts.of([None] * count) for _ in range(width)]
    return Columns(count, [np.full(count, value) for value in filled], texts, {})  # type: ignore[arg-type]


@pytest.mark.fault("F08")
def test_what_has_no_value_is_unknown_and_never_raises_in_either_back_end() -> None:
    """A division by zero, an overflow and a root of a negative number are null: the rule takes its on_null, alone and
    in a column alike."""
    rules = compiled(UNDEFINED)
    numbers = values(**{COUNT: 800.0, SHARE: 0.0})
    single = rules.evaluate(numbers, [None] * 12, {}, JULY_2026_MS, 100, 0, 0)  # type: ignore[arg-type]
    assert list(single.verdicts) == UNDEFINED_VERDICTS
    judged = VectorRuleSet(rules.spec, LAYOUT).judge(columns_of(numbers, 3), np.full(3, JULY_2026_MS, np.int64))
    assert judged.verdicts[:, 1].tolist() == UNDEFINED_VERDICTS


@pytest.mark.fault("F08")
@pytest.mark.parametrize("extreme", [math.inf, -math.inf, 1e308, -1e308, 5e-324, -0.0, math.nan, 2.0**63])
def test_no_number_whatsoever_goes_wrong_in_either_back_end(extreme: float) -> None:
    """Infinities, the largest and the smallest doubles: both back ends give the same verdict and none is WENT_WRONG."""
    rules: RuleSet = compiled(UNDEFINED)
    numbers = values(**dict.fromkeys((n for n, s in VOCABULARY.items() if s.kind is Kind.NUMBER), extreme))
    single = rules.evaluate(numbers, [None] * 12, {}, JULY_2026_MS, 100, 0, 0)  # type: ignore[arg-type]
    judged = VectorRuleSet(rules.spec, LAYOUT).judge(columns_of(numbers, 1), np.full(1, JULY_2026_MS, np.int64))
    assert WENT_WRONG not in single.verdicts
    assert judged.verdicts[:, 0].tolist() == list(single.verdicts)


# --- the budget: what one policy may cost is settled when it compiles ---


def one(when: str) -> str:
    """A rule set of one rule."""
    return f"{HEAD}rules:\n  - {{id: one, when: '{when}', then: {{tag: a}}}}\n"


def cells(rows: int, columns: int) -> str:
    """A rule set with a matrix of that many cells."""
    lines = "".join(f"      {row}: [{', '.join(['approve'] * columns)}]\n" for row in range(rows))
    return (
        f"{HEAD}rules:\n  - {{id: one, when: tod_is_odd, then: {{tag: a}}}}\nmatrices:\n  - id: m\n"
        f"    rows: {COUNT} in [{', '.join(map(str, range(rows)))}]\n"
        f"    columns: {SHARE} <= [{', '.join([*map(str, range(columns - 1)), 'inf'])}]\n    cells:\n{lines}"
        "    on_null: skip\n"
    )


def many(rules: int) -> str:
    """That many rules, as short as they can be."""
    lines = "".join(f"- {{id: r{i}, when: tod_is_odd, then: {{tag: a}}}}\n" for i in range(rules))
    return f"{HEAD}rules:\n{lines}"


@pytest.mark.fault("F09")
@pytest.mark.parametrize(
    ("text", "golden"),
    [
        (one(f"{SHARE} > " + "1" * EXPRESSION_CHARS_MAX),
         "drawdown.yaml:5:22: error: an expression of 2,012 characters\n      = expected: at most 2,000\n"),
        (one(f"sum({','.join('1' * EXPRESSION_NODES_MAX)}) > 3"),
         "drawdown.yaml:5:22: error: more than 500 terms in one expression\n"),
        (one("not " * EXPRESSION_DEPTH_MAX + "tod_is_odd"), "nested deeper than 32 levels\n"),
        (many(RULES_MAX + 1), "drawdown.yaml:5:1: error: more than 10000 rules\n    5 | - {id: r0"),
        (cells(101, 100), "error: more than 10000 cells\n"),
        (HEAD + "#" * POLICY_FILE_BYTES_MAX,
         "drawdown.yaml:1:1: error: 4,194,388 bytes; a policy file has at most 4,194,304\n"),
    ],
    ids=["characters", "terms", "depth", "rules", "cells", "bytes"],
)  # fmt: skip
def test_every_cap_of_a_rule_set_trips_with_a_place(text: str, golden: str) -> None:
    """No loop and no regular expression exists in the language (F09), so these bound what a decision can cost."""
    assert golden in rendered(text)


def test_at_the_caps_a_rule_set_still_compiles() -> None:
    """The largest expression and the largest matrix are within the language."""
    compiled(one(f"sum({','.join('1' * (EXPRESSION_NODES_MAX - 5))}) > {SHARE}").removeprefix(HEAD))
    compiled(cells(100, 100).removeprefix(HEAD))
    assert (RULES_MAX, MATRIX_CELLS_MAX, LIST_VALUES_MAX) == (10_000, 10_000, 1_000_000)

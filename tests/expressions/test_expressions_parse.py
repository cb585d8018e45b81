"""What the parser refuses, how it says so, and that nothing makes it fall over."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decision_service.core.expressions.functions import FUNCTIONS
from decision_service.core.expressions.parse import parse_condition, parse_expression, parse_number
from decision_service.core.expressions.scalar import NAMESPACE
from decision_service.core.expressions.tree import And, Compare, Not, Number
from decision_service.core.limits import EXPRESSION_CHARS_MAX
from decision_service.core.source import Findings, Place
from decision_service.core.vocabulary import Kind, NameSpec, Vocabulary

VOCABULARY = Vocabulary(
    {
        "amount": NameSpec("amount", Kind.NUMBER),
        "vel_req_cnt_10m": NameSpec("vel_req_cnt_10m", Kind.NUMBER),
        "facility.limit": NameSpec("facility.limit", Kind.NUMBER),
        "is_odd": NameSpec("is_odd", Kind.FLAG),
        "grade": NameSpec("grade", Kind.STRING),
        "list.block": NameSpec("list.block", Kind.LIST),
        "day": NameSpec("day", Kind.NUMBER, constant=24.0),
    }
)


def errors(text: str) -> list[tuple[int, str]]:
    """Column and message of every error."""
    findings = Findings()
    parse_expression(text, Place("f.yaml", 3, 11, text), VOCABULARY, findings)
    return [(d.place.column - 10, d.message) for d in findings.errors]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("amount >> 3", 8, "`>>` is not part of the language"),
        ("amount &&  is_odd", 8, "`&&` is not part of the language"),
        ("amount = 3", 8, "`=` is not part of the language"),
        ("amount is None", 8, "`is` is not part of the language"),
        ("vel_req_cnt_1m > 3", 1, "unknown name `vel_req_cnt_1m`"),
        ("amount > grade", 10, "a string is compared with a number"),
        ("grade < \"B\"", 1, "strings have no order, `<` needs numbers"),
        ("grade in [1, 2]", 1, "a string is looked up in a list of numbers"),
        ("amount in list.block", 1, "a number is looked up in a list of strings"),
        ("amount in []", 11, "not a list of literals"),
        ("amount in (1, 2)", 11, "a list stands in square brackets"),
        ("amount + grade", 10, "this is a string"),
        ("amount and is_odd", 1, "this is a number"),
        ("(amount > 3) + 1", 2, "this is a condition"),
        ("amount >", 9, "the expression ends too early"),
        ("(amount > 3", 1, "`(` was never closed"),
        ("amount > 3)", 11, "unmatched `)`"),
        ("amount > 012", 10, "`012` starts with a zero"),
        ("amount > 1_000", 10, "`1_000` is not a number"),
        ("amount > 5%", 11, "`%` is not part of the language"),
        ("amount > 1e999", 10, "too large a number"),
        ("amount / 0 > 1", 10, "a division by zero is always null"),
        ("amount ** 2 > 1", 8, "`**` is not part of the language"),
        ("open(\"x\")", 1, "unknown function `open`"),
        ("grade.upper() == \"A\"", 1, "unknown function `grade.upper`"),
        ("facility.limit.real > 1", 1, "unknown name `facility.limit.real`"),
        ("(amount).real > 1", 9, "the character '.' is not part of the language"),
        ("amount[0] > 1", 1, "this is not part of the language"),
        ("lambda: 1", 1, "`lambda` is not part of the language"),
        ("f\"x\" == grade", 2, "a string directly behind another word"),
        ("\"a\" \"b\" == grade", 5, "a string directly behind another word"),
        ("grade == \"a\\n\"", 10, "a string that does not end, or holds a backslash"),
        ("min() > 1", 1, "`min` does not take 0 arguments"),
        ("abs(amount, 1) > 1", 1, "`abs` does not take 2 arguments"),
        ("min > 1", 1, "`min` is a function"),
        ("at_least(3, is_odd, is_odd)", 10, "not a number of conditions"),
        ("at_least(amount, is_odd)", 10, "not a number of conditions"),
        ("is_odd if amount", 1, "`if` without `else`"),
        ("amount if is_odd else grade", 1, "the two branches differ in type"),
        ("coalesce(amount, grade)", 1, "the arguments differ in type"),
        ("1 < amount in [1]", 1, "`in` cannot be part of a chain"),
        ("+amount > 1", 1, "a sign `+` does nothing here"),
        ("中 > 1", 1, "the character '中' is not part of the language"),
        ("grade == \"中中\" and wrong > 1", 19, "unknown name `wrong`"),
        ("[1, 2]", 1, "a list stands only on the right of `in`"),
        ("amount > 3 is_odd", 12, "`is_odd` does not fit here"),
        ("   ", 1, "an empty expression"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_at_its_column(text: str, column: int, message: str) -> None:
    """The first finding points at the offending text."""
    assert errors(text)[0] == (column, message)


def test_all_independent_mistakes_of_an_expression_are_reported() -> None:
    """Three unknown names are three findings."""
    assert [column for column, _ in errors("aaa > 1 and bbb > 2 or ccc > 3")] == [1, 13, 24]


def test_the_nearest_known_name_is_offered() -> None:
    """A mistyped name comes with the name that was probably meant."""
    findings = Findings()
    parse_expression("vel_req_cnt_10 > 3", Place("f", 1, 1), VOCABULARY, findings)
    assert findings.errors[0].nearest == "vel_req_cnt_10m"


def test_places_follow_an_expression_over_several_lines() -> None:
    """An error on the second line of a folded text is reported on that line."""
    second = Place("f", 8, 5, "    wrong > 1")
    place = Place("f", 7, 9, "  when: is_odd and", ((0, Place("f", 7, 9, "  when: is_odd and")), (11, second)))
    findings = Findings()
    parse_expression("is_odd and wrong > 1", place, VOCABULARY, findings)
    assert (findings.errors[0].place.line, findings.errors[0].place.column) == (8, 5)


def test_sugar_is_taken_apart() -> None:
    """Chains, `!=` and `not in` become what the tree knows; constants and literal arithmetic are folded."""
    findings = Findings()
    chain = parse_expression("1 <= amount < day * 2", Place("f", 1, 1), VOCABULARY, findings)
    assert isinstance(chain, And)
    upper = chain.operands[1]
    assert isinstance(upper, Compare)
    assert isinstance(upper.right, Number)
    assert upper.right.value == 48.0
    assert isinstance(parse_expression('grade != "A"', Place("f", 1, 1), VOCABULARY, findings), Not)
    assert isinstance(parse_expression('grade not in ["A"]', Place("f", 1, 1), VOCABULARY, findings), Not)


def test_a_condition_and_a_number_are_told_apart() -> None:
    """`parse_condition` takes conditions and flags, `parse_number` numbers and flags."""
    findings = Findings()
    place = Place("f", 1, 1)
    assert parse_condition("is_odd", place, VOCABULARY, findings) is not None
    assert parse_condition("amount", place, VOCABULARY, findings) is None
    assert parse_number("amount * 2", place, VOCABULARY, findings) is not None
    assert parse_number("amount > 2", place, VOCABULARY, findings) is None
    assert len(findings.errors) == 2


@pytest.mark.parametrize(
    "text",
    [
        "(" * 33 + "amount" + ")" * 33, "-" * 500 + "amount", "not " * 400 + "is_odd", "amount" + "+amount" * 200,
        "1 if is_odd else " * 100 + "1", "[" * 1000,
        "a" * (EXPRESSION_CHARS_MAX + 1), "is_odd and " * 180 + "is_odd",
        "min(" * 100 + "amount" + ")" * 100, "sum(" + ", ".join(["amount"] * 200) + ")", "9" * 1900,
    ],
)  # fmt: skip
def test_size_and_depth_are_capped_without_falling_over(text: str) -> None:
    """Whatever is too long, too deep or too large is a finding or a tree, never an exception."""
    findings = Findings()
    tree = parse_expression(text, Place("f", 1, 1), VOCABULARY, findings)
    assert (tree is None) == bool(findings.errors)


@given(text=st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            ["amount", "grade", "is_odd", "and", "or", "not", "in", "if", "else", "(", ")", "[", "]", ",", "+",
             "-", "*", "/", "<", "==", "!=", "1", "0.5", '"x"', "min", "at_least", "is_null", ".", ":", "=", "lambda",
             "\n", "f", "**"]
        ),
        max_size=14,
    ).map(" ".join),
))  # fmt: skip
def test_no_text_makes_the_parser_raise_or_warn(text: str) -> None:
    """Any text is a tree, or findings, never both and never an exception or a Python warning."""
    findings = Findings()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = parse_expression(text, Place("f", 1, 1, text), VOCABULARY, findings)
    assert (tree is None) == bool(findings.errors)


def test_every_function_has_a_scalar_form() -> None:
    """Each function of the closed list that gives a value is in the namespace of generated code."""
    missing = [n for n, f in FUNCTIONS.items() if f.gives != "condition" and f"f_{n}" not in NAMESPACE]
    assert missing == []


def test_generated_code_reaches_no_builtin() -> None:
    """The namespace of generated code has no builtins."""
    assert NAMESPACE["__builtins__"] == {}

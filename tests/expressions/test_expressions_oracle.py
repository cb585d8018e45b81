"""The scalar back end against a three-valued interpreter that is written to be obviously right."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from decision_service.core.expressions.names import names_in
from decision_service.core.expressions.parse import parse_expression
from decision_service.core.expressions.scalar import compile_condition, compile_value
from decision_service.core.expressions.tree import (
    And,
    Arithmetic,
    Call,
    Compare,
    IfElse,
    In,
    Name,
    Negative,
    Not,
    Number,
    Or,
    String,
    Tree,
)
from decision_service.core.source import Findings, Place
from decision_service.core.vocabulary import Kind, Layout, NameSpec, Vocabulary

NUMBERS, FLAGS, STRINGS = ("a", "b", "c"), ("f", "g"), ("s", "t")
VOCABULARY = Vocabulary(
    {n: NameSpec(n, Kind.NUMBER) for n in NUMBERS}
    | {n: NameSpec(n, Kind.FLAG) for n in FLAGS}
    | {n: NameSpec(n, Kind.STRING) for n in STRINGS}
)
LAYOUT = Layout({n: i for i, n in enumerate(NUMBERS + FLAGS)}, {n: i for i, n in enumerate(STRINGS)})
Value = float | str | bool | None

# --- expressions as text -------------------------------------------------------------------------------------------

_number_leaf = st.sampled_from([*NUMBERS, *FLAGS, "0", "1", "2", "1e308"])
_string = st.sampled_from([*STRINGS, '"x"', '"y"'])


def _numbers(conditions: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
            inner.map(lambda x: f"(-{x})"),
            st.tuples(st.sampled_from(["min", "max", "sum", "mean", "coalesce"]), inner, inner).map(
                lambda p: f"{p[0]}({p[1]}, {p[2]})"
            ),
            st.tuples(inner, conditions, inner).map(lambda p: f"({p[0]} if {p[1]} else {p[2]})"),
        )

    return st.recursive(_number_leaf, extend, max_leaves=4)


def _conditions() -> st.SearchStrategy[str]:
    simple = st.sampled_from([*FLAGS, "is_null(a)", "is_null(s)", "a > 1"])
    numbers = _numbers(simple)
    comparison = st.one_of(
        st.tuples(numbers, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers).map(" ".join),
        st.tuples(_string, st.sampled_from(["==", "!="]), _string).map(" ".join),
        numbers.map(lambda x: f"{x} in [0, 1, 2]"),
        _string.map(lambda x: f'{x} not in ["x", "z"]'),
        simple,
    )
    return st.recursive(
        comparison.map(lambda c: f"({c})"),
        lambda inner: st.one_of(
            inner.map(lambda c: f"(not {c})"),
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda p: f"({' '.join(p)})"),
            st.tuples(st.integers(1, 3), inner, inner, inner).map(
                lambda p: f"at_least({p[0]}, {p[1]}, {p[2]}, {p[3]})"
            ),
        ),
        max_leaves=5,
    )


_given = st.fixed_dictionaries(
    {n: st.sampled_from([None, 0.0, 1.0, 2.0, -3.5, 1e308]) for n in NUMBERS}
    | {n: st.sampled_from([None, 0.0, 1.0]) for n in FLAGS}
    | {n: st.sampled_from([None, "x", "y"]) for n in STRINGS}
)


# --- the oracle: None is null or unknown ------------------------------------------------------------------------------


def value(tree: Tree, given: Mapping[str, Value]) -> Value:
    """A number or string, None for null."""
    result = _value(tree, given)
    return None if isinstance(result, float) and not math.isfinite(result) else result


def _value(tree: Tree, given: Mapping[str, Value]) -> Value:
    match tree:
        case Number() | String():
            return tree.value
        case Name():
            return given[tree.spec.name]
        case IfElse():
            truth = condition(tree.condition, given)
            return None if truth is None else value(tree.then if truth else tree.otherwise, given)
        case Call(function="coalesce"):
            return next((v for v in (value(a, given) for a in tree.arguments) if v is not None), None)
    parts = [tree.operand] if isinstance(tree, Negative) else _operands(tree)
    values = [value(part, given) for part in parts]
    numbers = [v for v in values if isinstance(v, float)]
    return None if len(numbers) < len(values) else _computed(tree, numbers)


def _operands(tree: Tree) -> list[Tree]:
    if isinstance(tree, Arithmetic):
        return [tree.left, tree.right]
    assert isinstance(tree, Call)
    return list(tree.arguments)


def _computed(tree: Tree, numbers: list[float]) -> float | None:
    match tree:
        case Negative():
            return -numbers[0]
        case Arithmetic(op="/"):
            return numbers[0] / numbers[1] if numbers[1] else None
        case Arithmetic():
            return {"+": sum(numbers), "-": numbers[0] - numbers[1], "*": numbers[0] * numbers[1]}[tree.op]
        case Call():
            return {"min": min, "max": max, "sum": sum, "mean": lambda x: sum(x) / len(x)}[tree.function](numbers)
    raise AssertionError(tree)


def condition(tree: Tree, given: Mapping[str, Value]) -> bool | None:
    """Kleene's truth, None for unknown."""
    match tree:
        case Not():
            truth = condition(tree.operand, given)
            return None if truth is None else not truth
        case And():
            return _lowest([condition(o, given) for o in tree.operands])
        case Or():
            truth = _lowest([condition(Not(o, o.place), given) for o in tree.operands])
            return None if truth is None else not truth
        case Compare():
            return _compared(tree, value(tree.left, given), value(tree.right, given))
        case In():
            item = value(tree.item, given)
            assert not isinstance(tree.container, Name)
            return None if item is None else item in tree.container.values
        case Call(function="is_null"):
            return value(tree.arguments[0], given) is None
        case Call(function="at_least"):
            return _counted(tree, [condition(c, given) for c in tree.arguments[1:]])
    flag = value(tree, given)
    return {0.0: False, 1.0: True}.get(flag) if isinstance(flag, float) else None


def _lowest(truths: list[bool | None]) -> bool | None:
    if False in truths:
        return False
    return None if None in truths else True


def _compared(tree: Compare, left: Value, right: Value) -> bool | None:
    if left is None or right is None:
        return None
    if tree.op == "==":
        return left == right
    assert isinstance(left, float)
    assert isinstance(right, float)
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[tree.op]


def _counted(tree: Call, truths: list[bool | None]) -> bool | None:
    """Try every way the unknown ones could turn out: known if all agree."""
    k = tree.arguments[0]
    assert isinstance(k, Number)
    outcomes = {truths.count(True) + lucky >= k.value for lucky in range(truths.count(None) + 1)}
    return outcomes.pop() if len(outcomes) == 1 else None


# --- the tests ------------------------------------------------------------------------------------------------------


def _parsed(text: str) -> Tree | None:
    findings = Findings()
    tree = parse_expression(text, Place("p", 1, 1, text), VOCABULARY, findings)
    folded = ("too large a number", "a division by zero is always null", "nested deeper than 32 levels")
    assert tree is not None or all(d.message in folded for d in findings.errors), findings.errors[0].render()
    return tree


def _vectors(given: Mapping[str, Value]) -> tuple[list[float], list[str | None]]:
    numbers = [math.nan if given[n] is None else float(given[n] or 0.0) for n in NUMBERS + FLAGS]
    return numbers, [None if given[n] is None else str(given[n]) for n in STRINGS]


@given(text=_conditions(), given=_given)
def test_conditions_follow_kleene_exactly(text: str, given: dict[str, Value]) -> None:
    """A generated condition is true, false or unknown exactly when the oracle says so."""
    tree = _parsed(text)
    if tree is not None:
        assert compile_condition(tree, LAYOUT)(*_vectors(given), {}) is condition(tree, given)


@given(text=_numbers(st.sampled_from([*FLAGS, "a > b", "s == t"])), given=_given)
def test_values_follow_the_oracle(text: str, given: dict[str, Value]) -> None:
    """A generated number is what the oracle computes, and null exactly when it is."""
    tree = _parsed(text)
    if tree is not None and tree.kind is Kind.NUMBER:
        actual = compile_value(tree, LAYOUT)(*_vectors(given), {})
        assert isinstance(actual, float)
        expected = value(tree, given)
        assert math.isnan(actual) if expected is None else actual == expected


@given(text=_conditions(), given=_given, other=_given)
def test_a_known_condition_stays_when_more_becomes_known(
    text: str, given: dict[str, Value], other: dict[str, Value]
) -> None:
    """Filling in missing values never turns true into false (but for is_null and coalesce, which ask for them)."""
    tree = _parsed(text)
    if tree is None or "is_null" in text or "coalesce" in text:
        return
    run = compile_condition(tree, LAYOUT)
    before = run(*_vectors(given), {})
    filled = {n: other[n] if v is None else v for n, v in given.items()}
    assert before is None or run(*_vectors(filled), {}) in (before, None if _overflows(text) else before)


def _overflows(text: str) -> bool:
    return any(op in text for op in "+-*/") or "sum" in text or "mean" in text


@given(text=_conditions())
def test_names_are_those_in_the_text(text: str) -> None:
    """`names_in` finds every name of a tree and nothing else."""
    tree = _parsed(text)
    if tree is not None:
        words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").replace("-", " ").split())
        assert {spec.name for spec in names_in(tree)} == words & set(VOCABULARY)

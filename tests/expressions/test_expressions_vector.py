"""The vector back end: the case table, and bit-equality with the scalar back end over generated decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import test_expressions_cases as table
import test_expressions_oracle as oracle
from hypothesis import given
from hypothesis import strategies as st

from decision_service.core.expressions.columns import Columns, Texts, chunks
from decision_service.core.expressions.parse import parse_expression
from decision_service.core.expressions.scalar import compile_condition, compile_value
from decision_service.core.expressions.tree import Tree
from decision_service.core.expressions.vector import VectorCompiler, quietly
from decision_service.core.source import Findings, Place
from decision_service.core.vocabulary import Kind, Layout

Value = float | str | bool | None


def columns_of(
    layout: Layout, decisions: Sequence[Mapping[str, Value]], lists: Mapping[str, frozenset[str]]
) -> Columns:
    """Decisions as columns; what a decision does not give is null."""
    numbers = [
        np.array([math.nan if one.get(name) is None else float(one[name] or 0.0) for one in decisions])
        for name in layout.numbers
    ]
    strings = [Texts.of([None if one.get(n) is None else str(one[n]) for one in decisions]) for n in layout.strings]
    return Columns(len(decisions), numbers, strings, lists)


def vector_values(tree: Tree, layout: Layout, columns: Columns) -> list[Value]:
    """The vector back end's answers, null and unknown as None."""
    compiler = VectorCompiler(layout)
    if tree.kind in (Kind.BOOLEAN, Kind.FLAG):
        true, false = quietly(compiler.condition(tree), columns)
        assert not (true & false).any()
        return [True if t else False if f else None for t, f in zip(true.tolist(), false.tolist(), strict=True)]
    if tree.kind is Kind.STRING:
        texts: Texts = quietly(compiler.text_of(tree), columns)
        return list(texts.plain())
    numbers: list[float] = quietly(compiler.value_of(tree), columns).tolist()
    return [None if math.isnan(x) else x for x in numbers]


def scalar_values(tree: Tree, layout: Layout, columns: Columns) -> list[Value]:
    """The scalar back end's answers to the same decisions, one after the other."""
    condition = tree.kind in (Kind.BOOLEAN, Kind.FLAG)
    run = compile_condition(tree, layout) if condition else compile_value(tree, layout)
    texts = [column.plain() for column in columns.strings]
    answers: list[Value] = []
    for i in range(columns.count):
        answer = run([float(c[i]) for c in columns.numbers], [column[i] for column in texts], columns.lists)
        answers.append(None if isinstance(answer, float) and math.isnan(answer) else answer)
    return answers


@pytest.mark.parametrize(("line", "expression", "inputs", "result"), list(table.rows()))
def test_a_case_of_the_table_holds_for_columns(line: int, expression: str, inputs: str, result: str) -> None:
    """The vector back end gives what the table says, for a column whose other decisions know nothing."""
    tree = parse_expression(expression, Place("cases.csv", 1, 1, expression), table.VOCABULARY, Findings())
    assert tree is not None
    given_ = {k.strip(): table.value_of(v.strip()) for k, v in (p.split("=") for p in inputs.split(",") if p)}
    columns = columns_of(table.LAYOUT, [{}, given_, {}], table.LISTS)
    actual, expected = vector_values(tree, table.LAYOUT, columns)[1], table.value_of(result)
    assert type(actual) is type(expected), f"line {line}: {actual!r}"
    if isinstance(expected, float) and isinstance(actual, float):
        assert math.isclose(actual, expected, rel_tol=1e-15)
    else:
        assert actual == expected


_decisions = st.lists(oracle._given, min_size=1, max_size=6)
_condition = st.sampled_from([*oracle.FLAGS, "a > b", "s == t"])
_unary = st.sampled_from(["abs", "round", "floor", "ceil", "sqrt", "log", "exp"])
_number = st.one_of(
    oracle._numbers(_condition),
    st.tuples(_unary, oracle._numbers(_condition)).map(lambda p: f"{p[0]}({p[1]})"),
    st.tuples(*[oracle._numbers(_condition)] * 3).map(lambda p: f"clip({', '.join(p)})"),
)
_text = st.sampled_from(["s if a > 1 else t", "coalesce(s, t)", 'coalesce(s, "z")', '"x" if f else s', "t"])


@given(text=st.one_of(oracle._conditions(), _number, _text), decisions=_decisions)
def test_columns_and_single_decisions_agree_to_the_bit(text: str, decisions: list[Mapping[str, Value]]) -> None:
    """Whatever is asked, the answer for a column is the answers for its decisions, bit for bit."""
    tree = oracle._parsed(text)
    if tree is None:
        return
    columns = columns_of(oracle.LAYOUT, decisions, {})
    vector, scalar = (f(tree, oracle.LAYOUT, columns) for f in (vector_values, scalar_values))
    assert [repr(v) for v in vector] == [repr(v) for v in scalar]


def test_chunks_cover_every_decision_once() -> None:
    """Cutting columns into chunks keeps order, texts and count."""
    decisions: list[Mapping[str, Value]] = [{"a": float(i), "s": "xyz"[i % 3]} for i in range(10)]
    columns = columns_of(oracle.LAYOUT, decisions, {})
    parts = list(chunks(columns, 4))
    assert [part.count for part in parts] == [4, 4, 2]
    assert np.concatenate([part.numbers[0] for part in parts]).tolist() == [float(i) for i in range(10)]
    assert [text for part in parts for text in part.strings[0].plain()] == ["xyz"[i % 3] for i in range(10)]

"""The case table: what every expression means, nulls included."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from decision_service.core.expressions.parse import parse_expression
from decision_service.core.expressions.scalar import compile_condition, compile_value
from decision_service.core.source import Findings, Place
from decision_service.core.vocabulary import Kind, Layout, NameSpec, Vocabulary

CASES = Path(__file__).with_name("cases.csv")
NUMBERS = ("a", "b", "c", "d", "facility.limit", "f", "g", "h")
STRINGS = ("s", "t")
LISTS = {"list.block": frozenset(["bad"])}
LAYOUT = Layout({n: i for i, n in enumerate(NUMBERS)}, {n: i for i, n in enumerate(STRINGS)})
VOCABULARY = Vocabulary(
    {n: NameSpec(n, Kind.FLAG if n in "fgh" else Kind.NUMBER) for n in NUMBERS}
    | {n: NameSpec(n, Kind.STRING) for n in STRINGS}
    | {n: NameSpec(n, Kind.LIST) for n in ("list.block", "list.empty")}
    | {
        "k_four": NameSpec("k_four", Kind.NUMBER, constant=4.0),
        "k_two": NameSpec("k_two", Kind.NUMBER, constant=2.0),
        "k_text": NameSpec("k_text", Kind.STRING, constant="CNY"),
        "k_sens": NameSpec("k_sens", Kind.LIST, constant=(99.0, 199.0)),
    }
)
Value = float | str | bool | None


def rows() -> Iterator[tuple[int, str, str, str]]:
    """Line number, expression, inputs, result of every case."""
    for number, line in enumerate(CASES.read_text(encoding="utf-8").splitlines(), 1):
        if line and not line.startswith("#") and line != "expression;inputs;result":
            expression, inputs, result = line.split(";")
            yield number, expression, inputs, result


def value_of(text: str) -> Value:
    """A value as the table writes it."""
    words: dict[str, Value] = {"null": None, "unknown": None, "true": True, "false": False}
    if text in words:
        return words[text]
    return text[1:-1] if text.startswith('"') else float(text)


def evaluate(expression: str, inputs: str) -> Value:
    """The scalar back end's answer."""
    findings = Findings()
    tree = parse_expression(expression, Place("cases.csv", 1, 1, expression), VOCABULARY, findings)
    assert tree is not None, "\n".join(d.render() for d in findings.diagnostics)
    given = {k.strip(): value_of(v.strip()) for k, v in (pair.split("=") for pair in inputs.split(",") if pair)}
    numbers = [math.nan if given.get(n) is None else float(given[n] or 0) for n in NUMBERS]
    strings = [None if given.get(n) is None else str(given[n]) for n in STRINGS]
    if tree.kind in (Kind.BOOLEAN, Kind.FLAG):
        return compile_condition(tree, LAYOUT)(numbers, strings, LISTS)
    value = compile_value(tree, LAYOUT)(numbers, strings, LISTS)
    return None if isinstance(value, float) and math.isnan(value) else value


@pytest.mark.parametrize(("line", "expression", "inputs", "result"), list(rows()))
def test_a_case_of_the_table_holds(line: int, expression: str, inputs: str, result: str) -> None:
    """The scalar back end gives what the table says, to the last bit but for a relative error of 1e-15."""
    actual, expected = evaluate(expression, inputs), value_of(result)
    assert type(actual) is type(expected), f"line {line}: {actual!r}"
    if isinstance(expected, float) and isinstance(actual, float):
        assert math.isclose(actual, expected, rel_tol=1e-15)
    else:
        assert actual == expected


def test_the_table_is_large_enough_to_mean_something() -> None:
    """The table has at least 400 cases and none twice."""
    cases = [row[1:3] for row in rows()]
    assert len(cases) >= 400
    assert len(set(cases)) == len(cases)

"""Random decision tables and values for them, and how both back ends judge them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final, cast

import numpy as np
from block_oracle import CellText, Value
from hypothesis import strategies as st
from rule_cases import HEAD, JULY_2026_MS, LAYOUT, VOCABULARY

from decision_service.core.expressions.columns import Columns, Texts
from decision_service.core.rules.columns import VectorRuleSet
from decision_service.core.rules.compile import RuleSet, compile_rule_set
from decision_service.core.rules.points_spec import grade_name, points_name
from decision_service.core.rules.rule_set import RuleSetSpec
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.source import Findings
from decision_service.core.vocabulary import Layout
from decision_service.policies.files import read_text

GRID: Final = (0.0, 0.5, 1.0, 2.0, 30.0)  # what random bounds are made of
NUMBERS: Final = (None, -1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 30.0, 31.0)  # on and between them
TEXTS: Final = (None, "A", "B", "C", "D")
INPUTS: Final = {
    "utl_after": NUMBERS, "vel_req_cnt_10m": NUMBERS, "behaviour.grade": TEXTS, "tod_is_odd": (None, 0.0, 1.0),
    "request.amount": NUMBERS[1:],
}  # fmt: skip

_bounds = st.lists(
    st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.sampled_from(GRID)), min_size=1, max_size=2
).map(lambda parts: " and ".join(f"{op} {bound:g}" for op, bound in parts))
_words = st.sampled_from(["any", "null", "known"])


def cells_of(name: str) -> st.SearchStrategy[CellText]:
    """Cells for one input."""
    if name == "behaviour.grade":
        values: st.SearchStrategy[CellText] = st.lists(st.sampled_from("ABC"), min_size=1, max_size=2)
        return st.one_of(_words, values, st.sampled_from("ABC"), st.sampled_from(["!= A", "== B", "!= A and != B"]))
    if name == "tod_is_odd":
        return st.one_of(_words, st.sampled_from([0.0, 1.0]))
    return st.one_of(_words, _bounds, st.sampled_from(GRID), st.lists(st.sampled_from(GRID), min_size=1, max_size=2))


Rows = list[tuple[CellText, ...]]


@st.composite
def tables(draw: st.DrawFn, inputs_max: int = 4, rows_max: int = 6) -> tuple[list[str], Rows]:
    """Inputs and rows."""
    names = draw(st.lists(st.sampled_from(sorted(INPUTS)), min_size=1, max_size=inputs_max, unique=True))
    rows = draw(st.lists(st.tuples(*(cells_of(name) for name in names)), min_size=1, max_size=rows_max))
    return names, rows


def yaml_of(names: Sequence[str], rows: Sequence[Sequence[CellText]], hit: str, *, otherwise: bool = True) -> str:
    """A rule set with one table; JSON is YAML."""
    table = {
        "id": "t", "hit": hit, "inputs": list(names), "on_null": {"hold": "review"}, "reason": "RC30",
        "rows": [{"if": list(row), "then": {"tag": f"row_{i}"}} for i, row in enumerate(rows)],
    }  # fmt: skip
    return "tables: [" + json.dumps(table | ({"otherwise": "nothing"} if otherwise else {})) + "]\n"


def loaded(text: str) -> tuple[RuleSet | None, Findings]:
    """A rule set, None if it has errors, and what was found."""
    findings = Findings()
    document = read_text(HEAD + text, "drawdown.yaml", findings)
    assert document is not None, findings.diagnostics
    spec = read_rule_set(document, VOCABULARY, findings)
    return (None if spec is None else compile_rule_set(spec, LAYOUT, findings)), findings


def loaded_spec(text: str) -> tuple[RuleSetSpec | None, Findings]:
    """A rule set as read, None if it has errors, and what was found."""
    findings = Findings()
    document = read_text(HEAD + text, "drawdown.yaml", findings)
    assert document is not None, findings.diagnostics
    return read_rule_set(document, VOCABULARY, findings), findings


def filled_layout(spec: RuleSetSpec) -> Layout:
    """The layout with places for what a rule set fills."""
    numbers, strings = (*LAYOUT.numbers, *spec.numbers_filled), (*LAYOUT.strings, *spec.strings_filled)
    return Layout({n: i for i, n in enumerate(numbers)}, {n: i for i, n in enumerate(strings)})


def columns_of(decisions: Sequence[dict[str, Value]], layout: Layout = LAYOUT) -> Columns:
    """Decisions as columns; a name that a decision does not give is null."""
    width = max([*layout.numbers.values(), *layout.strings.values()]) + 1
    by_number = {slot: name for name, slot in layout.numbers.items()}
    by_text = {slot: name for name, slot in layout.strings.items()}
    numbers = [np.array([_number(d.get(by_number.get(i, ""))) for d in decisions]) for i in range(width)]
    texts = [[d.get(by_text.get(i, "")) for d in decisions] for i in range(width)]
    return Columns(
        len(decisions), numbers, [Texts.of([t if isinstance(t, str) else None for t in column]) for column in texts], {}
    )


def _number(value: Value) -> float:
    return value if isinstance(value, float) else math.nan


def texts_of(columns: Columns, slot: int) -> list[str | None]:
    """One column of texts."""
    return columns.strings[slot].plain()


def vectors_of(values: dict[str, Value], layout: Layout) -> tuple[list[float], list[str | None]]:
    """The two vectors of one decision."""
    width = max([*layout.numbers.values(), *layout.strings.values()]) + 1
    numbers, strings = [math.nan] * width, cast(list[str | None], [None] * width)
    for name, value in values.items():
        if isinstance(value, str):
            strings[layout.strings[name]] = value
        elif value is not None:
            numbers[layout.numbers[name]] = value
    return numbers, strings


def judged_one(rule_set: RuleSet, values: dict[str, Value], t_ms: int = JULY_2026_MS) -> list[str]:
    """What the blocks come to, one decision at a time: `id:label`."""
    numbers, strings = vectors_of(values, LAYOUT)
    return list(rule_set.evaluate(numbers, strings, {}, t_ms, 100, 100_000, 1_800).cells)


def judged_points(
    rule_set: RuleSet, layout: Layout, values: dict[str, Value], card: str
) -> tuple[float | None, str | None, bool]:
    """Points and grade of one decision, and whether the first rule fires."""
    numbers, strings = vectors_of(values, layout)
    evaluation = rule_set.evaluate(numbers, strings, {}, JULY_2026_MS, 100, 100_000, 1_800)
    points = numbers[layout.numbers[points_name(card)]]
    return (
        (points if points == points else None),
        strings[layout.strings[grade_name(card)]],
        evaluation.verdicts == b"\1",
    )


def judged_many(rule_set: RuleSet, columns: Columns, t_ms: Sequence[int]) -> list[list[str]]:
    """The same, all at once."""
    spec = rule_set.spec
    judged = VectorRuleSet(spec, LAYOUT).judge(columns, np.array(t_ms, np.int64))
    said: list[list[str]] = [[] for _ in range(columns.count)]
    for block, cells in zip(spec.blocks, judged.cells.tolist(), strict=True):
        labels = (*block.labels, "unknown")
        hits = judged.hits.get(block.id)
        for i in range(columns.count):
            numbers = [cells[i]] if hits is None else np.flatnonzero(hits[:, i]).tolist()
            said[i] += [f"{block.id}:{labels[number]}" for number in numbers]
    return said

"""Random points scorecards: one decision, columns and the definition agree, on points and on grades."""

from __future__ import annotations

import json
import math

import numpy as np
from block_oracle import Bins, Value, grade_of, points_of
from hypothesis import given, settings
from hypothesis import strategies as st
from table_cases import INPUTS, columns_of, filled_layout, judged_points, loaded_spec, texts_of

from decision_service.core.expressions.vector import VectorCompiler
from decision_service.core.rules.compile import compile_rule_set
from decision_service.core.rules.points_code import VectorPoints
from decision_service.core.rules.points_spec import grade_name, points_name
from decision_service.core.source import Findings

NAMES = ("utl_after", "vel_req_cnt_10m", "behaviour.grade", "tod_is_odd", "request.amount")
GRADES = [("A", 30.0), ("B", 10.0), ("C", 0.0)]
_earned = st.integers(-30, 40).map(float)


@st.composite
def bins_of(draw: st.DrawFn, name: str) -> Bins:
    """Bins for one value that leave nothing out: the last takes all."""
    if name == "behaviour.grade":
        cells: list[str | float] = draw(st.lists(st.sampled_from(["A", "B", "!= C"]), unique=True, max_size=3))
    elif name == "tod_is_odd":
        cells = draw(st.lists(st.sampled_from([0.0, 1.0]), unique=True, max_size=2))
    else:
        edges = draw(st.lists(st.sampled_from(["<= 0", "< 0.5", "> 0.5 and <= 2", "== 1", ">= 30"]), unique=True))
        cells = list(edges)
    nulls: list[str | float] = draw(st.sampled_from([[], ["null"]]))
    return [(cell, draw(_earned)) for cell in [*cells, *nulls, draw(st.sampled_from(["any", "known"])), "any"]][
        : None if draw(st.booleans()) else -1
    ]


@st.composite
def cards(draw: st.DrawFn) -> tuple[float, list[tuple[str, Bins]]]:
    """A base and what it is for."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    return draw(_earned), [(name, draw(bins_of(name))) for name in names]


def yaml_of(base: float, of: list[tuple[str, Bins]]) -> str:
    """A rule set with one points scorecard and a rule that reads it; JSON is YAML, its keys in order."""
    card = {
        "id": "p", "base": base, "grades": dict(GRADES),
        "of": [
            {"value": name, "bins": {cell if isinstance(cell, str) else f"{cell:g}": n for cell, n in bins}}
            for name, bins in of
        ],
    }  # fmt: skip
    rule = {"id": "good", "when": 'p.points >= 20 and p.grade in ["A", "B"]', "then": {"tag": "good"}}
    return f"points: [{json.dumps(card)}]\nrules: [{json.dumps(rule)}]\n"


@settings(max_examples=60, deadline=None)
@given(card=cards(), data=st.data())
def test_a_points_scorecard_is_what_its_definition_says(
    card: tuple[float, list[tuple[str, Bins]]], data: st.DataObject
) -> None:
    """Points and grade of every decision are those of the plain interpreter, one at a time and as columns."""
    base, of = card[0], [(name, list(dict(bins).items())) for name, bins in card[1]]
    spec, findings = loaded_spec(yaml_of(base, of))
    if spec is None:  # `known` as the last bin leaves null to nobody
        assert all(error.message.startswith("nothing says what happens") for error in findings.errors)
        return
    layout = filled_layout(spec)
    rule_set = compile_rule_set(spec, layout, Findings())
    one = st.fixed_dictionaries({name: st.sampled_from(INPUTS[name]) for name in NAMES})
    decisions: list[dict[str, Value]] = data.draw(st.lists(one, min_size=1, max_size=12))
    expected = [points_of(base, of, decision) for decision in decisions]
    grades = [grade_of(points, GRADES) for points in expected]
    for decision, points, grade in zip(decisions, expected, grades, strict=True):
        fires = points is not None and points >= 20 and grade in ("A", "B")
        assert judged_points(rule_set, layout, decision, "p") == (points, grade, fires)
    columns = VectorPoints(spec.points, VectorCompiler(layout), layout).filled(columns_of(decisions, layout))
    found = columns.numbers[layout.numbers[points_name("p")]]
    assert np.array_equal(found, [math.nan if points is None else points for points in expected], equal_nan=True)
    assert texts_of(columns, layout.strings[grade_name("p")]) == grades

"""Random decision tables: one decision, columns and the definition agree; gaps are found iff there are any."""

from __future__ import annotations

import itertools
import re

import pytest
from block_oracle import table_hits
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import JULY_2026_MS
from table_cases import GRID, INPUTS, Rows, columns_of, judged_many, judged_one, loaded, tables, yaml_of

FINE = sorted({*GRID, *(x + d for x in GRID for d in (-0.1, 0.1)), 0.75, 1.5})


@pytest.mark.parametrize("hit", ["first", "all"])
@settings(max_examples=60, deadline=None)
@given(table=tables(), data=st.data())
def test_a_table_is_what_its_definition_says(hit: str, table: tuple[list[str], Rows], data: st.DataObject) -> None:
    """Every decision hits the rows that the plain interpreter says, one at a time and as columns."""
    names, rows = table
    rule_set, findings = loaded(yaml_of(names, rows, hit))
    assert rule_set is not None, findings.errors
    one = st.fixed_dictionaries({name: st.sampled_from(INPUTS[name]) for name in names})
    decisions = data.draw(st.lists(one, min_size=1, max_size=12))
    expected = [[f"t:{label}" for label in table_hits(hit, rows, [d[n] for n in names])] for d in decisions]
    assert [judged_one(rule_set, decision) for decision in decisions] == expected
    assert judged_many(rule_set, columns_of(decisions), [JULY_2026_MS] * len(decisions)) == expected


def whole_grid(names: list[str]) -> list[dict[str, float | str | None]]:
    """Every combination of values on and between all bounds."""
    own = {
        name: values if name in ("behaviour.grade", "tod_is_odd") else [*([None] if None in values else []), *FINE]
        for name, values in INPUTS.items()
    }
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*(own[name] for name in names))]


@settings(max_examples=80, deadline=None)
@given(table=tables(inputs_max=2, rows_max=5))
def test_a_gap_is_reported_if_and_only_if_there_is_one(table: tuple[list[str], Rows]) -> None:
    """Against every point of a grid; and the example in the message is such a point."""
    names, rows = table
    uncovered = [p for p in whole_grid(names) if table_hits("first", rows, [p[n] for n in names]) == ["otherwise"]]
    _, findings = loaded(yaml_of(names, rows, "first", otherwise=False))
    gaps = [d.message for d in findings.errors if d.message.startswith("nothing says")]
    assert bool(gaps) == bool(uncovered)
    if gaps:
        example = dict.fromkeys(names, INPUTS["behaviour.grade"][-1]) | {"tod_is_odd": 0.0}
        point = {n: example.get(n) if n in ("behaviour.grade", "tod_is_odd") else 0.0 for n in names} | parsed(gaps[0])
        assert table_hits("first", rows, [point[n] for n in names]) == ["otherwise"], gaps[0]


def parsed(message: str) -> dict[str, float | str | None]:
    """The example of a gap, back as values."""
    point: dict[str, float | str | None] = {}
    for name, value in re.findall(
        r"([a-z_.0-9]+) is (null|anything|none of [A-Z, ]+|not [A-Z]|[-+0-9.e]+|[A-Z])", message
    ):
        if value == "null":
            point[name] = None
        elif value[0] in "na":
            point[name] = "Z"
        else:
            point[name] = value if value.isalpha() else float(value)
    return point


@settings(max_examples=60, deadline=None)
@given(table=tables(inputs_max=2, rows_max=5))
def test_a_row_is_called_unreachable_if_and_only_if_it_is(table: tuple[list[str], Rows]) -> None:
    """Against every point of a grid."""
    names, rows = table
    hit = {label for p in whole_grid(names) for label in table_hits("first", rows, [p[n] for n in names])}
    _, findings = loaded(yaml_of(names, rows, "first"))
    told = set(re.findall(r"row `(\d+)` is never reached", "\n".join(d.message for d in findings.diagnostics)))
    assert told == {str(number) for number in range(1, len(rows) + 1)} - hit

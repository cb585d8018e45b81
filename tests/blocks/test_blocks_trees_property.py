"""Random decision trees: one decision, columns and the definition agree."""

from __future__ import annotations

import json
from typing import Any

from block_oracle import Tree, tree_hits
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import JULY_2026_MS
from table_cases import GRID, INPUTS, columns_of, judged_many, judged_one, loaded

NAMES = ("utl_after", "vel_req_cnt_10m", "request.amount")
_questions = st.tuples(st.sampled_from(NAMES), st.sampled_from(["<", "<=", ">", ">=", "=="]), st.sampled_from(GRID))
_leaves = st.sampled_from(["approve", "nothing"])
_below = st.recursive(_leaves, lambda way: st.tuples(_questions, way, way, st.none() | way), max_leaves=10)
trees: st.SearchStrategy[Tree] = st.tuples(_questions, _below, _below, st.none() | _below)


def node_of(tree: Tree) -> Any:
    """A tree as an analyst writes it."""
    if isinstance(tree, str):
        return tree
    (name, op, bound), then, otherwise, unknown = tree
    ways = {"if": f"{name} {op} {bound:g}", "then": node_of(then), "else": node_of(otherwise)}
    return ways if unknown is None else ways | {"unknown": node_of(unknown)}


@settings(max_examples=60, deadline=None)
@given(tree=trees, data=st.data())
def test_a_tree_is_what_its_definition_says(tree: Tree, data: st.DataObject) -> None:
    """Every decision comes to the leaf that the plain interpreter says, one at a time and as columns."""
    rule_set, findings = loaded("trees: [" + json.dumps({"id": "t", "root": node_of(tree), "on_null": "skip"}) + "]\n")
    assert rule_set is not None, findings.errors
    one = st.fixed_dictionaries({name: st.sampled_from(INPUTS[name]) for name in NAMES})
    decisions = data.draw(st.lists(one, min_size=1, max_size=12))
    expected = [[f"t:{tree_hits(tree, decision)}"] for decision in decisions]
    assert [judged_one(rule_set, decision) for decision in decisions] == expected
    assert judged_many(rule_set, columns_of(decisions), [JULY_2026_MS] * len(decisions)) == expected

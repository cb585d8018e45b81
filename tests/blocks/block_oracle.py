"""What blocks mean, in the plainest way: the definition that generated code, single and vectorised, is held to.

True, False and None (unknown). A null value is None. Cells are texts as an analyst types them; a list is a list.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Final

Value = float | str | None
CellText = str | float | list[str | float]
_OPS: Final = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def cell_holds(cell: CellText, x: Value, null_is_value: bool) -> bool | None:
    """Whether a value meets a cell."""
    if cell == "any":
        return True
    if cell in ("null", "known"):
        return (x is None) is (cell == "null")
    if x is None:
        return False if null_is_value else None
    if isinstance(cell, list):
        return x in cell
    if isinstance(cell, str) and cell[0] in "<>=!":
        bounds = [part.split() for part in cell.split(" and ")]
        return all(_OPS[op](x, bound if isinstance(x, str) else float(bound)) for op, bound in bounds)
    return x == cell


def row_holds(cells: Sequence[CellText], values: Sequence[Value], named: Sequence[bool]) -> bool | None:
    """Whether all cells of a row hold (Kleene)."""
    held = [cell_holds(cell, x, null) for cell, x, null in zip(cells, values, named, strict=True)]
    return False if False in held else None if None in held else True


def table_hits(hit: str, rows: Sequence[Sequence[CellText]], values: Sequence[Value]) -> list[str]:
    """The labels a table hits: numbers of rows from 1, `otherwise`, `unknown`."""
    named = [any(row[i] == "null" for row in rows) for i in range(len(values))]
    held = [row_holds(row, values, named) for row in rows]
    if hit == "first":
        decisive = next((number for number, truth in enumerate(held, 1) if truth is not False), None)
        return ["otherwise"] if decisive is None else [str(decisive) if held[decisive - 1] else "unknown"]
    hits = [str(number) for number, truth in enumerate(held, 1) if truth]
    hits += ["unknown"] if None in held else []
    return hits or ["otherwise"]


Question = tuple[str, str, float]  # name, comparison, bound
Tree = str | tuple[Question, "Tree", "Tree", "Tree | None"]  # a leaf is its effect; a branch: then, else, unknown


def tree_hits(tree: Tree, values: dict[str, Value]) -> str:
    """The way to the leaf a decision comes to, or `unknown`."""
    way: list[str] = []
    while not isinstance(tree, str):
        (name, op, bound), then, otherwise, unknown = tree
        x = values[name]
        if x is None:
            if unknown is None:
                return "unknown"
            way, tree = [*way, "unknown"], unknown
        else:
            true = _OPS[op](x, bound)
            way, tree = [*way, "then" if true else "else"], then if true else otherwise
    return "/".join(way)


Bins = list[tuple[str | float, float]]  # in order: a cell, and what it earns


def points_of(base: float, of: list[tuple[str, Bins]], values: dict[str, Value]) -> float | None:
    """The points of a decision, None for unknown."""
    total = base
    for name, bins in of:
        null_is_value = any(cell == "null" for cell, _ in bins)
        held = [(cell_holds(cell, values[name], null_is_value), points) for cell, points in bins]
        taken = next((points if truth else None for truth, points in held if truth is not False), None)
        if taken is None:
            return None
        total += taken
    return total


def grade_of(points: float | None, grades: list[tuple[str, float]]) -> str | None:
    """The grade of so many points: below all is the last."""
    if points is None:
        return None
    return next((name for name, least in grades if points >= least), grades[-1][0])

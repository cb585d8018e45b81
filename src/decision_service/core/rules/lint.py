"""Warnings: what compiles and is hardly meant. Never an error, so a warning cannot stop a reload."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Final

from decision_service.core.expressions.names import names_in
from decision_service.core.expressions.scalar import compile_condition
from decision_service.core.expressions.tree import And, Compare, Name, Number, Tree
from decision_service.core.source import Findings, Place, Scalar
from decision_service.core.vocabulary import Layout

_NOWHERE: Final = Layout({}, {})
_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
Range = tuple[float, bool, float, bool]  # low, low excluded, high, high excluded


def lint_constants(places: Iterable[tuple[str, Place]], used: Collection[str], findings: Findings) -> None:
    """Constants that no expression names."""
    for name, place in places:
        if name not in used:
            findings.warning(place, f"the constant `{name}` is not used", length=len(name))


def lint_condition(when: Tree, text: Scalar, findings: Findings) -> None:
    """Conditions that are true or false whatever the decision."""
    length = len(text.text)
    if not any(True for _ in names_in(when)):
        truth = "always" if compile_condition(when, _NOWHERE)([], [], {}) else "never"
        findings.warning(text.place, f"this condition is {truth} true", length=length)
        return
    for name in _contradictions(when):
        findings.warning(
            text.place, f"this condition is never true: no value of `{name}` meets all its bounds", length=length
        )


def _contradictions(when: Tree) -> list[str]:
    """Names whose bounds in a conjunction leave no value."""
    ranges: dict[str, Range] = {}
    for name, op, bound in _bounds(when):
        ranges[name] = _narrowed(ranges.get(name, (-math.inf, False, math.inf, False)), op, bound)
    return [name for name, range_ in ranges.items() if _empty(range_)]


def _bounds(tree: Tree) -> list[tuple[str, str, float]]:
    if isinstance(tree, And):
        return [bound for operand in tree.operands for bound in _bounds(operand)]
    match tree:
        case Compare(left=Name() as name, right=Number() as number):
            return [(name.spec.name, tree.op, number.value)]
        case Compare(left=Number() as number, right=Name() as name):
            return [(name.spec.name, _MIRRORED[tree.op], number.value)]
    return []


def _narrowed(range_: Range, op: str, bound: float) -> Range:
    low, low_out, high, high_out = range_
    if op in (">", ">=", "==") and (bound, op == ">") > (low, low_out):
        low, low_out = bound, op == ">"
    if op in ("<", "<=", "==") and (bound, op != "<") < (high, not high_out):
        high, high_out = bound, op == "<"
    return low, low_out, high, high_out


def _empty(range_: Range) -> bool:
    low, low_out, high, high_out = range_
    return low > high or (low == high and (low_out or high_out))

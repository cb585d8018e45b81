"""Warnings: what compiles and is hardly meant. Never an error, so a warning cannot stop a reload.

Of a condition: that it, or a part of it, is never true, or true whenever what it reads is known. Rules beside each
other are looked at by `shadows.py`, units by `expressions/units.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import Final

from decision_service.core.expressions.names import children, names_in
from decision_service.core.expressions.scalar import compile_condition
from decision_service.core.expressions.tree import And, Or, Tree
from decision_service.core.rules.cases import TooManyCases, cases_of, name_of
from decision_service.core.source import Findings, Place, Scalar
from decision_service.core.vocabulary import Layout, NameSpec

_NOWHERE: Final = Layout({}, {})
_WHOLE, _PART = "this condition is", "this part of the condition is"


def lint_constants(places: Iterable[tuple[str, Place]], used: Collection[str], findings: Findings) -> None:
    """Constants that no expression names."""
    for name, place in places:
        if name not in used:
            findings.warning(place, f"the constant `{name}` is not used", length=len(name))


def lint_condition(when: Tree, text: Scalar, findings: Findings) -> None:
    """Conditions that are true or false whatever the decision, and such parts of them."""
    specs = list(names_in(when))
    names = {spec.name for spec in specs}
    length = len(text.text)
    if not specs:
        truth = "always" if compile_condition(when, _NOWHERE)([], [], {}) else "never"
        findings.warning(text.place, f"{_WHOLE} {truth} true", length=length)
    elif len(names) < len(specs):  # two bounds that contradict each other are bounds on one name
        verdict = _verdict(when)
        if verdict:
            findings.warning(text.place, f"{_WHOLE} {verdict}", length=length)
        else:
            _lint_parts(when, findings)


def _lint_parts(tree: Tree, findings: Findings) -> None:
    """The outermost parts that are always or never true."""
    for child in children(tree):
        verdict = _verdict(child) if isinstance(child, (And, Or)) else ""
        if verdict:
            findings.warning(child.place, f"{_PART} {verdict}")
        else:
            _lint_parts(child, findings)


def _verdict(tree: Tree) -> str:
    """`never true: why`, `true whenever ... is known`, or nothing."""
    clashes: set[Hashable] = set()
    try:
        if not cases_of(tree, True, clashes):
            return f"never true: {_contradiction(clashes)}"
        if not cases_of(tree, False):
            return _whenever(names_in(tree))
    except TooManyCases:
        pass
    return ""


def _contradiction(clashes: Collection[Hashable]) -> str:
    names = [name_of(subject) for subject in clashes]
    if len(names) == 1 and names[0]:
        return f"no value of `{names[0]}` meets all its bounds"
    return "its parts contradict each other"


def _whenever(specs: Iterable[NameSpec]) -> str:
    nullable = dict.fromkeys(f"`{spec.name}`" for spec in specs if spec.nullable)
    if not nullable:
        return "always true"
    return f"true whenever {' and '.join(nullable)} {'is' if len(nullable) == 1 else 'are'} known"

"""The cases in which a condition is true: each a conjunction that says what every subject may be.

    x > 5 and (y == "A" or y == "B")     {x: above 5, y: "A"}, {x: above 5, y: "B"}

A subject is whatever is compared with a literal: mostly a name, else an expression under its key; `a > b` is about the
difference of the two, `at_least(k, ...)` about how many of its conditions hold. A case that cannot come about is left
out, so a condition without cases is never true, and one whose negation has none is true whenever all it reads is
known. A condition of more than CASES_MAX cases is not looked into.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Final

from decision_service.core.expressions.keys import key_of
from decision_service.core.expressions.tree import (
    And,
    Call,
    Compare,
    CompareOp,
    In,
    Literals,
    Name,
    Not,
    Number,
    Or,
    String,
    Tree,
)
from decision_service.core.rules.domains import KNOWN, NULL, Domain, Value, bounded, finite, other_than

CASES_MAX: Final = 64
_MIRRORED: Final[dict[CompareOp, CompareOp]] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
_OPPOSITE: Final[dict[CompareOp, CompareOp]] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_HOLDS: Final = {value: Domain(members=frozenset([float(value)])) for value in (False, True)}

Case = Mapping[Hashable, Domain]


class TooManyCases(Exception):
    """The condition is too wide to be looked into."""


def cases_of(tree: Tree, truth: bool = True, clashes: set[Hashable] | None = None) -> list[Case]:
    """The cases in which `tree` is `truth`; subjects whose bounds left no value are added to `clashes`.

    Raises TooManyCases.
    """
    return _Cases(clashes if clashes is not None else set()).of(tree, truth)


def implies(narrow: Case, wide: Case) -> bool:
    """Whether everything that is in one case is in the other."""
    for subject, domain in wide.items():
        known = narrow.get(subject)
        if known is None or not known.within(domain):
            return False
    return True


def asks_for_null(cases: Sequence[Case]) -> bool:
    """Whether some case is about a value being there or missing, so that a missing one settles it."""
    return any(domain in (NULL, KNOWN) for case in cases for domain in case.values())


class _Cases:
    def __init__(self, clashes: set[Hashable]) -> None:
        self._clashes = clashes

    def of(self, tree: Tree, truth: bool) -> list[Case]:
        if isinstance(tree, Compare):
            return self._compared(tree, truth)
        if isinstance(tree, (And, Or)):
            joined = self._all if isinstance(tree, And) is truth else self._any
            return joined(tree.operands, truth)
        match tree:
            case Not(operand=operand):
                return self.of(operand, not truth)
            case In(item=item, container=Literals(values=values)):
                return self._one(key_of(item), finite(values) if truth else other_than(values))
            case Call(function="is_null", arguments=(argument,)):
                return self._one(key_of(argument), NULL if truth else KNOWN)
            case Call(function="at_least", arguments=(Number(value=least), *conditions)):
                subject = ("at_least", *map(key_of, conditions))
                return self._one(subject, bounded(">=" if truth else "<", least))
        return self._one(key_of(tree), _HOLDS[truth])

    def _one(self, subject: Hashable, domain: Domain | None) -> list[Case]:
        return [] if domain is None else [{subject: domain}]

    def _any(self, operands: Sequence[Tree], truth: bool) -> list[Case]:
        cases = [case for operand in operands for case in self.of(operand, truth)]
        if len(cases) > CASES_MAX:
            raise TooManyCases
        return cases

    def _all(self, operands: Sequence[Tree], truth: bool) -> list[Case]:
        cases = self.of(operands[0], truth)
        for operand in operands[1:]:
            parts = self.of(operand, truth)
            met = (self._met(case, part) for case in cases for part in parts)
            cases = [case for case in met if case is not None]
            if len(cases) > CASES_MAX:
                raise TooManyCases
        return cases

    def _met(self, case: Case, part: Case) -> Case | None:
        met = dict(case)
        for subject, domain in part.items():
            known = met.get(subject)
            both = domain if known is None else known.meet(domain)
            if both is None:
                self._clashes.add(subject)
                return None
            met[subject] = both
        return met

    def _compared(self, tree: Compare, truth: bool) -> list[Case]:
        left, right, op = tree.left, tree.right, tree.op
        if isinstance(right, Number) and isinstance(left, Name):
            return [{left.spec.name: _domain(op, right.value, truth)}]
        if isinstance(left, (Number, String)):
            left, right, op = right, left, _MIRRORED[op]
        if isinstance(left, (Number, String)) and isinstance(right, (Number, String)):
            return [{}] if bounded(op, right.value).holds(left.value) == truth else []
        if isinstance(right, (Number, String)):
            return self._one(key_of(left), _domain(op, right.value, truth))
        a, b = key_of(left), key_of(right)
        if a == b:
            return self._one(a, KNOWN if (op in ("<=", ">=", "==")) == truth else None)
        if repr(a) > repr(b):
            a, b, op = b, a, _MIRRORED[op]
        return self._one(("difference", a, b), _domain(op, 0.0, truth))


def _domain(op: CompareOp, bound: Value, truth: bool) -> Domain:
    if truth:
        return bounded(op, bound)
    return other_than([bound]) if op == "==" else bounded(_OPPOSITE[op], bound)


def name_of(subject: Hashable) -> str:
    """The name a subject is, or "" for an expression."""
    return subject if isinstance(subject, str) else ""

"""What the numbers of an expression are measured in, and where two of them do not go together.

Units are those of the vocabulary (`NameSpec.unit`); "" is a number whose unit nobody knows, and every literal, which
goes with anything. They follow through arithmetic:

    money * ratio = money          a share of an amount             money * n = money
    money / money = ratio          like by like                     money / n = money
    money / d = "money per d"      and back: "money per d" * d = money
    money + money = money          of unlike ones: unknown, after the finding

A literal beside money scales it (`0.8 * facility.limit` is money); beside anything else it may convert (`age_d * 24`),
so the result is unknown. What is unknown never leads to a finding: there are to be no false ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from decision_service.core.expressions.names import children
from decision_service.core.expressions.tree import (
    Arithmetic,
    Call,
    Compare,
    IfElse,
    In,
    Literals,
    Name,
    Negative,
    Number,
    Tree,
)
from decision_service.core.source import Findings, Place
from decision_service.core.vocabulary import Kind, NameSpec

UNKNOWN: Final = ""
_WORD: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
SAYS: Final = {
    "money": "an amount of money", "ratio": "a ratio", "n": "a count", "s": "a number of seconds",
    "h": "a number of hours", "d": "a number of days", "km": "a number of kilometres", "kmh": "a speed in km/h",
    "bps": "a number of basis points", "points": "a number of points",
}  # fmt: skip
_ALIKE: Final = frozenset({"n", "d"})  # days may be counted
_KEEPING: Final = frozenset({"abs", "round", "floor", "ceil"})  # functions of one number that keep its unit
_ALL_ALIKE: Final = frozenset({"min", "max", "mean", "sum", "clip", "coalesce"})
_QUOTIENTS: Final = {("km", "h"): "kmh"}
_HINTS: Final = {
    frozenset({"money", "ratio"}): "a share of an amount, such as `share * facility.limit`, or a quotient of two",
    frozenset({"s", "d"}): "both in one unit: a day has 86400 s",
    frozenset({"s", "h"}): "both in one unit: an hour has 3600 s",
    frozenset({"h", "d"}): "both in one unit: a day has 24 h",
    frozenset({"bps", "ratio"}): "both in one unit: 0.01 is 100 bps",
    frozenset({"money", "n"}): "an amount with an amount, a count with a count",
    frozenset({"ratio", "n"}): "a count with a count, or a share such as `part / whole`",
}  # fmt: skip
Mixed = Callable[[Tree, Tree, str, str, str], None]  # the two trees, what is done to them, their units


def says(unit: str) -> str:
    """A unit in words."""
    return SAYS.get(unit, f"a number of {unit}")


def hint(left: str, right: str) -> str:
    """What to write instead of mixing two units."""
    return _HINTS.get(frozenset({left, right}), "two values of one unit")


def alike(left: str, right: str) -> bool:
    """Whether two units may be compared or added; an unknown one goes with every other."""
    return left == right or UNKNOWN in (left, right) or {left, right} == _ALIKE


def unit_of(tree: Tree, mixed: Mixed | None = None) -> str:
    """The unit of a number, UNKNOWN for anything else. `mixed` is told of every pair below that does not go together.

    One walk over the tree, which the checker has made sure is not deep.
    """
    return _Units(mixed).of(tree)


def report_mixed_units(tree: Tree, findings: Findings) -> str:
    """Warn about every pair of unlike units below `tree`; its own unit."""

    def mixed(left: Tree, right: Tree, verb: str, a: str, b: str) -> None:
        names = " and ".join(f"`{t.spec.name}`" for t in (left, right) if isinstance(t, Name))
        length = len(left.spec.name) if isinstance(left, Name) else 1
        findings.warning(
            left.place, f"{says(a)} is {verb} {says(b)}" + (f": {names}" if names else ""),
            expected=hint(a, b), length=length,
        )  # fmt: skip

    return unit_of(tree, mixed)


def check_unit(tree: Tree, wanted: str, what: str, length: int, findings: Findings) -> bool:
    """Warn if an amount that `what` asks for is measured in something else; whether it is not. What is mixed inside
    it was reported."""
    unit = unit_of(tree)
    if not alike(unit, wanted):
        findings.warning(
            tree.place, f"{what} wants {says(wanted)}, this is {says(unit)}", expected=hint(unit, wanted), length=length
        )
        return False
    return True


def check_bounds(text: str, place: Place, unit: str, vocabulary: Mapping[str, NameSpec], findings: Findings) -> None:
    """Warn of constants among the bounds in `text` (an axis, a cell) that are not measured in `unit`."""
    for word in _WORD.finditer(text):
        spec = vocabulary.get(word[0])
        if spec is not None and spec.kind is not Kind.STRING and not alike(spec.unit, unit):
            findings.warning(
                place.moved(word.start()), f"`{spec.name}` is {says(spec.unit)} and bounds {says(unit)}",
                expected=hint(spec.unit, unit), length=len(spec.name),
            )  # fmt: skip


class _Units:
    def __init__(self, mixed: Mixed | None) -> None:
        self._mixed = mixed

    def of(self, tree: Tree) -> str:
        if isinstance(tree, Name):
            return UNKNOWN if tree.spec.kind is Kind.FLAG else tree.spec.unit
        if isinstance(tree, (Number, Literals)):
            return tree.unit
        if isinstance(tree, Compare):
            self._together((tree.left, tree.right), "compared with")
            return UNKNOWN
        match tree:
            case Negative(operand=operand):
                return self.of(operand)
            case In(item=item, container=container):
                self._together((item, container), "looked up in a list of which each is")
            case Arithmetic():
                return self._arithmetic(tree)
            case IfElse(condition=condition, then=then, otherwise=otherwise):
                self.of(condition)
                return self._together((then, otherwise), "the alternative to")
            case Call(function=function, arguments=arguments) if function in _ALL_ALIKE:
                return self._together(arguments, f"in one `{function}` with")
            case Call(function=function, arguments=(only,)) if function in _KEEPING:
                return self.of(only)
            case _:
                for child in children(tree):
                    self.of(child)
        return UNKNOWN

    def _together(self, trees: Sequence[Tree], verb: str) -> str:
        """The unit of trees that must be alike: that of the first that has one, unknown if another differs."""
        units = [self.of(tree) for tree in trees]
        first = next((position for position, unit in enumerate(units) if unit), 0)
        sound = True
        for tree, unit in zip(trees[first + 1 :], units[first + 1 :], strict=True):
            if not alike(units[first], unit):
                sound = False
                if self._mixed is not None:
                    self._mixed(trees[first], tree, verb, units[first], unit)
        return units[first] if sound else UNKNOWN

    def _arithmetic(self, tree: Arithmetic) -> str:
        if tree.op == "+":
            return self._together((tree.left, tree.right), "added to")
        if tree.op == "-":
            return self._together((tree.left, tree.right), "reduced by")
        left, right = self.of(tree.left), self.of(tree.right)
        return _product(left, right) if tree.op == "*" else _quotient(left, right)


def _product(left: str, right: str) -> str:
    if UNKNOWN in (left, right):
        return "money" if "money" in (left, right) else UNKNOWN
    for one, other in ((left, right), (right, left)):
        if one.endswith(f" per {other}"):
            return one.removesuffix(f" per {other}")
    if "ratio" in (left, right):
        return right if left == "ratio" else left
    if "n" in (left, right):
        return right if left == "n" else left
    return UNKNOWN


def _quotient(top: str, bottom: str) -> str:
    if UNKNOWN in (top, bottom):
        return top if top == "money" else UNKNOWN
    if alike(top, bottom):
        return "ratio"
    if bottom in ("n", "ratio"):
        return top
    return _QUOTIENTS.get((top, bottom), f"{top} per {bottom}")

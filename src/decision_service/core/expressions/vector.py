"""The vector back end: the values of many decisions in, one array out, for backtests and portfolio runs.

It compiles the same typed trees as `scalar.py` and gives the same bits (`tests/expressions` runs one table against
both): a backtest that disagrees with production about a threshold is worth nothing.

A function works on `Columns`, which hold a few thousand decisions at a time so that intermediates stay in the cache;
`chunks` cuts larger tables. Nothing here keeps state between calls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import reduce
from typing import Any, Final, cast

import numpy as np

from decision_service.core.expressions.columns import Columns, Floats, Mask, Texts, blank, chosen, joined
from decision_service.core.expressions.tree import (
    And,
    Arithmetic,
    Call,
    Compare,
    CompareOp,
    IfElse,
    In,
    Literals,
    Name,
    Negative,
    Not,
    Number,
    Or,
    String,
    Tree,
)
from decision_service.core.expressions.vector_functions import VECTOR_FUNCTIONS, finite
from decision_service.core.vocabulary import Kind, Layout

FEW: Final = 32  # up to so many values comparing with each beats sorting
NumberFunction = Callable[[Columns], Floats]
TextFunction = Callable[[Columns], Texts]
MaskFunction = Callable[[Columns], Mask]
ConditionFunction = Callable[[Columns], tuple[Mask, Mask]]

_COMPARE: Final[dict[CompareOp, Callable[[Any, Any], Any]]] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal,
}  # fmt: skip
_COMPLEMENT: Final[dict[CompareOp, CompareOp]] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class VectorCompiler:
    """Compiles trees over one layout. `named`: names to be found in `Columns.named` (dated constants)."""

    def __init__(self, layout: Layout, named: Collection[str] = ()) -> None:
        self._layout = layout
        self._named = frozenset(named)

    # --- values -------------------------------------------------------------------------------------------------

    def value_of(self, tree: Tree) -> NumberFunction:
        """A number: finite or NaN."""
        raw = self._raw(tree)
        if isinstance(tree, (Arithmetic, Negative)):
            return lambda columns: finite(raw(columns))
        return raw

    def _raw(self, tree: Tree) -> NumberFunction:
        """As `value_of`, but an overflow may still be an infinity."""
        match tree:
            case Number(value=value):
                return lambda columns: np.full(columns.count, value)
            case Name(spec=spec):
                return self._read(spec.name)
            case Negative(operand=operand):
                inner = self._raw(operand)
                return lambda columns: -inner(columns)
            case Arithmetic():
                return self._arithmetic(tree)
            case IfElse():
                return self._choice(tree)
            case Call(function=function, arguments=arguments):
                values = [self.value_of(argument) for argument in arguments]
                apply = VECTOR_FUNCTIONS[function]
                return lambda columns: apply(*(value(columns) for value in values))
        raise TypeError(f"a {type(tree).__name__} has no number")

    def _read(self, name: str) -> NumberFunction:
        if name in self._named:
            return lambda columns: columns.named[name]
        slot = self._layout.numbers[name]
        return lambda columns: columns.numbers[slot]

    def _arithmetic(self, tree: Arithmetic) -> NumberFunction:
        left = self._raw(tree.left)
        if tree.op == "/":
            right = self.value_of(tree.right)

            def quotient(columns: Columns) -> Floats:
                bottom = right(columns)
                return left(columns) / np.where(bottom == 0, np.nan, bottom)

            return quotient
        apply = {"+": np.add, "-": np.subtract, "*": np.multiply}[tree.op]
        other = self._raw(tree.right)
        return lambda columns: cast(Floats, apply(left(columns), other(columns)))

    def _choice(self, tree: IfElse) -> NumberFunction:
        condition = self.condition(tree.condition)
        then, otherwise = self.value_of(tree.then), self.value_of(tree.otherwise)

        def choose(columns: Columns) -> Floats:
            true, false = condition(columns)
            return np.where(true, then(columns), np.where(false, otherwise(columns), np.nan))

        return choose

    def text_of(self, tree: Tree) -> TextFunction:
        """A text or null."""
        match tree:
            case String(value=value):
                return lambda columns: Texts(np.zeros(columns.count, np.int32), (value,))
            case Name(spec=spec):
                slot = self._layout.strings[spec.name]
                return lambda columns: columns.strings[slot]
            case IfElse():
                return self._text_choice(tree)
            case Call(function="coalesce", arguments=arguments):
                return self._text_coalesce([self.text_of(argument) for argument in arguments])
        raise TypeError(f"a {type(tree).__name__} has no text")

    def _text_choice(self, tree: IfElse) -> TextFunction:
        condition = self.condition(tree.condition)
        then, otherwise = self.text_of(tree.then), self.text_of(tree.otherwise)

        def choose(columns: Columns) -> Texts:
            true, false = condition(columns)
            return blank(chosen(true, then(columns), otherwise(columns)), true | false)

        return choose

    @staticmethod
    def _text_coalesce(texts: Sequence[TextFunction]) -> TextFunction:
        def first_known(columns: Columns) -> Texts:
            return reduce(lambda a, b: chosen(a.codes >= 0, a, b), (text(columns) for text in texts))

        return first_known

    # --- conditions ---------------------------------------------------------------------------------------------

    def condition(self, tree: Tree) -> ConditionFunction:
        """Definitely true and definitely false."""
        true, false = self.true_of(tree), self.false_of(tree)
        return lambda columns: (true(columns), false(columns))

    def true_of(self, tree: Tree) -> MaskFunction:
        """Where a condition is definitely true."""
        match tree:
            case Not(operand=operand):
                return self.false_of(operand)
            case And(operands=operands):
                return _combined(np.logical_and, [self.true_of(operand) for operand in operands])
            case Or(operands=operands):
                return _combined(np.logical_or, [self.true_of(operand) for operand in operands])
            case Compare():
                return self._compare(tree, true=True)
            case In():
                return self._member(tree, inside=True)
            case Call(function="is_null", arguments=(argument,)):
                return self._known(argument, known=False)
            case Call(function="at_least", arguments=arguments):
                least = int(cast(Number, arguments[0]).value)
                return _counted([self.true_of(condition) for condition in arguments[1:]], least)
        value = self.value_of(tree)
        return lambda columns: value(columns) == 1.0

    def false_of(self, tree: Tree) -> MaskFunction:
        """Where a condition is definitely false."""
        match tree:
            case Not(operand=operand):
                return self.true_of(operand)
            case And(operands=operands):
                return _combined(np.logical_or, [self.false_of(operand) for operand in operands])
            case Or(operands=operands):
                return _combined(np.logical_and, [self.false_of(operand) for operand in operands])
            case Compare():
                return self._compare(tree, true=False)
            case In():
                return self._member(tree, inside=False)
            case Call(function="is_null", arguments=(argument,)):
                return self._known(argument, known=True)
            case Call(function="at_least", arguments=arguments):
                possible = len(arguments) - 1
                too_many = possible - int(cast(Number, arguments[0]).value) + 1
                return _counted([self.false_of(condition) for condition in arguments[1:]], too_many)
        value = self.value_of(tree)
        return lambda columns: value(columns) == 0.0

    def _compare(self, tree: Compare, *, true: bool) -> MaskFunction:
        if tree.left.kind is Kind.STRING:
            return self._compare_texts(tree, true=true)
        left, right = self.value_of(tree.left), self.value_of(tree.right)
        if tree.op == "==" and not true:
            return lambda columns: _differ(left(columns), right(columns))
        apply = _COMPARE[tree.op if true else _COMPLEMENT[tree.op]]
        if isinstance(tree.right, Number):  # the commonest leaf: no column of equal numbers
            limit = tree.right.value
            return lambda columns: cast(Mask, apply(left(columns), limit))
        return lambda columns: cast(Mask, apply(left(columns), right(columns)))

    def _compare_texts(self, tree: Compare, *, true: bool) -> MaskFunction:
        left, right = self.text_of(tree.left), self.text_of(tree.right)

        def compare(columns: Columns) -> Mask:
            codes, others, _ = joined(left(columns), right(columns))
            known = (codes >= 0) & (others >= 0)
            return cast(Mask, known & (codes == others if true else codes != others))

        return compare

    def _member(self, tree: In, *, inside: bool) -> MaskFunction:
        if tree.item.kind is Kind.STRING:
            return self._text_member(tree, inside=inside)
        value = self.value_of(tree.item)
        assert isinstance(tree.container, Literals), "a named list holds texts"
        wanted = [float(v) for v in tree.container.values]

        def member(columns: Columns) -> Mask:
            x = value(columns)
            found = np.isin(x, wanted) if len(wanted) > FEW else reduce(np.logical_or, (x == one for one in wanted))
            return found if inside else ~found & (x == x)

        return member

    def _text_member(self, tree: In, *, inside: bool) -> MaskFunction:
        text, container = self.text_of(tree.item), tree.container

        def member(columns: Columns) -> Mask:
            if isinstance(container, Literals):
                wanted = frozenset(str(value) for value in container.values)
            else:
                wanted = columns.lists.get(container.spec.name, frozenset())
            texts = text(columns)
            found = texts.among(wanted)
            return found if inside else ~found & (texts.codes >= 0)

        return member

    def _known(self, argument: Tree, *, known: bool) -> MaskFunction:
        if argument.kind is Kind.STRING:
            text = self.text_of(argument)
            return lambda columns: cast(Mask, (text(columns).codes >= 0) == known)
        value = self.value_of(argument)

        def number_known(columns: Columns) -> Mask:
            x = value(columns)
            return cast(Mask, x == x if known else x != x)

        return number_known


def _differ(left: Floats, right: Floats) -> Mask:
    return (left < right) | (left > right)


def _combined(apply: Callable[[Mask, Mask], Mask], masks: Sequence[MaskFunction]) -> MaskFunction:
    return lambda columns: reduce(apply, (mask(columns) for mask in masks))


def _counted(masks: Sequence[MaskFunction], least: int) -> MaskFunction:
    def reached(columns: Columns) -> Mask:
        total = np.zeros(columns.count, np.int64)
        for mask in masks:
            total += mask(columns)
        return total >= least

    return reached


def quietly(function: Callable[[Columns], Any], columns: Columns) -> Any:
    """Run a compiled function: what overflows or has no value is null here, and no reason for a warning."""
    with np.errstate(all="ignore"):
        return function(columns)

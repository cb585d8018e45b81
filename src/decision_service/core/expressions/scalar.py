"""The scalar back end: one decision's values in, one value out, as fast as Python gets.

Trees become Python `ast` nodes (never source text, so nothing in a policy can become code), compiled once.
Generated code reads numbers as `v[i]` (floats, NaN is null), strings as `s[j]` (None is null) and named lists
as `lists.get(name)`; a list nobody filled is empty.

A condition compiles to two expressions that are plain Python booleans: `true_of` (definitely true) and
`false_of` (definitely false); neither means unknown. Comparisons are not swaps of each other: NaN makes `a <
b` and `a >= b` both false, and that is exactly the three-valued logic wanted, free of charge.

A number that overflows is null. The check stands only where an infinity could be seen: `+ - *` pass it on (as
an infinity or as NaN) up to the root of the sum, and a quotient passes on what its numerator does. `_raw` may
yield an infinity, `value_of` never does.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from decision_service.core.expressions.functions import EXP_MAX
from decision_service.core.expressions.python_code import (
    LINE,
    all_of,
    any_of,
    call,
    compare,
    constant,
    if_else,
    item,
    load,
    python_function,
)
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
from decision_service.core.vocabulary import Kind, Layout, NameSpec

Strings = Sequence[str | None]
Lists = Mapping[str, frozenset[str]]
ValueFunction = Callable[[Sequence[float], Strings, Lists], float | str | None]
ConditionFunction = Callable[[Sequence[float], Strings, Lists], bool | None]

_NAN: Final = math.nan
_INFINITY: Final = math.inf
_NO_VALUES: Final[frozenset[str]] = frozenset()
_COMPARE: Final[dict[CompareOp, type[ast.cmpop]]] = {
    "<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE, "==": ast.Eq,
}  # fmt: skip
_COMPLEMENT: Final[dict[CompareOp, CompareOp]] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_EXTREMES: Final[dict[str, tuple[type[ast.cmpop], type[ast.cmpop]]]] = {
    "max": (ast.GtE, ast.Gt), "min": (ast.LtE, ast.Lt),
}  # fmt: skip
_PAIR: Final = 2
_WRITTEN_OUT_MAX: Final = 8  # arguments of `coalesce`: each nests the code one deeper
_ARITHMETIC: Final[dict[str, type[ast.operator]]] = {"+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div}


# --- the functions of the language on floats; NaN in, NaN out
# ------------------------------------------------------


def _finite(value: float) -> float:
    return value if -_INFINITY < value < _INFINITY else _NAN


def _min(*values: float) -> float:
    return min(values) if all(x == x for x in values) else _NAN


def _max(*values: float) -> float:
    return max(values) if all(x == x for x in values) else _NAN


def _sum(*values: float) -> float:
    total = 0.0
    for value in values:
        total += value
    return _finite(total)


def _mean(*values: float) -> float:
    return _sum(*values) / len(values)


def _clip(x: float, low: float, high: float) -> float:
    return min(max(x, low), high) if x == x and low == low and high == high else _NAN


def _round(x: float) -> float:
    return float(round(x)) if x == x else _NAN


def _floor(x: float) -> float:
    return float(math.floor(x)) if x == x else _NAN


def _ceil(x: float) -> float:
    return float(math.ceil(x)) if x == x else _NAN


def _sqrt(x: float) -> float:
    return math.sqrt(x) if x >= 0 else _NAN


def _log(x: float) -> float:
    return math.log(x) if x > 0 else _NAN


def _exp(x: float) -> float:
    return math.exp(x) if x < EXP_MAX else _NAN


def _coalesce(*values: float) -> float:
    return next((x for x in values if x == x), _NAN)


def _coalesce_strings(*values: str | None) -> str | None:
    return next((x for x in values if x is not None), None)


NAMESPACE: Final[dict[str, object]] = {
    "__builtins__": {}, "NAN": _NAN, "INF": _INFINITY, "NEG_INF": -_INFINITY, "NO_VALUES": _NO_VALUES,
    "f_min": _min, "f_max": _max, "f_sum": _sum, "f_mean": _mean, "f_clip": _clip, "f_abs": abs,
    "f_round": _round, "f_floor": _floor, "f_ceil": _ceil, "f_sqrt": _sqrt, "f_log": _log, "f_exp": _exp,
    "f_coalesce": _coalesce, "f_coalesce_strings": _coalesce_strings,
}  # fmt: skip


def read_item(name: NameSpec, layout: Layout) -> ast.expr:
    """The value of a name: `v[i]` or `s[j]`."""
    if name.kind is Kind.STRING:
        return item("s", layout.strings[name.name])
    return item("v", layout.numbers[name.name])


class ScalarCompiler:
    """Compiles trees over one layout. `local_names`: names held in a local variable instead (dated constants)."""

    def __init__(self, layout: Layout, local_names: Mapping[str, str] | None = None) -> None:
        self._layout = layout
        self._local_names = local_names or {}
        self._temporaries = 0
        self.namespace: dict[str, object] = dict(NAMESPACE)

    def keep(self, value: object) -> ast.expr:
        """A global of the generated code that holds `value`."""
        name = f"k{len(self.namespace)}"
        self.namespace[name] = value
        return load(name)

    def _bind(self, value: ast.expr) -> tuple[ast.expr, ast.expr]:
        """`(t := value, t)`: the first use of a value and every further one."""
        if isinstance(value, (ast.Constant, ast.Name)) or _is_read(value):
            return value, value
        self._temporaries += 1
        name = f"t{self._temporaries}"
        return ast.NamedExpr(ast.Name(name, ast.Store(), **LINE), value, **LINE), load(name)

    # --- values
    # -----------------------------------------------------------------------------------------------

    def value_of(self, tree: Tree) -> ast.expr:
        """The value of a number or string: a finite float or NaN, a str or None."""
        if isinstance(tree, (Arithmetic, Negative)):
            return self._checked(self._raw(tree))
        return self._raw(tree)

    def _checked(self, value: ast.expr) -> ast.expr:
        first, again = self._bind(value)
        inside = ast.Compare(load("NEG_INF"), [ast.Lt(), ast.Lt()], [first, load("INF")], **LINE)
        return if_else(inside, again, load("NAN"))

    def _raw(self, tree: Tree) -> ast.expr:
        match tree:
            case Number() | String():
                return constant(tree.value)
            case Name():
                return self._read(tree)
            case Negative():
                return ast.UnaryOp(ast.USub(), self._raw(tree.operand), **LINE)
            case Arithmetic(op="/"):
                return self._quotient(tree)
            case Arithmetic():
                operator = _ARITHMETIC[tree.op]()
                return ast.BinOp(self._raw(tree.left), operator, self._raw(tree.right), **LINE)
            case IfElse():
                return self._choice(tree)
            case Call():
                return self._called(tree)
        raise TypeError(f"a {type(tree).__name__} has no value")

    def _read(self, name: Name) -> ast.expr:
        local = self._local_names.get(name.spec.name)
        return read_item(name.spec, self._layout) if local is None else load(local)

    def _quotient(self, tree: Arithmetic) -> ast.expr:
        first, again = self._bind(self.value_of(tree.right))
        quotient = ast.BinOp(self._raw(tree.left), ast.Div(), again, **LINE)
        return quotient if isinstance(again, ast.Constant) else if_else(first, quotient, load("NAN"))

    def _choice(self, tree: IfElse) -> ast.expr:
        null = constant(None) if tree.kind is Kind.STRING else load("NAN")
        otherwise = if_else(self.false_of(tree.condition), self.value_of(tree.otherwise), null)
        return if_else(self.true_of(tree.condition), self.value_of(tree.then), otherwise)

    def _called(self, tree: Call) -> ast.expr:
        suffix = "_strings" if tree.kind is Kind.STRING else ""
        arguments = [self.value_of(argument) for argument in tree.arguments]
        literal = isinstance(arguments[0], ast.Constant)  # none has checked `/ coalesce(0, a)` as it has `/ 0`
        if tree.function == "coalesce" and len(arguments) <= _WRITTEN_OUT_MAX and not literal:
            return self._first_known(arguments, tree.kind)
        if tree.function in _EXTREMES and len(arguments) == _PAIR:
            return self._extreme(*_EXTREMES[tree.function], *arguments)
        return call(load(f"f_{tree.function}{suffix}"), *arguments)

    def _first_known(self, arguments: Sequence[ast.expr], kind: Kind) -> ast.expr:
        """`a if a == a else b`, and so on, written out: a call takes ten times as long as most of what a rule does."""
        chosen = arguments[-1]
        for argument in reversed(arguments[:-1]):
            if isinstance(argument, ast.Constant):
                chosen = argument
                continue
            first, again = self._bind(argument)
            known = compare(first, ast.IsNot, constant(None)) if kind is Kind.STRING else compare(first, ast.Eq, again)
            chosen = if_else(known, again, chosen)
        return chosen

    def _extreme(self, kept: type[ast.cmpop], other: type[ast.cmpop], left: ast.expr, right: ast.expr) -> ast.expr:
        """`a if a >= b else b if b > a else NAN`, for `max`: with a null neither comparison holds."""
        (a, a_again), (b, b_again) = self._bind(left), self._bind(right)
        otherwise = if_else(compare(b_again, other, a_again), b_again, load("NAN"))
        return if_else(compare(a, kept, b), a_again, otherwise)

    # --- conditions
    # -------------------------------------------------------------------------------------------

    def true_of(self, tree: Tree) -> ast.expr:
        """Whether a condition is definitely true."""
        match tree:
            case Not():
                return self.false_of(tree.operand)
            case And():
                return all_of([self.true_of(operand) for operand in tree.operands])
            case Or():
                return any_of([self.true_of(operand) for operand in tree.operands])
            case Compare():
                return self._compare_true(tree)
            case In():
                return compare(self.value_of(tree.item), ast.In, self._container(tree))
            case Call(function="is_null"):
                return self._is_null(tree.arguments[0], null=True)
            case Call(function="at_least"):
                return compare(self._count([self.true_of(c) for c in tree.arguments[1:]]), ast.GtE, self._k(tree))
        return compare(self.value_of(tree), ast.Eq, constant(1.0))

    def false_of(self, tree: Tree) -> ast.expr:
        """Whether a condition is definitely false."""
        match tree:
            case Not():
                return self.true_of(tree.operand)
            case And():
                return any_of([self.false_of(operand) for operand in tree.operands])
            case Or():
                return all_of([self.false_of(operand) for operand in tree.operands])
            case Compare():
                return self._compare_false(tree)
            case In():
                return self._outside(tree)
            case Call(function="is_null"):
                return self._is_null(tree.arguments[0], null=False)
            case Call(function="at_least"):
                possible = len(tree.arguments) - 1
                falses = self._count([self.false_of(c) for c in tree.arguments[1:]])
                k = tree.arguments[0]
                assert isinstance(k, Number), "the checker lets only a literal count through"
                return compare(falses, ast.Gt, constant(possible - int(k.value)))
        return compare(self.value_of(tree), ast.Eq, constant(0.0))

    def _compare_true(self, tree: Compare) -> ast.expr:
        left, right = self.value_of(tree.left), self.value_of(tree.right)
        if tree.left.kind is not Kind.STRING or isinstance(tree.left, String) or isinstance(tree.right, String):
            return compare(left, _COMPARE[tree.op], right)
        first, again = self._bind(left)
        return all_of([compare(first, ast.IsNot, constant(None)), compare(again, ast.Eq, right)])

    def _compare_false(self, tree: Compare) -> ast.expr:
        left, right = self.value_of(tree.left), self.value_of(tree.right)
        if tree.op != "==":
            return compare(left, _COMPARE[_COMPLEMENT[tree.op]], right)
        (a, a_again), (b, b_again) = self._bind(left), self._bind(right)
        if tree.left.kind is not Kind.STRING:
            return any_of([compare(a, ast.Lt, b), compare(a_again, ast.Gt, b_again)])
        both = [
            compare(first, ast.IsNot, constant(None))
            for first, side in ((a, tree.left), (b, tree.right))
            if not isinstance(side, String)
        ]
        return all_of([*both, compare(a_again, ast.NotEq, b_again)])

    def _container(self, tree: In) -> ast.expr:
        if isinstance(tree.container, Literals):
            return self.keep(frozenset(tree.container.values))
        get = ast.Attribute(load("lists"), "get", ast.Load(), **LINE)
        return call(get, constant(tree.container.spec.name), load("NO_VALUES"))

    def _outside(self, tree: In) -> ast.expr:
        first, again = self._bind(self.value_of(tree.item))
        outside = compare(again, ast.NotIn, self._container(tree))
        if isinstance(tree.item, String):  # Python warns of `"x" is not None`
            return outside
        if tree.item.kind is Kind.STRING:
            return all_of([compare(first, ast.IsNot, constant(None)), outside])
        return all_of([compare(first, ast.Eq, again), outside])

    def _is_null(self, argument: Tree, null: bool) -> ast.expr:
        if isinstance(argument, (String, Number)):
            return constant(not null)
        first, again = self._bind(self.value_of(argument))
        if argument.kind is Kind.STRING:
            return compare(first, ast.Is if null else ast.IsNot, constant(None))
        return compare(first, ast.NotEq if null else ast.Eq, again)

    def _count(self, conditions: list[ast.expr]) -> ast.expr:
        total = conditions[0]
        for condition in conditions[1:]:
            total = ast.BinOp(total, ast.Add(), condition, **LINE)
        return total

    def _k(self, tree: Call) -> ast.expr:
        return self.value_of(tree.arguments[0])


def _is_read(value: ast.expr) -> bool:
    return isinstance(value, ast.Subscript)


def _returning(body: ast.expr, namespace: dict[str, object]) -> Callable[..., Any]:
    return python_function(("v", "s", "lists"), [ast.Return(body, **LINE)], namespace)


def compile_value(tree: Tree, layout: Layout) -> ValueFunction:
    """`f(numbers, strings, lists)`: the value of a number or string tree; NaN or None is null."""
    compiler = ScalarCompiler(layout)
    return _returning(compiler.value_of(tree), compiler.namespace)


def compile_condition(tree: Tree, layout: Layout) -> ConditionFunction:
    """`f(numbers, strings, lists)`: True, False, or None for unknown."""
    compiler = ScalarCompiler(layout)
    otherwise = if_else(compiler.false_of(tree), constant(False), constant(None))
    body = if_else(compiler.true_of(tree), constant(True), otherwise)
    return _returning(body, compiler.namespace)

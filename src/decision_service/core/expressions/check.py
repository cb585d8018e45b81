"""The whitelist walk over Python's tree: names are looked up, types checked, and our typed tree comes out.

Named constants and arithmetic on literals are folded; chains, `!=` and `not in` are desugared as `tree.py` says. Every
independent mistake of an expression is reported. What the walk does not know is refused.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from typing import Final

from decision_service.core.expressions.functions import FUNCTIONS, Function
from decision_service.core.expressions.tree import (
    And,
    Arithmetic,
    ArithmeticOp,
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
from decision_service.core.expressions.units import unit_of
from decision_service.core.source import Findings, Place, nearest_name
from decision_service.core.vocabulary import Kind, NameSpec, Vocabulary

_ARITHMETIC: Final[dict[type[ast.operator], ArithmeticOp]] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/",
}  # fmt: skip
_COMPARE: Final[dict[type[ast.cmpop], CompareOp]] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "==",
}  # fmt: skip
NUMERIC: Final = (Kind.NUMBER, Kind.FLAG)
CONDITION: Final = (Kind.BOOLEAN, Kind.FLAG)
SAYS: Final = {
    Kind.NUMBER: "a number", Kind.FLAG: "a flag", Kind.STRING: "a string", Kind.LIST: "a list",
    Kind.BOOLEAN: "a condition",
}  # fmt: skip


class Checker:
    """The whitelist walk. Each method returns None when it (or something below) recorded an error."""

    def __init__(self, text: str, place: Place, vocabulary: Vocabulary, findings: Findings) -> None:
        self._bytes = b"" if text.isascii() else text.encode()
        self._place = place
        self._vocabulary = vocabulary
        self._findings = findings

    def tree(self, node: ast.expr) -> Tree | None:
        """The typed tree of one Python node."""
        match node:
            case ast.Constant():
                return self._literal(node)
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.BoolOp():
                return self._bool_op(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self._arithmetic(node)
            case ast.Compare():
                return self._comparisons(node)
            case ast.IfExp():
                return self._if_else(node)
            case ast.Call():
                return self._call(node)
            case ast.Tuple():
                return self._error(node, "a list stands in square brackets", "[...]")
            case ast.List():
                return self._error(node, "a list stands only on the right of `in`")
        return self._error(node, "this is not part of the language")

    # --- places
    # -----------------------------------------------------------------------------------------------

    def _at(self, node: ast.expr) -> Place:
        if not self._bytes:  # Python counts columns in bytes
            return self._place.moved(node.col_offset)
        return self._place.moved(len(self._bytes[: node.col_offset].decode(errors="replace")))

    def _error(self, node: ast.expr, message: str, expected: str = "", nearest: str = "") -> Tree | None:
        """Record an error; the None makes `return self._error(...)` read as what it is."""
        length = (node.end_col_offset or node.col_offset + 1) - node.col_offset
        self._findings.error(self._at(node), message, expected=expected, nearest=nearest, length=length)
        return None

    def _typed(self, node: ast.expr, kinds: tuple[Kind, ...], expected: str) -> Tree | None:
        """The tree below `node`, which must be of one of `kinds`."""
        tree = self.tree(node)
        if tree is not None and tree.kind not in kinds:
            return self._error(node, f"this is {SAYS[tree.kind]}", expected)
        return tree

    def _number(self, node: ast.expr) -> Tree | None:
        return self._typed(node, NUMERIC, "a number")

    def _condition(self, node: ast.expr) -> Tree | None:
        return self._typed(node, CONDITION, "a condition, such as a comparison or a flag")

    # --- leaves
    # -----------------------------------------------------------------------------------------------

    def _literal(self, node: ast.Constant) -> Tree | None:
        if isinstance(node.value, str):
            return String(node.value, self._at(node))
        if isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
            try:
                value = float(node.value)
            except OverflowError:
                value = math.inf
            return Number(value, self._at(node)) if math.isfinite(value) else self._error(node, "too large a number")
        return self._error(node, "this is not part of the language")

    def _name(self, node: ast.Name | ast.Attribute) -> Tree | None:
        dotted = _dotted(node)
        spec = self._vocabulary.get(dotted) if dotted is not None else None
        if spec is not None:
            return self._constant(spec, self._at(node)) if spec.constant is not None else Name(spec, self._at(node))
        if dotted is None:
            return self._error(node, "only declared names may have a dot", "a name such as `facility.limit`")
        if dotted in FUNCTIONS:
            return self._error(node, f"`{dotted}` is a function", FUNCTIONS[dotted].signature)
        nearest = nearest_name(dotted, self._vocabulary)
        expected = "" if nearest else _declared_where(dotted)
        return self._error(node, f"unknown name `{dotted}`", expected, nearest)

    def _constant(self, spec: NameSpec, place: Place) -> Tree:
        value = spec.constant
        if isinstance(value, tuple):
            return Literals(value, place, unit=spec.unit)
        if isinstance(value, str):
            return String(value, place)
        return Number(float(value or 0.0), place, unit=spec.unit)

    # --- operators
    # --------------------------------------------------------------------------------------------

    def _bool_op(self, node: ast.BoolOp) -> Tree | None:
        operands = [tree for tree in [self._condition(value) for value in node.values] if tree is not None]
        if len(operands) < len(node.values):
            return None
        return (And if isinstance(node.op, ast.And) else Or)(tuple(operands), operands[0].place)

    def _unary(self, node: ast.UnaryOp) -> Tree | None:
        if isinstance(node.op, ast.Not):
            operand = self._condition(node.operand)
            return None if operand is None else Not(operand, self._at(node))
        if not isinstance(node.op, ast.USub):
            return self._error(node, "a sign `+` does nothing here")
        operand = self._number(node.operand)
        if isinstance(operand, Number):
            return Number(-operand.value, self._at(node), unit=operand.unit)
        return None if operand is None else Negative(operand, self._at(node))

    def _arithmetic(self, node: ast.BinOp) -> Tree | None:
        op = _ARITHMETIC.get(type(node.op))
        left, right = self._number(node.left), self._number(node.right)
        if op is None:
            return self._error(node, "an operator that is not part of the language", "`+`, `-`, `*` or `/`")
        if left is None or right is None:
            return None
        if isinstance(right, Number) and op == "/" and right.value == 0:
            return self._error(node.right, "a division by zero is always null", "a divisor other than zero")
        if isinstance(left, Number) and isinstance(right, Number):
            return self._folded(node, op, left, right)
        return Arithmetic(op, left, right, left.place)

    def _folded(self, node: ast.BinOp, op: ArithmeticOp, left: Number, right: Number) -> Tree | None:
        a, b = left.value, right.value
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a / (b or 1.0)}[op]
        if not math.isfinite(value):
            return self._error(node, "too large a number")
        unit = unit_of(Arithmetic(op, left, right, left.place))
        return Number(value, self._at(node), unit=unit)

    def _comparisons(self, node: ast.Compare) -> Tree | None:
        operands = [node.left, *node.comparators]
        links = [self._link(op, a, b) for op, a, b in zip(node.ops, operands, operands[1:], strict=False)]
        sound = [link for link in links if link is not None]
        if len(sound) < len(links):
            return None
        if len(sound) > 1 and any(isinstance(op, (ast.In, ast.NotIn)) for op in node.ops):
            return self._error(node, "`in` cannot be part of a chain", "`and` between the two")
        return sound[0] if len(sound) == 1 else And(tuple(sound), sound[0].place)

    def _link(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> Tree | None:
        if isinstance(op, (ast.In, ast.NotIn)):
            inside = self._inside(left, right)
            return Not(inside, inside.place) if inside is not None and isinstance(op, ast.NotIn) else inside
        compared = self._compared(op, left, right)
        return Not(compared, compared.place) if compared is not None and isinstance(op, ast.NotEq) else compared

    def _compared(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> Tree | None:
        symbol = _COMPARE.get(type(op))
        kinds = (*NUMERIC, Kind.STRING)
        a = self._typed(left, kinds, "a number or a string")
        b = self._typed(right, kinds, "a number or a string")
        if symbol is None or a is None or b is None:
            return None
        if (a.kind is Kind.STRING) != (b.kind is Kind.STRING):
            return self._error(right, f"{SAYS[b.kind]} is compared with {SAYS[a.kind]}", SAYS[a.kind])
        if a.kind is Kind.STRING and symbol != "==":
            return self._error(left, f"strings have no order, `{symbol}` needs numbers", "`==`, `!=` or `in`")
        return Compare(symbol, a, b, a.place)

    def _inside(self, left: ast.expr, right: ast.expr) -> Tree | None:
        item = self._typed(left, (*NUMERIC, Kind.STRING), "a number or a string")
        container = self._container(right)
        if item is None or container is None:
            return None
        holds_strings = isinstance(container, Name) or isinstance(container.values[0], str)
        if holds_strings != (item.kind is Kind.STRING):
            holds = "strings" if holds_strings else "numbers"
            return self._error(left, f"{SAYS[item.kind]} is looked up in a list of {holds}")
        return In(item, container, item.place)

    def _container(self, node: ast.expr) -> Literals | Name | None:
        if isinstance(node, ast.List):
            return self._literals(node)
        tree = self.tree(node)
        if tree is None or isinstance(tree, Literals) or (isinstance(tree, Name) and tree.kind is Kind.LIST):
            return tree
        self._error(node, f"this is {SAYS[tree.kind]}", "a list such as [99, 199] or a list's name")
        return None

    def _literals(self, node: ast.List) -> Literals | None:
        items = [self.tree(element) for element in node.elts]
        values = tuple(item.value for item in items if isinstance(item, (Number, String)))
        if None in items:
            return None
        if len(values) < len(items) or not values or len({type(value) for value in values}) > 1:
            self._error(node, "not a list of literals", "numbers only or strings only, at least one")
            return None
        return Literals(values, self._at(node))

    def _if_else(self, node: ast.IfExp) -> Tree | None:
        condition = self._condition(node.test)
        kinds = (*NUMERIC, Kind.STRING)
        then = self._typed(node.body, kinds, "a number or a string")
        otherwise = self._typed(node.orelse, kinds, "a number or a string")
        if condition is None or then is None or otherwise is None:
            return None
        kind = _common_kind((then, otherwise))
        if kind is None:
            return self._error(node, "the two branches differ in type", "two numbers or two strings")
        return IfElse(condition, then, otherwise, self._at(node), kind)

    # --- functions
    # --------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Tree | None:
        name = _dotted(node.func)
        function = FUNCTIONS.get(name or "")
        if function is None:
            known = nearest_name(name or "", FUNCTIONS)
            return self._error(node.func, f"unknown function `{name}`", f"one of {', '.join(FUNCTIONS)}", known)
        if node.keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            return self._error(node, "arguments are given by position", function.signature)
        count = len(node.args)
        if count < function.count_min or (function.count_max is not None and count > function.count_max):
            return self._error(node, f"`{name}` does not take {count} arguments", function.signature)
        arguments = list(self._arguments(function, node))
        sound = tuple(argument for argument in arguments if argument is not None)
        return None if len(sound) < count else self._called(function, sound, node)

    def _arguments(self, function: Function, node: ast.Call) -> Iterator[Tree | None]:
        kinds = NUMERIC if function.takes == "numbers" else (*NUMERIC, Kind.STRING)
        for position, argument in enumerate(node.args):
            if function.takes == "conditions":
                yield self._condition(argument) if position else self._number(argument)
            else:
                yield self._typed(argument, kinds, function.signature)

    def _called(self, function: Function, arguments: tuple[Tree, ...], node: ast.Call) -> Tree | None:
        if function.takes == "conditions" and not _whole_between(arguments[0], 1, len(arguments) - 1):
            return self._error(
                node.args[0], "not a number of conditions", f"a whole number from 1 to {len(arguments) - 1}"
            )
        if function.gives == "condition":
            return Call(function.name, arguments, self._at(node), Kind.BOOLEAN)
        kind = Kind.NUMBER if function.gives == "number" else _common_kind(arguments)
        if kind is None:
            return self._error(node, "the arguments differ in type", "all numbers or all strings")
        return Call(function.name, arguments, self._at(node), kind)


def _dotted(node: ast.expr) -> str | None:
    """`a.b.c` of a chain of attributes on a name, else None."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def _declared_where(name: str) -> str:
    """What an unknown name that resembles none may have wanted to be."""
    owner, _, part = name.rpartition(".")
    if owner and part in ("grade", "points", "pd"):
        return f"a scorecard `{owner}` in the models directory, or a points scorecard of this id in this rule set"
    return f'a name that is declared; text stands in quotes: "{name}"'


def _whole_between(tree: Tree, low: int, high: int) -> bool:
    return isinstance(tree, Number) and tree.value in range(low, high + 1)


def _common_kind(trees: tuple[Tree, ...]) -> Kind | None:
    """STRING if all are strings, NUMBER if all are numbers; FLAG if they are flags, or flags and literal 0 or 1."""
    kinds = {tree.kind for tree in trees}
    if kinds == {Kind.STRING}:
        return Kind.STRING
    if Kind.STRING in kinds:
        return None
    flags = all(tree.kind is Kind.FLAG or _whole_between(tree, 0, 1) for tree in trees)
    return Kind.FLAG if flags and Kind.FLAG in kinds else Kind.NUMBER

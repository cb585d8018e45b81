"""The register file of a plan while it is being built, and formulas compiled onto it.

    0 .. inputs-1                 inputs, as in the decision's vector of numbers
    inputs .. inputs+outputs-1    features in slot order
    then                          hidden results and temporaries, as they come, then constants

Constants are numbered from the end of a provisional space and moved behind the temporaries by `finished`.
Equal subexpressions are computed once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from decision_service.core.expressions.tree import (
    And,
    Arithmetic,
    Call,
    Compare,
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
from decision_service.core.features import opcodes as o
from decision_service.core.features.event_names import TEXTS, Text

Instruction = tuple[int, int, int, int, int, int]

_ARITHMETIC: Final = {"+": o.S_ADD, "-": o.S_SUB, "*": o.S_MUL, "/": o.S_DIV}
_UNARY: Final = {
    "abs": o.S_ABS, "round": o.S_ROUND, "floor": o.S_FLOOR, "ceil": o.S_CEIL, "sqrt": o.S_SQRT, "log": o.S_LOG,
    "exp": o.S_EXP, "is_null": o.S_IS_NULL,
}  # fmt: skip
_CHAIN: Final = {"min": o.S_MIN, "max": o.S_MAX, "sum": o.S_ADD, "coalesce": o.S_COALESCE}
_REQUEST_TEXTS: Final = {text.request_name: text for text in TEXTS.values() if text.request_name}


class Unsupported(Exception):
    """A piece of an expression that features cannot compute; the message says which."""


def fingerprint(tree: Tree) -> object:
    """A hashable description of a tree without its places."""
    match tree:
        case Number(value=value):
            return ("number", value)
        case String(value=value):
            return ("string", value)
        case Name(spec=spec):
            return ("name", spec.name)
        case Literals(values=values):
            return ("list", values)
        case Negative(operand=operand):
            return ("negative", fingerprint(operand))
        case Not(operand=operand):
            return ("not", fingerprint(operand))
        case Arithmetic(op=op, left=left, right=right) | Compare(op=op, left=left, right=right):
            return (op, fingerprint(left), fingerprint(right))
        case And(operands=operands):
            return ("and", *map(fingerprint, operands))
        case Or(operands=operands):
            return ("or", *map(fingerprint, operands))
        case IfElse(condition=condition, then=then, otherwise=otherwise):
            return ("if", fingerprint(condition), fingerprint(then), fingerprint(otherwise))
        case In(item=item, container=container):
            return ("in", fingerprint(item), fingerprint(container))
        case Call(function=function, arguments=arguments):
            return (function, *map(fingerprint, arguments))


class Registers:
    """Hands out registers and collects the instructions of one section at a time."""

    def __init__(self, inputs: Mapping[str, int], first_slot: int, slots: Mapping[str, int]) -> None:
        self._named = {**inputs, **slots}
        self._next = self._first_temporary = first_slot + len(slots)
        self._constants: dict[object, int] = {}
        self._values: list[float] = []
        self._memory: dict[object, int] = {}
        self.instructions: list[Instruction] = []

    def section(self) -> list[Instruction]:
        """The instructions so far; a new section starts, in which nothing is shared with the old one."""
        done, self.instructions, self._memory = self.instructions, [], {}
        return done

    def temporary(self, count: int = 1) -> int:
        """The first of `count` consecutive fresh registers."""
        start = self._next
        self._next += count
        return start

    def constant(self, value: float) -> int:
        """A register (negative until `finished`) that always holds `value`."""
        return self.constants(value)

    def constants(self, *values: float) -> int:
        """Consecutive constant registers; the first one."""
        key = tuple("null" if math.isnan(value) else value.hex() for value in map(float, values))
        if key not in self._constants:
            self._constants[key] = -1 - len(self._values)
            self._values.extend(values)
        return self._constants[key]

    def resolved(self, register: int) -> int:
        """The final number of a register."""
        return register if register >= 0 else self._next + (-1 - register)

    def finished(self) -> npt.NDArray[np.float64]:
        """The register file with the constants in place."""
        file = np.full(self._next + len(self._values), np.nan)
        file[self._next :] = self._values
        return file

    def named(self, name: str) -> int:
        """The register of an input or a feature."""
        return self._named[name]

    def emit(self, op: int, dst: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
        """Append an instruction; its destination."""
        self.instructions.append((op, dst, a, b, c, d))
        return dst

    def settle(self, register: int, slot: int) -> None:
        """Put a value into its slot: the instruction that made it writes there if it was the last, else a copy."""
        last = self.instructions[-1] if self.instructions else None
        if last is None or last[1] != register or register < self._first_temporary:
            self.emit(o.S_MOVE, slot, register)
            return
        self.instructions[-1] = (last[0], slot, *last[2:])
        for key, held in self._memory.items():
            if held == register:
                self._memory[key] = slot

    def value(self, tree: Tree) -> int:
        """The register that holds a tree's value (a condition's is 1, 0 or null)."""
        key = fingerprint(tree)
        if key not in self._memory:
            self._memory[key] = self._compiled(tree)
        return self._memory[key]

    def _compiled(self, tree: Tree) -> int:
        match tree:
            case Number(value=value):
                return self.constant(value)
            case Name(spec=spec):
                return self._register_of(spec.name)
            case Negative(operand=operand):
                return self.emit(o.S_NEG, self.temporary(), self.value(operand))
            case Not(operand=operand):
                return self.emit(o.S_NOT, self.temporary(), self.value(operand))
            case Arithmetic(op=op, left=left, right=right):
                return self.emit(_ARITHMETIC[op], self.temporary(), self.value(left), self.value(right))
            case Compare():
                return self._compare(tree)
            case And(operands=operands):
                return self._chain(o.S_AND, operands)
            case Or(operands=operands):
                return self._chain(o.S_OR, operands)
            case IfElse(condition=condition, then=then, otherwise=otherwise):
                a, b, c = self.value(condition), self.value(then), self.value(otherwise)
                return self.emit(o.S_SELECT, self.temporary(), a, b, c)
            case In(item=item, container=Literals(values=values)):
                return self._member(item, values)
            case Call():
                return self._call(tree)
            case _:
                raise Unsupported("a feature cannot use this text or list")

    def _register_of(self, name: str) -> int:
        if name not in self._named:
            raise Unsupported(f"a feature cannot use `{name}`")
        return self._named[name]

    def _chain(self, op: int, trees: tuple[Tree, ...]) -> int:
        register = self.value(trees[0])
        for tree in trees[1:]:
            register = self.emit(op, self.temporary(), register, self.value(tree))
        return register

    def _compare(self, tree: Compare) -> int:
        if isinstance(tree.left, String) or isinstance(tree.right, String):
            name, text = (tree.right, tree.left) if isinstance(tree.left, String) else (tree.left, tree.right)
            assert isinstance(text, String)
            return self._text_equals(name, text.value)
        left, right = self.value(tree.left), self.value(tree.right)
        if tree.op in (">", ">="):
            left, right = right, left
        op = o.S_EQ if tree.op == "==" else o.S_LT if tree.op in ("<", ">") else o.S_LE
        return self.emit(op, self.temporary(), left, right)

    def _text_equals(self, tree: Tree, text: str) -> int:
        column = _REQUEST_TEXTS.get(tree.spec.name) if isinstance(tree, Name) else None
        if column is None:
            raise Unsupported("a feature can compare only the request's texts")
        return self.emit(o.S_ROW_EQ, self.temporary(), column.request_word, code_of(column, text))

    def _member(self, item: Tree, values: tuple[float | str, ...]) -> int:
        tests = [
            self._text_equals(item, value)
            if isinstance(value, str)
            else self.emit(o.S_EQ, self.temporary(), self.value(item), self.constant(value))
            for value in values
        ]
        register = tests[0] if tests else self.constant(0.0)
        for test in tests[1:]:
            register = self.emit(o.S_OR, self.temporary(), register, test)
        return register

    def _call(self, tree: Call) -> int:
        name, arguments = tree.function, tree.arguments
        if name in _UNARY:
            return self.emit(_UNARY[name], self.temporary(), self.value(arguments[0]))
        if name in _CHAIN:
            return self._chain(_CHAIN[name], arguments)
        if name == "mean":
            total = self._chain(o.S_ADD, arguments)
            return self.emit(o.S_DIV, self.temporary(), total, self.constant(float(len(arguments))))
        if name == "clip":
            low = self.emit(o.S_MAX, self.temporary(), self.value(arguments[0]), self.value(arguments[1]))
            return self.emit(o.S_MIN, self.temporary(), low, self.value(arguments[2]))
        if name == "at_least" and isinstance(arguments[0], Number):
            start = self.in_a_row([self.value(argument) for argument in arguments[1:]])
            return self.emit(o.S_AT_LEAST, self.temporary(), start, len(arguments) - 1, round(arguments[0].value))
        raise Unsupported(f"a feature cannot use `{name}`")

    def in_a_row(self, registers: list[int]) -> int:
        """Consecutive registers holding these values: theirs if they already are, else copies."""
        start = registers[0]
        if start >= 0 and registers == list(range(start, start + len(registers))):
            return start
        start = self.temporary(len(registers))
        for k, register in enumerate(registers):
            self.emit(o.S_MOVE, start + k, register)
        return start


def code_of(text: Text, literal: str) -> int:
    """The code or digest a literal has in the packed record; raises Unsupported for an unknown kind, status ..."""
    if text.known is not None:
        if literal not in text.known:
            raise Unsupported(f"`{literal}` is none of {', '.join(text.known)}")
        return text.known[literal]
    if text.code_of is None:
        raise Unsupported("a loan has no name to compare with; a row about the request's loan has `grain: loan`")
    return text.code_of(literal)

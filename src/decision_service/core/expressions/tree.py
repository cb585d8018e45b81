"""The typed tree of an expression: what every back end (scalar Python, kernel bytecode, vectors) compiles from.

Grammar (a subset of Python's; no attribute access beyond declared dotted names, no loops, no assignment):

    condition := or/and/not over comparisons, `x in list`, a FLAG name, or a function that yields a condition
    comparison:= value (< <= > >= == !=) value, chains allowed (`2 <= local_hour < 5`)
    value     := number | "string" | name | value (+ - * /) value | -value | f(value, ...)
               | value if condition else value

Null: a number is NaN, a string None. A condition is true, false or unknown (Kleene). `kind` of every node is settled
by the checker; `place` points at its first character. Chains and `!=` are desugared by the parser: `a < b < c` is
`And(Compare(a<b), Compare(b<c))`, `a != b` is `Not(Compare(a == b))`, `x not in l` is `Not(In(x, l))`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from decision_service.core.source import Place
from decision_service.core.vocabulary import Kind, NameSpec

CompareOp = Literal["<", "<=", ">", ">=", "=="]
ArithmeticOp = Literal["+", "-", "*", "/"]


@dataclass(frozen=True, slots=True)
class Number:
    """A literal, or a numeric constant already folded in, which may have a unit."""

    value: float
    place: Place
    kind: Kind = Kind.NUMBER
    unit: str = ""


@dataclass(frozen=True, slots=True)
class String:
    """A string literal or constant."""

    value: str
    place: Place
    kind: Kind = Kind.STRING


@dataclass(frozen=True, slots=True)
class Name:
    """A name that is not a constant (those are folded into literals by the checker)."""

    spec: NameSpec
    place: Place

    @property
    def kind(self) -> Kind:
        """The name's kind."""
        return self.spec.kind


@dataclass(frozen=True, slots=True)
class Literals:
    """A literal list on the right of `in`: all numbers or all strings."""

    values: tuple[float | str, ...]
    place: Place
    kind: Kind = Kind.LIST
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Negative:
    """`-x`."""

    operand: Tree
    place: Place
    kind: Kind = Kind.NUMBER


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`left op right` on numbers. `x / 0` is null, whatever x."""

    op: ArithmeticOp
    left: Tree
    right: Tree
    place: Place
    kind: Kind = Kind.NUMBER


@dataclass(frozen=True, slots=True)
class Compare:
    """`left op right`; strings know only `==`."""

    op: CompareOp
    left: Tree
    right: Tree
    place: Place
    kind: Kind = Kind.BOOLEAN


@dataclass(frozen=True, slots=True)
class In:
    """`item in container`: a literal list, or the Name of a LIST."""

    item: Tree
    container: Literals | Name
    place: Place
    kind: Kind = Kind.BOOLEAN


@dataclass(frozen=True, slots=True)
class Not:
    """`not x`."""

    operand: Tree
    place: Place
    kind: Kind = Kind.BOOLEAN


@dataclass(frozen=True, slots=True)
class And:
    """`a and b and ...`, at least two."""

    operands: tuple[Tree, ...]
    place: Place
    kind: Kind = Kind.BOOLEAN


@dataclass(frozen=True, slots=True)
class Or:
    """`a or b or ...`, at least two."""

    operands: tuple[Tree, ...]
    place: Place
    kind: Kind = Kind.BOOLEAN


@dataclass(frozen=True, slots=True)
class IfElse:
    """`then if condition else otherwise`; an unknown condition yields null."""

    condition: Tree
    then: Tree
    otherwise: Tree
    place: Place
    kind: Kind


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the closed list (`expressions/functions.py`)."""

    function: str
    arguments: tuple[Tree, ...]
    place: Place
    kind: Kind


Tree = Number | String | Name | Literals | Negative | Arithmetic | Compare | In | Not | And | Or | IfElse | Call

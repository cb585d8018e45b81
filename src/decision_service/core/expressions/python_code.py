"""Python code made of `ast` nodes, never of text: so nothing in a policy can become code by being quoted badly.

A policy of 5,000 rules is half a million nodes, and making them takes longer than compiling them. So the nodes that
are everywhere carry the position that compile() insists on in their class instead of four attributes each, and equal
names and reads are one shared node: nothing here, and nothing in compile(), changes a node once it is made.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

# The line numbers that compile() insists on.
LINE: Final[dict[str, int]] = {"lineno": 1, "col_offset": 0, "end_lineno": 1, "end_col_offset": 0}
GENERATED: Final = "<policy>"  # the file that generated code says it is from
_LOAD: Final = ast.Load()
_STORE: Final = ast.Store()
_NODES_SHARED: Final = 4_096


class _Constant(ast.Constant):
    lineno, col_offset, end_lineno, end_col_offset = 1, 0, 1, 0


class _Name(ast.Name):
    lineno, col_offset, end_lineno, end_col_offset = 1, 0, 1, 0


class _Subscript(ast.Subscript):
    lineno, col_offset, end_lineno, end_col_offset = 1, 0, 1, 0


class _Compare(ast.Compare):
    lineno, col_offset, end_lineno, end_col_offset = 1, 0, 1, 0


class _BoolOp(ast.BoolOp):
    lineno, col_offset, end_lineno, end_col_offset = 1, 0, 1, 0


class _Call(ast.Call):
    lineno, col_offset, end_lineno, end_col_offset = 1, 0, 1, 0


class Assign(ast.Assign):
    """`ast.Assign` at its position, as all here."""

    lineno, col_offset, end_lineno, end_col_offset = 1, 0, 1, 0


class AugAssign(ast.AugAssign):
    """`ast.AugAssign` at its position."""

    lineno, col_offset, end_lineno, end_col_offset = 1, 0, 1, 0


class If(ast.If):
    """`ast.If` at its position."""

    lineno, col_offset, end_lineno, end_col_offset = 1, 0, 1, 0


def constant(value: object) -> ast.expr:
    """A literal."""
    return _Constant(value)  # type: ignore[arg-type]


@lru_cache(_NODES_SHARED)
def load(name: str) -> ast.expr:
    """A local or global by name."""
    return _Name(name, _LOAD)


def call(function: ast.expr, *arguments: ast.expr) -> ast.expr:
    """`function(*arguments)`."""
    return _Call(function, list(arguments), [])


@lru_cache(_NODES_SHARED)
def store(name: str) -> ast.Name:
    """A local by name, on the left of `=`."""
    return _Name(name, _STORE)


@lru_cache(_NODES_SHARED)
def item(container: str, index: int) -> ast.expr:
    """`container[index]`."""
    return _Subscript(load(container), constant(index), _LOAD)


def compare(left: ast.expr, op: type[ast.cmpop], right: ast.expr) -> ast.expr:
    """`left op right`."""
    return _Compare(left, [op()], [right])


def all_of(operands: list[ast.expr]) -> ast.expr:
    """`a and b and ...`."""
    return operands[0] if len(operands) == 1 else _BoolOp(ast.And(), operands)


def any_of(operands: list[ast.expr]) -> ast.expr:
    """`a or b or ...`."""
    return operands[0] if len(operands) == 1 else _BoolOp(ast.Or(), operands)


def if_else(test: ast.expr, then: ast.expr, otherwise: ast.expr) -> ast.expr:
    """`then if test else otherwise`."""
    return ast.IfExp(test, then, otherwise, **LINE)


def python_function(
    parameters: Sequence[str], body: list[ast.stmt], namespace: dict[str, object]
) -> Callable[..., Any]:
    """A function of our own nodes, never of text; its globals are `namespace` and nothing else.

    `namespace` does not hold the function: the two would keep each other alive, and with them a replaced policy, until
    the cyclic collector looked (which it does not, see `interpreter.py`).
    """
    names = [ast.arg(name, None, None, **LINE) for name in parameters]
    arguments = ast.arguments([], names, None, [], [], None, [])
    definition = ast.FunctionDef("generated", arguments, body, [], None, None, **LINE)
    code = compile(ast.Module([definition], []), GENERATED, "exec")
    exec(code, namespace)
    made: Callable[..., Any] = namespace.pop("generated")  # type: ignore[assignment]
    return made

"""Python code made of `ast` nodes, never of text: so nothing in a policy can become code by being quoted badly."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any, Final

# The line numbers that compile() insists on.
LINE: Final[dict[str, int]] = {"lineno": 1, "col_offset": 0, "end_lineno": 1, "end_col_offset": 0}


def constant(value: object) -> ast.expr:
    """A literal."""
    return ast.Constant(value, **LINE)  # type: ignore[arg-type]


def load(name: str) -> ast.expr:
    """A local or global by name."""
    return ast.Name(name, ast.Load(), **LINE)


def call(function: ast.expr, *arguments: ast.expr) -> ast.expr:
    """`function(*arguments)`."""
    return ast.Call(function, list(arguments), [], **LINE)


def item(container: str, index: int) -> ast.expr:
    """`container[index]`."""
    return ast.Subscript(load(container), constant(index), ast.Load(), **LINE)


def compare(left: ast.expr, op: type[ast.cmpop], right: ast.expr) -> ast.expr:
    """`left op right`."""
    return ast.Compare(left, [op()], [right], **LINE)


def all_of(operands: list[ast.expr]) -> ast.expr:
    """`a and b and ...`."""
    return operands[0] if len(operands) == 1 else ast.BoolOp(ast.And(), operands, **LINE)


def any_of(operands: list[ast.expr]) -> ast.expr:
    """`a or b or ...`."""
    return operands[0] if len(operands) == 1 else ast.BoolOp(ast.Or(), operands, **LINE)


def if_else(test: ast.expr, then: ast.expr, otherwise: ast.expr) -> ast.expr:
    """`then if test else otherwise`."""
    return ast.IfExp(test, then, otherwise, **LINE)


def python_function(
    parameters: Sequence[str], body: list[ast.stmt], namespace: dict[str, object]
) -> Callable[..., Any]:
    """A function of our own nodes, never of text; its globals are `namespace` and nothing else."""
    names = [ast.arg(name, None, None, **LINE) for name in parameters]
    arguments = ast.arguments([], names, None, [], [], None, [])
    definition = ast.FunctionDef("generated", arguments, body, [], None, None, **LINE)
    code = compile(ast.Module([definition], []), "<policy>", "exec")
    exec(code, namespace)
    made: Callable[..., Any] = namespace["generated"]  # type: ignore[assignment]
    return made

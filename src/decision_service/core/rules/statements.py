"""The statements that generated code is made of, as `ast` nodes."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Final

from decision_service.core.expressions.python_code import (
    LINE,
    Assign,
    AugAssign,
    If,
    call,
    compare,
    constant,
    load,
    store,
)

_PASS: Final = ast.Pass(**LINE)


def assign(name: str, value: ast.expr) -> ast.stmt:
    """`name = value`."""
    return Assign([store(name)], value, None)


def set_item(container: str, index: int, value: ast.expr) -> ast.stmt:
    """`container[index] = value`."""
    target = ast.Subscript(load(container), constant(index), ast.Store(), **LINE)
    return Assign([target], value, None)


def update(name: str, op: ast.operator, value: ast.expr) -> ast.stmt:
    """`name op= value`."""
    return AugAssign(store(name), op, value)


def extend(name: str, values: ast.expr) -> ast.stmt:
    """`name += values`."""
    return update(name, ast.Add(), values)


def append(name: str, value: ast.expr) -> ast.stmt:
    """`name.append(value)`."""
    return ast.Expr(call(attribute(load(name), "append"), value), **LINE)


def attribute(value: ast.expr, name: str) -> ast.expr:
    """`value.name`."""
    return ast.Attribute(value, name, ast.Load(), **LINE)


def at(container: ast.expr, index: ast.expr) -> ast.expr:
    """`container[index]`."""
    return ast.Subscript(container, index, ast.Load(), **LINE)


def binary(left: ast.expr, op: ast.operator, right: ast.expr) -> ast.expr:
    """`left op right`."""
    return ast.BinOp(left, op, right, **LINE)


def if_(test: ast.expr, then: Sequence[ast.stmt], otherwise: Sequence[ast.stmt] = ()) -> ast.stmt:
    """`if test: ... else: ...`."""
    return If(test, list(then) or [pass_()], list(otherwise))


def while_(test: ast.expr, body: Sequence[ast.stmt]) -> ast.stmt:
    """`while test: ...`."""
    return ast.While(test, list(body), [], **LINE)


def pass_() -> ast.stmt:
    """`pass`."""
    return _PASS


def trying(body: Sequence[ast.stmt], handler: Sequence[ast.stmt]) -> ast.stmt:
    """`try: ... except Error: ...`, where `Error` is any exception."""
    return ast.Try(list(body), [ast.ExceptHandler(load("Error"), None, list(handler), **LINE)], [], [], **LINE)


def is_known(name: str) -> ast.expr:
    """`name == name`: whether a number is not null."""
    return compare(load(name), ast.Eq, load(name))


def chosen_by(name: str, branches: Sequence[Sequence[ast.stmt]]) -> list[ast.stmt]:
    """The branch of the number in `name`, from 0 on; branches without a statement cost nothing. Halves each time."""
    filled = [(number, branch) for number, branch in enumerate(branches) if branch]
    return _chosen(name, filled, last=len(filled) == len(branches))


def _chosen(name: str, filled: Sequence[tuple[int, Sequence[ast.stmt]]], *, last: bool) -> list[ast.stmt]:
    if not filled:
        return []
    if len(filled) == 1:
        number, branch = filled[0]
        return list(branch) if last else [if_(compare(load(name), ast.Eq, constant(number)), branch)]
    half = len(filled) // 2
    below = compare(load(name), ast.Lt, constant(filled[half][0]))
    return [if_(below, _chosen(name, filled[:half], last=last), _chosen(name, filled[half:], last=last))]

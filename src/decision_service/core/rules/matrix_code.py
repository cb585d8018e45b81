"""A matrix in generated code: where two values stand on its axes is the number of its cell."""

from __future__ import annotations

import ast

from decision_service.core.expressions.python_code import LINE, call, compare, constant, if_else, load
from decision_service.core.expressions.scalar import ScalarCompiler, read_item
from decision_service.core.rules.effects_code import compute, fixed, held
from decision_service.core.rules.spec import Axis, MatrixSpec
from decision_service.core.rules.statements import append, assign, at, binary, chosen_by, extend, if_, is_known, trying
from decision_service.core.rules.table_spec import UNKNOWN, WRONG
from decision_service.core.vocabulary import Kind, Layout


def matrix_code(matrix: MatrixSpec, scalar: ScalarCompiler, layout: Layout) -> ast.stmt:
    """The statement that judges one matrix."""
    source = f"matrix:{matrix.id}"
    held_back = extend("e", scalar.keep(held(matrix.on_null, source)))
    unknown = [append("c", constant(f"{matrix.id}:{UNKNOWN}")), held_back]
    wrong = [append("c", constant(f"{matrix.id}:{WRONG}")), held_back]
    width = constant(len(matrix.columns.labels))
    number = binary(binary(load("r"), ast.Mult(), width), ast.Add(), load("q"))
    body = [
        *_position("r", matrix.rows, scalar, layout), *_position("q", matrix.columns, scalar, layout),
        if_(_either_negative(), unknown, [assign("k", number), *_hit(matrix, scalar, source)]),
    ]  # fmt: skip
    return trying(body, wrong)


def _hit(matrix: MatrixSpec, scalar: ScalarCompiler, source: str) -> list[ast.stmt]:
    """Statements that answer with the cell whose number is in `k`."""
    cells = [cell for row in matrix.cells for cell in row]
    labels = tuple(f"{matrix.id}:{label}" for label in matrix.labels)
    known = tuple(fixed(cell, source, matrix.reason) for cell in cells)
    computed = [compute(scalar, cell, source, matrix.reason) for cell in cells]
    return [
        append("c", at(scalar.keep(labels), load("k"))), extend("e", at(scalar.keep(known), load("k"))),
        *chosen_by("k", computed),
    ]  # fmt: skip


def _position(target: str, axis: Axis, scalar: ScalarCompiler, layout: Layout) -> list[ast.stmt]:
    """Statements that set `target` to the position on an axis, negative for none."""
    null = len(axis.values) if axis.has_null else -1
    places: dict[object, int] = {value: position for position, value in enumerate(axis.values)}
    read = assign("x", read_item(axis.name, layout))
    if axis.name.kind is Kind.STRING:
        return [read, assign(target, call(scalar.keep((places | {None: null}).get), load("x"), constant(-1)))]
    if axis.ranged:
        found = call(load("bisect_left"), scalar.keep(axis.values), load("x"))
    else:
        found = call(scalar.keep(places.get), load("x"), constant(-1))
    return [read, assign(target, if_else(is_known("x"), found, constant(null)))]


def _either_negative() -> ast.expr:
    tests = [compare(load(name), ast.Lt, constant(0)) for name in ("r", "q")]
    return ast.BoolOp(ast.Or(), tests, **LINE)

"""A decision table in generated code: every input finds its region, every region is a set of rows, sets are met.

    x = v[12]; i = bisect_left(ENDS, x) if x == x else NULL
    y = TRUE[i]; n = POSSIBLE[i]                 rows that are true, and those that are not definitely false, as bits
    ...; y &= TRUE[i]; n &= POSSIBLE[i]          the same for every other input
    low = n & -n                                 `first`: the first row that is not definitely false
    if y & low: its effects                      it is true: hit
    elif n: on_null                              it is unknown, and so is the table
    else: otherwise

So a table costs by its inputs, not by its rows. Regions are those in which the checks look for gaps (`regions.py`).
Where bounds are dated, ENDS, TRUE and POSSIBLE are those of the period the decision falls in.
"""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from decision_service.core.expressions.python_code import LINE, call, constant, if_else, load
from decision_service.core.expressions.scalar import ScalarCompiler
from decision_service.core.rules.effects_code import ask, compute, fixed, held
from decision_service.core.rules.regions import Regions, Truth, packed
from decision_service.core.rules.statements import (
    append,
    assign,
    at,
    attribute,
    binary,
    chosen_by,
    extend,
    if_,
    is_known,
    trying,
    update,
    while_,
)
from decision_service.core.rules.table_spec import OTHERWISE, UNKNOWN, WRONG, TableSpec
from decision_service.core.vocabulary import Kind

_BEFORE_ALL_MS: Final = -(10**15)  # an instant before the first date of any constant


class Side(NamedTuple):
    """One input of a table as code needs it: where regions of numbers end, and the rows of every region."""

    ends: tuple[float, ...]
    true: tuple[int, ...]
    possible: tuple[int, ...]


def table_code(table: TableSpec, scalar: ScalarCompiler) -> ast.stmt:
    """The statement that judges one table."""
    source = f"table:{table.id}"
    held_back = extend("e", scalar.keep(held(table.on_null, source)))
    unknown = [append("c", constant(f"{table.id}:{UNKNOWN}")), held_back]
    wrong = [append("c", constant(f"{table.id}:{WRONG}")), held_back]
    answer = _first if table.hit == "first" else _every
    return trying([*_meet(table, scalar), *answer(table, scalar, source, unknown)], wrong)


def _meet(table: TableSpec, scalar: ScalarCompiler) -> list[ast.stmt]:
    """Statements that leave the rows that are true in `y`, and those not definitely false in `n`."""
    eras = [sides_of(table.regions_at(t_ms)) for t_ms in (_BEFORE_ALL_MS, *table.eras_ms)]
    statements: list[ast.stmt] = []
    if len(eras) > 1:
        period = call(scalar.keep(bisect_right), scalar.keep(table.eras_ms), load("t"))
        statements.append(assign("g", at(scalar.keep(tuple(eras)), period)))
    for position, given in enumerate(table.inputs):
        regions = table.regions_at(_BEFORE_ALL_MS)[position]
        side = _side(eras, position, scalar)
        statements.append(assign("x", scalar.value_of(given.tree)))
        if given.tree.kind is Kind.STRING:
            places: dict[str | None, int] = dict(regions.places.items())
            places[None] = regions.null
            found = call(scalar.keep(places.get), load("x"), constant(regions.other))
        else:
            last = constant(-1)  # the unknown value has the last region, however many there are
            found = if_else(is_known("x"), call(load("bisect_left"), side[0], load("x")), last)
        statements.append(assign("i", found))
        for name, sets in (("y", side[1]), ("n", side[2])):
            met = at(sets, load("i"))
            statements.append(update(name, ast.BitAnd(), met) if position else assign(name, met))
    return statements


def _side(eras: Sequence[Sequence[Side]], position: int, scalar: ScalarCompiler) -> tuple[ast.expr, ...]:
    """Where generated code finds ends, true and possible of one input."""
    if len(eras) == 1:
        return tuple(scalar.keep(part) for part in eras[0][position])
    of_input = at(load("g"), constant(position))
    return tuple(at(of_input, constant(part)) for part in range(len(Side._fields)))


def sides_of(inputs: Sequence[Regions]) -> tuple[Side, ...]:
    """The inputs with neighbouring regions that no row tells apart made one."""
    return tuple(_merged(regions) for regions in inputs)


def _merged(regions: Regions) -> Side:
    true, possible = _rows_of(regions.true), _rows_of(regions.possible)
    if not regions.ends:
        return Side((), true, possible)
    kept = [i for i in range(len(regions.ends)) if (true[i], possible[i]) != (true[i + 1], possible[i + 1])]
    chosen = [*kept, len(regions.ends), regions.null]
    return Side(
        tuple(regions.ends[i] for i in kept), tuple(true[i] for i in chosen), tuple(possible[i] for i in chosen)
    )


def _rows_of(truth: Truth) -> tuple[int, ...]:
    return tuple(packed(column) for column in truth.T)


# --- the answer ------------------------------------------------------------------------------------------------------


def _first(table: TableSpec, scalar: ScalarCompiler, source: str, unknown: list[ast.stmt]) -> list[ast.stmt]:
    hit = [assign("k", _number_of("low")), *_hit(table, scalar, source)]
    nothing_said = _otherwise(table, scalar, source, unknown)
    return [
        assign("low", _lowest("n")),
        if_(binary(load("y"), ast.BitAnd(), load("low")), hit, [if_(load("n"), unknown, nothing_said)]),
    ]


def _every(table: TableSpec, scalar: ScalarCompiler, source: str, unknown: list[ast.stmt]) -> list[ast.stmt]:
    each = [
        assign("low", _lowest("y")), update("y", ast.BitXor(), load("low")), assign("k", _number_of("low")),
        *_hit(table, scalar, source),
    ]  # fmt: skip
    not_sure = if_(binary(load("n"), ast.BitAnd(), load("u")), unknown)
    all_false = _otherwise(table, scalar, source, unknown)
    return [
        assign("u", ast.UnaryOp(ast.Invert(), load("y"), **LINE)),
        if_(load("n"), [while_(load("y"), each), not_sure], all_false),
    ]


def _otherwise(table: TableSpec, scalar: ScalarCompiler, source: str, unknown: list[ast.stmt]) -> list[ast.stmt]:
    """What a table says where every row is false; one that ought to have no such place cannot tell."""
    if table.otherwise is None:
        return unknown
    return [append("c", constant(f"{table.id}:{OTHERWISE}")), *ask(scalar, table.otherwise, source, table.reason)]


def _hit(table: TableSpec, scalar: ScalarCompiler, source: str) -> list[ast.stmt]:
    """Statements that answer with the row whose number is in `k`."""
    labels = tuple(f"{table.id}:{row.label}" for row in table.rows)
    known = tuple(fixed(row.then, source, row.reason) for row in table.rows)
    computed = [compute(scalar, row.then, source, row.reason) for row in table.rows]
    return [
        append("c", at(scalar.keep(labels), load("k"))), extend("e", at(scalar.keep(known), load("k"))),
        *chosen_by("k", computed),
    ]  # fmt: skip


def _lowest(name: str) -> ast.expr:
    """`name & -name`: its lowest bit."""
    return binary(load(name), ast.BitAnd(), ast.UnaryOp(ast.USub(), load(name), **LINE))


def _number_of(name: str) -> ast.expr:
    """The number of the one bit that is set."""
    return binary(call(attribute(load(name), "bit_length")), ast.Sub(), constant(1))

"""Python functions for a whole rule set: one that judges a decision, and the parts it calls.

    def evaluate(v, s, lists, t, scale, limit, apr):
        w = bytearray(VERDICTS); e = []; c = []
        d0 = DATED_0(t)                                  dated constants, if any
        part_0(v, s, lists, scale, limit, apr, w, e, c, d0)
        return Evaluation(e, bytes(w), tuple(c))

    def part_0(...):                                     at most PART_RULES rules, for Python compiles a function of
        try:                                             thousands of statements ever more slowly; one block a rule
            if <definitely false>: pass                  first, because most rules are silent
            elif <definitely true>: w[0] = 1; e += EFFECTS_0
            else: w[0] = 2; e += ON_NULL_0               unknown
        except Error:
            w[0] = 5; e += ON_NULL_0                     a rule that goes wrong takes its on_null, the others run
        ...                                              the last part: matrices, look the cell up, add what it says

Effects known when the policy compiles are built then; a computed one is a small call when its rule fires. An amount
that turns out to be null means we do not know how much is safe: a review, whatever `on_null` says (only a raise of the
limit is then simply not given). Holds for something unknown carry RC91, because the cause is ours, not the customer's.

Money becomes minor units by rounding down; products such as 0.29 * 100 * 100 fall short of the whole number they mean
by a few 1e-16, so a millionth of a minor unit is added first. Rates become basis points by rounding to the nearest.
"""

from __future__ import annotations

import ast
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from decision_service.core.decision import Approve, CapDraw, ChangeLimit, ChangePrice, Effect, Hold
from decision_service.core.expressions.python_code import LINE, call, compare, constant, load, python_function
from decision_service.core.expressions.scalar import ScalarCompiler, Strings, read_item
from decision_service.core.rules.spec import (
    Axis,
    ComputedEffect,
    ComputedSort,
    EffectSpec,
    FixedEffect,
    MatrixSpec,
    OnNull,
    RuleSetSpec,
    RuleSpec,
)
from decision_service.core.vocabulary import Kind, Layout, NameSpec

SILENT, FIRED, UNKNOWN_SKIPPED, UNKNOWN_FIRED, UNKNOWN_HELD, WENT_WRONG = range(6)
NO_VALUE_REASON: Final = "RC91"
UNKNOWN_CELL: Final = "unknown"
_BPS: Final = 10_000
PART_RULES: Final = 100
_PARAMETERS: Final = ("v", "s", "lists", "t", "scale", "limit", "apr")
_PART_PARAMETERS: Final = ("v", "s", "lists", "scale", "limit", "apr", "w", "e", "c")

Effects = tuple[Effect, ...]
Maker = Callable[[float, int, int, int], Effect]  # amount, scale, limit in minor units, apr in bps


class Evaluation(NamedTuple):
    """What a rule set says about one decision: effects asked for, one verdict byte a rule, matrix cells hit."""

    effects: list[Effect]
    verdicts: bytes
    cells: tuple[str, ...]


EvaluateFunction = Callable[[Sequence[float], Strings, Mapping[str, frozenset[str]], int, int, int, int], Evaluation]
PartFunction = Callable[..., None]


class Generated(NamedTuple):
    """The compiled code of a rule set: `evaluate`, and what it calls: PART_RULES rules a part, then all matrices."""

    evaluate: EvaluateFunction
    rules: tuple[PartFunction, ...]
    matrices: PartFunction


def _groups(rules: list[tuple[int, RuleSpec]], size: int) -> list[list[tuple[int, RuleSpec]]]:
    return [rules[start : start + size] for start in range(0, len(rules), size)]


# --- computed effects ------------------------------------------------------------------------------------------------


def _minor(amount: float, scale: int) -> int:
    return max(0, math.floor(amount * scale + 1e-6))


def _maker(sort: ComputedSort, source: str, reason: str) -> Maker:
    """The function that turns a computed amount (never null) into its effect."""

    def cap(amount: float, scale: int, _limit: int, _apr: int) -> Effect:
        return Effect(CapDraw(_minor(amount, scale)), source, reason)

    def set_limit(amount: float, scale: int, _limit: int, _apr: int) -> Effect:
        return Effect(ChangeLimit("set", _minor(amount, scale)), source, reason)

    def raise_limit(share: float, _scale: int, limit: int, _apr: int) -> Effect:
        return Effect(ChangeLimit("set", limit + _minor(share * limit, 1)), source, reason)

    def cut_limit(share: float, _scale: int, limit: int, _apr: int) -> Effect:
        return Effect(ChangeLimit("set", max(0, limit - math.ceil(max(0.0, share) * limit - 1e-6))), source, reason)

    def add_bps(bps: float, _scale: int, _limit: int, apr: int) -> Effect:
        return Effect(ChangePrice(max(0, apr + round(bps))), source, reason)

    def set_apr(rate: float, _scale: int, _limit: int, _apr: int) -> Effect:
        return Effect(ChangePrice(max(0, round(rate * _BPS))), source, reason)

    makers: dict[ComputedSort, Maker] = {
        "cap_draw": cap, "set": set_limit, "raise": raise_limit, "cut": cut_limit, "add_bps": add_bps,
        "set_apr": set_apr,
    }  # fmt: skip
    return makers[sort]


def _fixed(then: Sequence[EffectSpec], source: str, reason: str) -> Effects:
    """The effects known now; an approval needs no reason."""
    actions = [effect.action for effect in then if isinstance(effect, FixedEffect)]
    return tuple(Effect(a, source, "" if isinstance(a, Approve) else reason) for a in actions)


def _held(on_null: OnNull, source: str) -> Effects:
    """What an unknown condition asks for, unless it fires."""
    match on_null:
        case "step_up" | "review" | "block":
            return (Effect(Hold(on_null), source, NO_VALUE_REASON),)
    return ()


# --- statements ------------------------------------------------------------------------------------------------------


def _assign(name: str, value: ast.expr) -> ast.stmt:
    return ast.Assign([ast.Name(name, ast.Store(), **LINE)], value, None, **LINE)


def _set_verdict(index: int, verdict: int) -> ast.stmt:
    target = ast.Subscript(load("w"), constant(index), ast.Store(), **LINE)
    return ast.Assign([target], constant(verdict), None, **LINE)


def _extend(name: str, values: ast.expr) -> ast.stmt:
    return ast.AugAssign(ast.Name(name, ast.Store(), **LINE), ast.Add(), values, **LINE)


def _append(name: str, value: ast.expr) -> ast.stmt:
    method = ast.Attribute(load(name), "append", ast.Load(), **LINE)
    return ast.Expr(call(method, value), **LINE)


def _if(test: ast.expr, then: list[ast.stmt], otherwise: list[ast.stmt]) -> ast.stmt:
    return ast.If(test, then, otherwise, **LINE)


def _try(body: list[ast.stmt], handler: list[ast.stmt]) -> ast.stmt:
    return ast.Try(body, [ast.ExceptHandler(load("Error"), None, handler, **LINE)], [], [], **LINE)


class RuleSetCompiler:
    """Generates the one function of a rule set over one layout."""

    def __init__(self, spec: RuleSetSpec, layout: Layout) -> None:
        self._spec = spec
        local_names = {dated.name: f"d{i}" for i, dated in enumerate(spec.dated)}
        self._scalar = ScalarCompiler(layout, local_names)
        self._layout = layout
        self._scalar.namespace |= {"Error": Exception, "Evaluation": Evaluation, "bytearray": bytearray}
        self._scalar.namespace |= {"bytes": bytes, "tuple": tuple, "bisect_left": bisect_left}

    def compile(self) -> Generated:
        """The function, and its parts for whoever wants to ask one rule alone."""
        rules = [
            self._part([self._rule(index, rule) for index, rule in numbered])
            for numbered in _groups(list(enumerate(self._spec.rules)), PART_RULES)
        ]
        matrices = self._part([self._matrix(matrix) for matrix in self._spec.matrices])
        return Generated(self._whole([*rules, matrices] if self._spec.matrices else rules), tuple(rules), matrices)

    def _part(self, body: list[ast.stmt]) -> PartFunction:
        dated = tuple(f"d{position}" for position in range(len(self._spec.dated)))
        return python_function((*_PART_PARAMETERS, *dated), body or [ast.Pass(**LINE)], self._scalar.namespace)

    def _whole(self, parts: Sequence[PartFunction]) -> EvaluateFunction:
        body: list[ast.stmt] = [
            _assign("w", call(load("bytearray"), constant(len(self._spec.rules)))),
            _assign("e", ast.List([], ast.Load(), **LINE)),
            _assign("c", ast.List([], ast.Load(), **LINE)),
        ]
        handed = [load(name) for name in _PART_PARAMETERS]
        for position, dated in enumerate(self._spec.dated):
            body.append(_assign(f"d{position}", call(self._scalar.keep(dated.at), load("t"))))
            handed.append(load(f"d{position}"))
        body += [ast.Expr(call(self._scalar.keep(part), *handed), **LINE) for part in parts]
        frozen = [load("e"), call(load("bytes"), load("w")), call(load("tuple"), load("c"))]
        body.append(ast.Return(call(load("Evaluation"), *frozen), **LINE))
        return python_function(_PARAMETERS, body, self._scalar.namespace)

    # --- rules ------------------------------------------------------------------------------------------------

    def _rule(self, index: int, rule: RuleSpec) -> ast.stmt:
        source = f"rule:{rule.id}"
        fired = self._ask(rule.then, source, rule.reason, index)
        unknown = self._unknown(index, rule, source)
        unless = _if(self._scalar.true_of(rule.when), [_set_verdict(index, FIRED), *fired], unknown)
        body = _if(self._scalar.false_of(rule.when), [ast.Pass(**LINE)], [unless])
        return _try([body], self._wrong(index, rule, source))

    def _unknown(self, index: int, rule: RuleSpec, source: str) -> list[ast.stmt]:
        if rule.on_null == "fire":
            asked = self._ask(rule.then, source, rule.reason, index)
            return [_set_verdict(index, UNKNOWN_FIRED), *asked]
        if rule.on_null == "skip":
            return [_set_verdict(index, UNKNOWN_SKIPPED)]
        held = self._scalar.keep(_held(rule.on_null, source))
        return [_set_verdict(index, UNKNOWN_HELD), _extend("e", held)]

    def _wrong(self, index: int, rule: RuleSpec, source: str) -> list[ast.stmt]:
        """What a rule that raised asks for; what it would compute is out of reach, so firing means a review, too."""
        effects = _held(rule.on_null, source)
        if rule.on_null == "fire":
            fixed = _fixed(rule.then, source, rule.reason)
            computed = len(fixed) < len(rule.then)
            effects = (*fixed, *(_held("review", source) if computed else ()))
        return [_set_verdict(index, WENT_WRONG), _extend("e", self._scalar.keep(effects))]

    def _ask(self, then: Sequence[EffectSpec], source: str, reason: str, index: int | None) -> list[ast.stmt]:
        """Statements that add the effects asked for to `e`."""
        fixed = _fixed(then, source, reason)
        statements = [_extend("e", self._scalar.keep(fixed))] if fixed else []
        for effect in then:
            if isinstance(effect, ComputedEffect):
                statements += self._compute(effect, source, reason, index)
        return statements

    def _compute(self, effect: ComputedEffect, source: str, reason: str, index: int | None) -> list[ast.stmt]:
        maker = self._scalar.keep(_maker(effect.sort, source, reason))
        made = call(maker, load("x"), load("scale"), load("limit"), load("apr"))
        if effect.sort == "raise":
            unknown: list[ast.stmt] = [ast.Pass(**LINE)]
        else:
            unknown = [_extend("e", self._scalar.keep(_held("review", source)))]
            unknown += [] if index is None else [_set_verdict(index, UNKNOWN_HELD)]
        known = compare(load("x"), ast.Eq, load("x"))
        return [_assign("x", self._scalar.value_of(effect.amount)), _if(known, [_append("e", made)], unknown)]

    # --- matrices ---------------------------------------------------------------------------------------------

    def _matrix(self, matrix: MatrixSpec) -> ast.stmt:
        source = f"matrix:{matrix.id}"
        width = len(matrix.columns.labels)
        cells = [cell for row in matrix.cells for cell in row]
        labels = tuple(
            f"{matrix.id}:{matrix.label(row, column)}"
            for row in range(len(matrix.rows.labels))
            for column in range(width)
        )
        fixed = tuple(_fixed(cell, source, matrix.reason) for cell in cells)
        unknown: list[ast.stmt] = [
            _append("c", constant(f"{matrix.id}:{UNKNOWN_CELL}")),
            _extend("e", self._scalar.keep(_held(matrix.on_null, source))),
        ]
        hit: list[ast.stmt] = [
            _append("c", self._at(labels)), _extend("e", self._at(fixed)),
            *self._computed_cells(cells, source, matrix.reason),
        ]  # fmt: skip
        body = [
            *self._position("r", matrix.rows), *self._position("q", matrix.columns),
            _if(_either_negative(), unknown, [_assign("k", _cell_number(width)), *hit]),
        ]  # fmt: skip
        return _try(body, unknown)

    def _at(self, values: tuple[object, ...]) -> ast.expr:
        return ast.Subscript(self._scalar.keep(values), load("k"), ast.Load(), **LINE)

    def _computed_cells(self, cells: Sequence[Sequence[EffectSpec]], source: str, reason: str) -> list[ast.stmt]:
        """One `if k == number` a cell that has something to compute."""
        statements: list[ast.stmt] = []
        for number, cell in enumerate(cells):
            computed = [effect for effect in cell if isinstance(effect, ComputedEffect)]
            asked = [s for effect in computed for s in self._compute(effect, source, reason, None)]
            if asked:
                statements.append(_if(compare(load("k"), ast.Eq, constant(number)), asked, []))
        return statements

    def _position(self, target: str, axis: Axis) -> list[ast.stmt]:
        """Statements that set `target` to the position on an axis, negative for none."""
        null = len(axis.values) if axis.has_null else -1
        read = self._read(axis.name)
        if not axis.ranged:
            places: dict[object, int] = {value: position for position, value in enumerate(axis.values)}
            table = self._scalar.keep(_AxisTable(places, null, axis.name.kind is Kind.STRING))
            return [_assign(target, call(ast.Attribute(table, "find", ast.Load(), **LINE), read))]
        found = call(load("bisect_left"), self._scalar.keep(axis.values), load("x"))
        known = compare(load("x"), ast.Eq, load("x"))
        return [_assign("x", read), _assign(target, ast.IfExp(known, found, constant(null), **LINE))]

    def _read(self, name: NameSpec) -> ast.expr:
        return read_item(name, self._layout)


class _AxisTable:
    """Position of a value on an axis of single values; an unknown value has a position only if the axis says so."""

    __slots__ = ("_null", "_places", "_text")

    def __init__(self, places: Mapping[object, int], null: int, text: bool) -> None:
        self._places = places
        self._null = null
        self._text = text

    def find(self, value: float | str | None) -> int:
        """The position, -1 for none."""
        known = value is not None if self._text else value == value
        return self._places.get(value, -1) if known else self._null


def _either_negative() -> ast.expr:
    tests = [compare(load(name), ast.Lt, constant(0)) for name in ("r", "q")]
    return ast.BoolOp(ast.Or(), tests, **LINE)


def _cell_number(width: int) -> ast.expr:
    row = ast.BinOp(load("r"), ast.Mult(), constant(width), **LINE)
    return ast.BinOp(row, ast.Add(), load("q"), **LINE)

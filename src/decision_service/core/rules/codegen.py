"""Python functions for a whole rule set: one that judges a decision, and the parts it calls.

    def evaluate(v, s, lists, t, scale, limit, apr):
        w = bytearray(VERDICTS); e = []; c = []
        d0 = VALUES_0[bisect_right(STARTS_0, t)]         dated constants, if any
        points_0(v, s, ...)                              fills the places of points scorecards in v and s, if any
        part_0(v, s, lists, t, scale, limit, apr, w, e, c, d0)
        return Evaluation(e, bytes(w), tuple(c))

    def part_0(...):                                     at most PART_RULES rules, for compiling one function lets
        try:                                             nobody else run (2 ms for 25 rules); one block a rule
            if <definitely false>: pass                  first, because most rules are silent
            elif <definitely true>: w[0] = 1; e += EFFECTS_0
            else: w[0] = 2; e += ON_NULL_0               unknown
        except Error:
            w[0] = 5; e += ON_NULL_0                     a rule that goes wrong takes its on_null, the others run
        ...                                              the last parts: matrices, tables, trees, PART_BLOCKS a part

What a block comes to is said in `c`, as `id:label`: the cell of a matrix, the row of a table, the way to a leaf,
`otherwise`, `unknown`, or `wrong` for a block that raised.
"""

from __future__ import annotations

import ast
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from decision_service.core.decision import Effect
from decision_service.core.expressions.python_code import LINE, call, constant, load, python_function
from decision_service.core.expressions.scalar import ScalarCompiler
from decision_service.core.rules.effects_code import NO_VALUE_REASON, ask, fixed, held, tell
from decision_service.core.rules.matrix_code import matrix_code
from decision_service.core.rules.points_code import points_code
from decision_service.core.rules.rule_set import RuleSetSpec
from decision_service.core.rules.spec import EffectSpec, RuleSpec
from decision_service.core.rules.statements import assign, at, extend, if_, pass_, set_item, trying
from decision_service.core.rules.table_code import table_code
from decision_service.core.rules.tree_code import tree_code
from decision_service.core.vocabulary import Layout

__all__ = ["NO_VALUE_REASON", "Evaluation", "Generated", "RuleSetCompiler"]

SILENT, FIRED, UNKNOWN_SKIPPED, UNKNOWN_FIRED, UNKNOWN_HELD, WENT_WRONG = range(6)
PART_RULES: Final = 25
PART_BLOCKS: Final = 10
_PARAMETERS: Final = ("v", "s", "lists", "t", "scale", "limit", "apr")
_PART_PARAMETERS: Final = (*_PARAMETERS, "w", "e", "c")
Item = TypeVar("Item")


class Evaluation(NamedTuple):
    """What a rule set says about one decision: effects asked for, one verdict byte a rule, and what each block hit."""

    effects: list[Effect]
    verdicts: bytes
    cells: tuple[str, ...]


EvaluateFunction = Callable[
    [list[float], list[str | None], Mapping[str, frozenset[str]], int, int, int, int], Evaluation
]
PartFunction = Callable[..., None]


class Generated(NamedTuple):
    """The compiled code of a rule set: `evaluate`, and the parts it calls.

    `points` have PART_BLOCKS scorecards each, `rules` PART_RULES rules, `blocks` PART_BLOCKS of all blocks in the order
    of `RuleSetSpec.blocks`.
    """

    evaluate: EvaluateFunction
    points: tuple[PartFunction, ...]
    rules: tuple[PartFunction, ...]
    blocks: tuple[PartFunction, ...]


def _groups(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


class RuleSetCompiler:
    """Generates the one function of a rule set over one layout."""

    def __init__(self, spec: RuleSetSpec, layout: Layout) -> None:
        self._spec = spec
        self._scalar = _scalar_compiler(spec, layout)
        self._layout = layout
        self._scalar.namespace |= {"Error": Exception, "bisect_left": bisect_left}

    def compile(self) -> Generated:
        """The function, and its parts for whoever wants to ask one rule or block alone."""
        rules = [
            self._part([self._rule(index, rule) for index, rule in numbered])
            for numbered in _groups(list(enumerate(self._spec.rules)), PART_RULES)
        ]
        cards = [points_code(card, self._scalar, self._layout) for card in self._spec.points]
        points = [self._part(group) for group in _groups(cards, PART_BLOCKS)]
        blocks = [self._part(block) for block in _groups(self._blocks(), PART_BLOCKS)]
        return Generated(self._whole([*points, *rules, *blocks]), tuple(points), tuple(rules), tuple(blocks))

    def _blocks(self) -> list[ast.stmt]:
        matrices = [matrix_code(matrix, self._scalar, self._layout) for matrix in self._spec.matrices]
        tables = [table_code(table, self._scalar) for table in self._spec.tables]
        return matrices + tables + [tree_code(tree, self._scalar) for tree in self._spec.trees]

    def _part(self, body: Sequence[ast.stmt]) -> PartFunction:
        return _part_function(self._spec, body, self._scalar)

    def _whole(self, parts: Sequence[PartFunction]) -> EvaluateFunction:
        body: list[ast.stmt] = [
            assign("w", call(load("bytearray"), constant(len(self._spec.rules)))),
            assign("e", ast.List([], ast.Load(), **LINE)),
            assign("c", ast.List([], ast.Load(), **LINE)),
        ]
        handed = [load(name) for name in _PART_PARAMETERS]
        # Not the namespace of the parts: they must not hold themselves.
        called: dict[str, object] = {"__builtins__": {}, "Evaluation": Evaluation, "bisect_right": bisect_right}
        called |= {"bytearray": bytearray, "bytes": bytes, "tuple": tuple}
        for position, dated in enumerate(self._spec.dated):
            called |= {f"starts_{position}": dated.starts_ms, f"values_{position}": dated.periods}
            period = call(load("bisect_right"), load(f"starts_{position}"), load("t"))
            body.append(assign(f"d{position}", at(load(f"values_{position}"), period)))
            handed.append(load(f"d{position}"))
        for position, part in enumerate(parts):
            called[f"part_{position}"] = part
            body.append(ast.Expr(call(load(f"part_{position}"), *handed), **LINE))
        frozen = [load("e"), call(load("bytes"), load("w")), call(load("tuple"), load("c"))]
        body.append(ast.Return(call(load("Evaluation"), *frozen), **LINE))
        return python_function(_PARAMETERS, body, called)

    # --- rules ------------------------------------------------------------------------------------------------

    def _rule(self, index: int, rule: RuleSpec) -> ast.stmt:
        source = f"rule:{rule.id}"
        fired = [_verdict(index, FIRED), *self._ask(index, rule, source)]
        unless = if_(self._scalar.true_of(rule.when), fired, self._unknown(index, rule, source))
        return trying([if_(self._scalar.false_of(rule.when), [pass_()], [unless])], self._wrong(index, rule, source))

    def _ask(self, index: int, rule: RuleSpec, source: str) -> list[ast.stmt]:
        return ask(self._scalar, rule.then, source, rule.reason, [_verdict(index, UNKNOWN_HELD)])

    def _unknown(self, index: int, rule: RuleSpec, source: str) -> list[ast.stmt]:
        if rule.on_null == "fire":
            return [_verdict(index, UNKNOWN_FIRED), *self._ask(index, rule, source)]
        if rule.on_null == "skip":
            return [_verdict(index, UNKNOWN_SKIPPED)]
        return [_verdict(index, UNKNOWN_HELD), extend("e", self._scalar.keep(held(rule.on_null, source)))]

    def _wrong(self, index: int, rule: RuleSpec, source: str) -> list[ast.stmt]:
        """What a rule that raised asks for; what it would compute is out of reach, so firing means a review, too."""
        effects = held(rule.on_null, source)
        if rule.on_null == "fire":
            known = fixed(rule.then, source, rule.reason)
            effects = (*known, *(held("review", source) if len(known) < len(rule.then) else ()))
        return [_verdict(index, WENT_WRONG), extend("e", self._scalar.keep(effects))]


class TestCompiler:
    """Generates parts that ask for what inline tests say is asked for (see `tell`)."""

    __test__ = False  # not a test of ours, whatever pytest thinks of the name

    def __init__(self, spec: RuleSetSpec, layout: Layout) -> None:
        self._spec = spec
        self._scalar = _scalar_compiler(spec, layout)

    def compile(self, asks: Sequence[EffectSpec]) -> PartFunction:
        """The part for one test."""
        return _part_function(self._spec, tell(self._scalar, asks), self._scalar)


def _scalar_compiler(spec: RuleSetSpec, layout: Layout) -> ScalarCompiler:
    return ScalarCompiler(layout, {dated.name: f"d{position}" for position, dated in enumerate(spec.dated)})


def _part_function(spec: RuleSetSpec, body: Sequence[ast.stmt], scalar: ScalarCompiler) -> PartFunction:
    dated = tuple(f"d{position}" for position in range(len(spec.dated)))
    return python_function((*_PART_PARAMETERS, *dated), list(body) or [pass_()], scalar.namespace)


def _verdict(index: int, verdict: int) -> ast.stmt:
    return set_item("w", index, constant(verdict))

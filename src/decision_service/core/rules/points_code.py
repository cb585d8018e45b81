"""Points scorecards in both back ends: expressions put where their names are looked for."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from decision_service.core.expressions.columns import Columns
from decision_service.core.expressions.python_code import constant, load
from decision_service.core.expressions.scalar import ScalarCompiler
from decision_service.core.expressions.vector import VectorCompiler
from decision_service.core.rules.points_spec import PointsSpec
from decision_service.core.rules.statements import append, set_item, trying
from decision_service.core.rules.table_spec import WRONG
from decision_service.core.vocabulary import Layout


def points_code(card: PointsSpec, scalar: ScalarCompiler, layout: Layout) -> ast.stmt:
    """The statement that fills a scorecard's places; all of them with null if it goes wrong."""
    numbers = [(layout.numbers[name], tree) for name, tree in card.numbers]
    texts = [(layout.strings[name], tree) for name, tree in card.texts]
    body = [set_item("v", slot, scalar.value_of(tree)) for slot, tree in numbers]
    body += [set_item("s", slot, scalar.value_of(tree)) for slot, tree in texts]
    nothing = [set_item("v", slot, load("NAN")) for slot, _ in numbers]
    nothing += [set_item("s", slot, constant(None)) for slot, _ in texts]
    return trying(body, [*nothing, append("c", constant(f"{card.id}:{WRONG}"))])


class VectorPoints:
    """The points scorecards of a rule set, for columns."""

    def __init__(self, cards: Sequence[PointsSpec], compiler: VectorCompiler, layout: Layout) -> None:
        self._numbers = [
            (layout.numbers[name], compiler.value_of(tree)) for card in cards for name, tree in card.numbers
        ]
        self._texts = [(layout.strings[name], compiler.text_of(tree)) for card in cards for name, tree in card.texts]

    def filled(self, columns: Columns) -> Columns:
        """The same decisions with the scorecards' places filled."""
        if not self._numbers:
            return columns
        numbers, strings = list(columns.numbers), list(columns.strings)
        columns = replace(columns, numbers=numbers, strings=strings)
        for slot, value in self._numbers:
            numbers[slot] = value(columns)
        for slot, text in self._texts:
            strings[slot] = text(columns)
        return columns

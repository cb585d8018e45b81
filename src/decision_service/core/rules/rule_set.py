"""A whole rule set as read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from decision_service.core.rules.points_spec import PointsSpec
from decision_service.core.rules.spec import DatedConstant, Fallback, Guardrails, MatrixSpec, RuleSpec
from decision_service.core.rules.table_spec import TableSpec
from decision_service.core.rules.tree_spec import TreeSpec
from decision_service.core.source import Place

Block = MatrixSpec | TableSpec | TreeSpec


@dataclass(frozen=True, slots=True)
class RuleSetSpec:
    """One rule set; rules and each sort of block in stage order."""

    name: str
    scene: str
    place: Place
    rules: tuple[RuleSpec, ...]
    matrices: tuple[MatrixSpec, ...]
    tables: tuple[TableSpec, ...]
    trees: tuple[TreeSpec, ...]
    points: tuple[PointsSpec, ...]
    dated: tuple[DatedConstant, ...]
    guardrails: Guardrails
    fallback: Fallback
    names_used: frozenset[str]
    lists_used: frozenset[str]
    constants_used: frozenset[str] = frozenset()  # own and shared ones
    constants: Mapping[str, Any] = field(default_factory=dict)  # those, as plain values for a description

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Everything that says in `Evaluation.cells` what it came to, in that order."""
        return (*self.matrices, *self.tables, *self.trees)

    @property
    def numbers_filled(self) -> tuple[str, ...]:
        """Names of the numbers that evaluating fills: a layout has them, and whoever evaluates finds them there."""
        return tuple(name for card in self.points for name, _ in card.numbers)

    @property
    def strings_filled(self) -> tuple[str, ...]:
        """The same of strings."""
        return tuple(name for card in self.points for name, _ in card.texts)

    def describe(self) -> dict[str, Any]:
        """What a trace or a comparison of policies needs: rules in the order of the verdicts, and all blocks."""
        return {
            "rule_set": self.name,
            "scene": self.scene,
            "constants": dict(self.constants),
            "rules": [rule.describe() for rule in self.rules],
            "matrices": [matrix.describe() for matrix in self.matrices],
            "tables": [table.describe() for table in self.tables],
            "trees": [tree.describe() for tree in self.trees],
            "points": [card.describe() for card in self.points],
        }

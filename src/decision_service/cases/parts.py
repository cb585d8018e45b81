"""What a policy is made of, for those who count, compare and cover it: rule sets by scene, and their blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from decision_service.core.policy import Policy
from decision_service.core.rules.compile import RuleSet
from decision_service.core.rules.spec import RuleSetSpec, TestSpec

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Block:
    """Something with cells that can be hit: a matrix, a table, a tree. `labels` are those of its cells."""

    kind: str
    id: str
    labels: tuple[str, ...]
    tests: tuple[TestSpec, ...]


def rule_sets(policy: Policy) -> Mapping[str, RuleSet]:
    """The compiled rule sets by scene."""
    return {name: scene.rule_set for name, scene in policy.scenes.items()}


def blocks_of(spec: RuleSetSpec) -> list[Block]:
    """The blocks of a rule set, in the order they stand in the file."""
    return [
        Block(
            "matrix", matrix.id,
            tuple(f"{row}/{column}" for row in matrix.rows.labels for column in matrix.columns.labels), matrix.tests,
        )
        for matrix in spec.matrices
    ]  # fmt: skip

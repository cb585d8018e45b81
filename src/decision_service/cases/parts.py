"""What a policy is made of, for those who count, compare and cover it: rule sets by scene, and their blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from decision_service.core.policy import Policy
from decision_service.core.rules.compile import RuleSet
from decision_service.core.rules.rule_set import RuleSetSpec
from decision_service.core.rules.spec import TestSpec

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
    """The blocks of a rule set that have cells, rows or leaves."""
    return [Block(block.sort, block.id, block.labels, block.tests) for block in spec.blocks]

"""What inline tests and cases together never reach.

A rule is covered twice over: when it fires and when it is silent. A cell (of a matrix, a table, a tree) is covered when
it is hit. Points scorecards give values and have no cells of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from decision_service.cases.calling import CaseResult
from decision_service.cases.expecting import happened
from decision_service.cases.parts import UNKNOWN, blocks_of, rule_sets
from decision_service.core.policy import Policy

Reached = set[tuple[str, str, str]]  # (scene, rule or cell, fired | silent)


@dataclass(frozen=True, slots=True)
class SceneCoverage:
    """One scene: how many things can be reached, and which were not. Names are as a case writes them."""

    scene: str
    rules: int
    cells: int
    never_fired: tuple[str, ...]
    never_silent: tuple[str, ...]
    never_hit: tuple[str, ...]

    @property
    def reachable(self) -> int:
        """Everything there is to reach."""
        return 2 * self.rules + self.cells

    @property
    def reached(self) -> int:
        """How much of it was reached."""
        return self.reachable - len(self.never_fired) - len(self.never_silent) - len(self.never_hit)

    def as_json(self) -> dict[str, Any]:
        """For a machine."""
        return {
            "scene": self.scene, "rules": self.rules, "cells": self.cells, "percent": percent([self]),
            "never_fired": self.never_fired, "never_silent": self.never_silent, "never_hit": self.never_hit,
        }  # fmt: skip


def percent(scenes: Iterable[SceneCoverage]) -> float:
    """How much of everything was reached, in percent; 100 of nothing."""
    counted = list(scenes)
    reachable = sum(scene.reachable for scene in counted)
    return 100.0 if reachable == 0 else 100.0 * sum(scene.reached for scene in counted) / reachable


def coverage(policy: Policy, results: Iterable[CaseResult]) -> list[SceneCoverage]:
    """The coverage of every scene, by its inline tests and by the cases carried out."""
    reached = _by_cases(results)
    scenes = []
    for scene, rule_set in sorted(rule_sets(policy).items()):
        reached |= {(scene, rule.id, _verdict(test.expect)) for rule in rule_set.rules for test in rule.tests}
        blocks = blocks_of(rule_set.spec)
        reached |= {
            (scene, f"{block.id}:{label}", "fired")
            for block in blocks
            for test in block.tests
            for label in test.expect.split("+")
        }
        rules = [rule.id for rule in rule_set.rules]
        cells = [f"{block.id}:{label}" for block in blocks for label in block.labels]
        scenes.append(
            SceneCoverage(
                scene, len(rules), len(cells),
                tuple(rule for rule in rules if (scene, rule, "fired") not in reached),
                tuple(rule for rule in rules if (scene, rule, "silent") not in reached),
                tuple(cell for cell in cells if (scene, cell, "fired") not in reached),
            )
        )  # fmt: skip
    return scenes


def _by_cases(results: Iterable[CaseResult]) -> Reached:
    return {
        (scene_of(step.answer), name, did)
        for result in results
        for step in result.steps
        for name, did in happened(step.answer["trace"]).items()
        if did != UNKNOWN
    }


def scene_of(answer: Mapping[str, Any]) -> str:
    """The scene of an answer."""
    return str(answer.get("scene", "drawdown"))


def _verdict(expected: str) -> str:
    return "fired" if expected == "fires" else expected

"""Every scene of the shipped policy, as columns and one decision at a time: verdicts, rows, cells and leaves agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decision_service.core.expressions.columns import NULL_CODE, Columns, Texts
from decision_service.core.expressions.names import children
from decision_service.core.expressions.tree import Literals, Number, String, Tree
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import Policy
from decision_service.core.rules.codegen import FIRED, UNKNOWN_HELD, WENT_WRONG
from decision_service.core.rules.columns import Judged, VectorRuleSet
from decision_service.core.scene import Scene
from decision_service.policies.loading import load_policy

ROOT = Path(__file__).parents[2]
SCENES = sorted(path.stem for path in (ROOT / "rules").glob("*.yaml") if "\nscene:" in path.read_text())
FROM_MS = 1_700_000_000_000
DECISIONS = 150


@cache
def shipped() -> Policy:
    """The policy of the repository."""
    return load_policy(ROOT / "rules", ROOT / "models", "Asia/Shanghai", DAY_MS)[0]


def literals(tree: Tree) -> Iterator[float | str]:
    """Every literal of an expression."""
    if isinstance(tree, (Number, String)):
        yield tree.value
    elif isinstance(tree, Literals):
        yield from tree.values
    for child in children(tree):
        yield from literals(child)


def pools(scene: Scene) -> tuple[list[float], list[str]]:
    """Numbers on and beside every threshold of a scene, null among them; texts its conditions ask for."""
    spec = scene.rule_set.spec
    bounds = [v for rule in spec.rules for v in literals(rule.when)]
    bounds += [v for matrix in spec.matrices for axis in (matrix.rows, matrix.columns) for v in axis.values]
    bounds += [value for dated in spec.dated for value in dated.values]
    numbers = {float(b) for b in bounds if not isinstance(b, str) and abs(float(b)) < 1e12}
    texts = {b for b in bounds if isinstance(b, str)} | {"A", "B", "C", "D", "E", "none of them"}
    around = {x + by for x in numbers for by in (-1.0, -0.01, 0.0, 0.01, 1.0)} | {0.0, 1.0, 30.0, 1e4}
    return [*sorted(around), *[float("nan")] * (1 + len(around) // 8)], sorted(texts)


def drawn(scene: Scene, lists: Mapping[str, frozenset[str]], seed: int) -> tuple[Columns, Any]:
    """Decisions made of such values, and their instants over five years."""
    random = np.random.default_rng(seed)
    numbers, texts = pools(scene)
    columns = [random.choice(numbers, DECISIONS) for _ in scene.number_names]
    strings = [
        Texts(random.integers(NULL_CODE, len(texts), DECISIONS, dtype=np.int32), tuple(texts))
        for _ in scene.string_names
    ]
    named = {name: frozenset({texts[0], texts[-1]}) for name in lists}
    return Columns(DECISIONS, columns, strings, named), FROM_MS + random.integers(0, 5 * 365, DECISIONS) * DAY_MS


def hit(scene: Scene, judged: Judged, decision: int) -> dict[str, list[str]]:
    """What each block comes to by the columns: its labels by its id."""
    spec = scene.rule_set.spec
    found: dict[str, list[str]] = {}
    for block, cell in zip(
        (*spec.matrices, *spec.tables, *spec.trees), judged.cells[:, decision].tolist(), strict=True
    ):
        every = judged.hits.get(block.id)
        if every is None:
            found[block.id] = [block.labels[cell] if cell >= 0 else "unknown"]
        elif every[:, decision].any():
            labels = (*block.labels, "unknown")
            found[block.id] = [labels[i] for i in np.flatnonzero(every[:, decision])]
    return found


@pytest.mark.parametrize("name", SCENES)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_columns_and_single_decisions_agree_in_every_scene(name: str, seed: int) -> None:
    """Thresholds, nulls and dates as they come: what a backtest sees is what production decides."""
    scene = shipped().scenes[name]
    columns, t_ms = drawn(scene, shipped().rule_lists, seed)
    judged = VectorRuleSet(scene.rule_set.spec, scene.layout).judge(columns, t_ms)
    texts = [column.plain() for column in columns.strings]
    for i in range(DECISIONS):
        values = [float(column[i]) for column in columns.numbers]
        single = scene.rule_set.evaluate(
            [values[place] for place in scene.read],
            [column[i] for column in texts],
            columns.lists,
            int(t_ms[i]),
            100,
            100_000,
            1_800,
        )
        for rule, one, many in zip(scene.rule_set.rules, single.verdicts, judged.verdicts[:, i].tolist(), strict=True):
            assert one != WENT_WRONG
            assert one == many or (one == UNKNOWN_HELD and many == FIRED), (rule.id, one, many)
        cells: dict[str, list[str]] = defaultdict(list)
        for cell in single.cells:
            block, _, label = cell.partition(":")
            cells[block].append(label)
        assert cells == hit(scene, judged, i)


def test_the_scenes_of_the_rules_folder_are_the_scenes_compared() -> None:
    """No scene is left out because its file is called otherwise."""
    assert sorted(shipped().scenes) == SCENES

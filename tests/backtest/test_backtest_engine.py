"""The candidate as columns against `core.decide`, answer by answer."""

from __future__ import annotations

import random

import numpy as np
import pytest
from backtest_cases import SCENES, batch_of, cases, compiled, told, wild_rules

from decision_service.backtest.engine import SceneEngine


@pytest.mark.parametrize("seed", range(28))
def test_columns_answer_as_decide_does(seed: int) -> None:
    """Rules of every sort, effects of every sort, guardrails of every sort: every part of every answer, every verdict
    and every cell that is not left to `decide` is what `decide` gives under the candidate."""
    rng = random.Random(seed)
    scene = SCENES[seed % len(SCENES)]
    others = [] if scene == "drawdown" else [wild_rules(rng, "drawdown")]
    archived = compiled([*others, wild_rules(rng, scene)])
    candidate = compiled([*others, wild_rules(rng, scene)], lists={"block": frozenset({"c-2"})})
    engine = SceneEngine(candidate.scenes[scene])
    made = cases(archived, scene, 150, seed)
    batch = batch_of(archived, engine, made, candidate.rule_lists)
    assert engine.needs <= batch.places.keys()
    decided = engine.decide(batch, frozenset())
    rule_set = candidate.scenes[scene].rule_set
    compared = 0
    for i, case in enumerate(made):
        if decided.outcomes.plain[i]:
            continue
        compared += 1
        plain = case.again(candidate)
        assert decided.outcomes.answer(i) == told(plain), (i, case.request)
        assert plain.trace is not None
        assert decided.verdicts[:, i].tobytes() == plain.trace.verdicts
        cells = _cells(rule_set.spec, decided, i)
        assert cells == sorted(plain.trace.cells)
    assert compared >= (0 if scene == "warning" else 40)


def _cells(spec, decided, i):  # type: ignore[no-untyped-def]
    found = []
    for row, block in enumerate(spec.blocks):
        if block.id in decided.hits:
            names = [*block.labels, "unknown"]
            found += [f"{block.id}:{names[k]}" for k in np.flatnonzero(decided.hits[block.id][:, i])]
        else:
            number = decided.cells[row, i]
            found.append(f"{block.id}:{'unknown' if number < 0 else block.labels[number]}")
    return sorted(found)

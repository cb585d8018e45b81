"""Shadows: scorecards that score what was decided, after the answer, and are only recorded.

    Done ──▶ numbers of the decision (the features of shadows are among them) ──▶ score ──▶ store, beside the decision

A shadow sees the very numbers that the champion saw, taken from the decision's trace, so the two can be compared row by
row. What it says is kept as JSON under the decision's id, and follows the decision in the outbox stream:

    {"behaviour": {"2026.12.2": {"points": 612, "pd": 0.0135, "grade": "C", "problem": null}}}

Nothing of it reaches an answer, a rule or the customer's state. It is a consumer of `afterwards.py`: a worker that is
killed loses what is in that queue, a store that fails loses the batch; either way the decision says that nothing was
recorded.

Scoring gives way after PIECE decisions, which two shadows of the shipped size score in 0.2 ms (25 us a decision, of
which walking the trees is 4 us a shadow: too little to hand to a thread); a batch is kept in one round trip (on a
cluster: one a partition, all under way at once).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import numpy as np
import orjson

from decision_service.afterwards import Done
from decision_service.core.decision import Score
from decision_service.core.scene import Scene
from decision_service.store import Store

PIECE: Final = 8  # decisions scored before others get a turn
STORE_TIMEOUT_S: Final = 2.0
ShadowScores = Mapping[str, Mapping[str, Mapping[str, Any]]]  # scorecard -> version -> points, pd, grade, problem
Told = Callable[[Sequence[tuple[Done, ShadowScores]]], Awaitable[None]]


class ShadowScoring:
    """Scores decisions with the shadows of the policy that made them."""

    def __init__(self, store: Store, told: Told | None = None) -> None:
        """`told` is given every batch of decisions with what was scored of them, once that is recorded."""
        self._store = store
        self._told = told

    async def take(self, batch: Sequence[Done]) -> None:
        """Score and record. StoreError: perhaps nothing of this batch is recorded."""
        records: dict[str, bytes] = {}
        scored: list[tuple[Done, ShadowScores]] = []
        for scene, dones in _by_scene(batch):
            for start in range(0, len(dones), PIECE):
                some = dones[start : start + PIECE]
                scores = shadow_scores(scene, [done.numbers for done in some])
                for done, told in zip(some, scores, strict=True):
                    records[done.decision.decision_id] = orjson.dumps(told)
                    scored.append((done, told))
                await asyncio.sleep(0)
        portions = self._store.together_decisions(records)
        await asyncio.gather(
            *(self._store.save_shadows({one: records[one] for one in ids}, STORE_TIMEOUT_S) for ids in portions)
        )
        if self._told is not None and scored:
            await self._told(scored)


def _by_scene(batch: Sequence[Done]) -> list[tuple[Scene, list[Done]]]:
    """The decisions that have shadows, in runs that one policy's scene made."""
    shadowed = (done for done in batch if done.policy.scenes[done.scene].shadow_slots)
    runs = groupby(shadowed, key=lambda done: (id(done.policy), done.scene))
    return [(dones[0].policy.scenes[dones[0].scene], dones) for dones in (list(run) for _, run in runs)]


def shadow_scores(scene: Scene, numbers: Sequence[bytes]) -> list[ShadowScores]:
    """What every shadow of a scene says of some of its decisions, by the numbers that their rules saw."""
    values = np.frombuffer(b"".join(numbers), "<f8").reshape(len(numbers), -1)
    told: list[dict[str, dict[str, Mapping[str, Any]]]] = [{} for _ in numbers]
    for slot in scene.shadow_slots:
        card = slot.scorecard
        for row, of_one in zip(values.take(slot.gather, axis=1), told, strict=True):
            of_one.setdefault(card.name, {})[card.version] = _told(card.score(row))
    return list(told)


def _told(score: Score) -> Mapping[str, Any]:
    return {"points": score.points, "pd": score.pd, "grade": score.grade, "problem": score.problem or None}

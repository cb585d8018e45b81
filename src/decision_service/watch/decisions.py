"""Decisions that scorecards had a part in, read back from the store's decision log.

    outbox of a partition ──page──▶ decision ids ──one command──▶ frames ──▶ Decided, one a decision

Partition by partition and page by page, so memory is that of a page whatever the store holds. The cost is a read of
every outbox entry and every frame between the two instants: some 6 kB and 60 us of this process a decision, at most a
page (OUTBOX_AT_ONCE entries) of the server's time at once. Nothing is written.

A frame names its policy; where each feature stands among its numbers is told by the description that the store keeps of
that policy. The scores, versions and roles are those that the answer rested on; nothing is scored again.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from decision_service.api.instants import parse_instant
from decision_service.core.decision import Score
from decision_service.core.limits import DAY_MS
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.decision_log import Frame, decode
from decision_service.policies.in_force import SAME_AS
from decision_service.store import Store
from decision_service.watch.counting import is_approved
from decision_service.watch.tally import Answered

STORE_TIMEOUT_S: Final = 10.0
_SLACK_MS: Final = DAY_MS  # between our clocks and the store's
_CHAMPION: Final = "champion"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Span:
    """From an instant up to before another, ms UTC; of the instants decisions were made at."""

    since_ms: int
    until_ms: int


class Scored(NamedTuple):
    """What one scorecard said of a decision, and in which role. `features` are the numbers that it saw."""

    scorecard: str
    role: str
    score: Score
    features: Floats


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision. `asked_at_ms` is the instant it is about: the request's, else the one it was made at."""

    decision_id: str
    customer_id: str
    scene: str
    decided_at_ms: int
    asked_at_ms: int
    answered: Answered
    scored: tuple[Scored, ...]


class DecisionLog:
    """The decisions of a store."""

    def __init__(self, store: Store, partitions: int) -> None:
        self._store = store
        self._partitions = partitions
        self._layouts: dict[tuple[str, str], Mapping[str, npt.NDArray[np.intp]]] = {}

    async def partitions(
        self, span: Span, note: Callable[[int], None] = lambda _partition: None
    ) -> AsyncIterator[AsyncIterator[Sequence[Decided]]]:
        """The pages of each partition, one partition after the other; `note` is told which is begun."""
        for partition in range(self._partitions):
            note(partition)
            yield self._pages(partition, span)

    async def _pages(self, partition: int, span: Span) -> AsyncIterator[Sequence[Decided]]:
        since_ms, until_ms = span.since_ms - _SLACK_MS, span.until_ms + _SLACK_MS
        after, begun = b"", False
        while after or not begun:
            begun = True
            after, ids = await self._store.outbox_decisions(partition, since_ms, until_ms, after, STORE_TIMEOUT_S)
            frames = await self._store.read_decisions(partition, ids, STORE_TIMEOUT_S)
            told = zip(ids, frames, strict=True)
            page = [await self._decided(decision_id, decode(frame)) for decision_id, frame in told if frame is not None]
            yield [one for one in page if span.since_ms <= one.decided_at_ms < span.until_ms]

    async def _decided(self, decision_id: str, frame: Frame) -> Decided:
        answer, rest = orjson.loads(frame.answer), frame.rest
        scene = answer.get("scene", DRAWDOWN_SCENE)
        layout = await self._layout(rest["policy_id"], scene)
        numbers = np.frombuffer(frame.numbers, "<f8")
        decided_at_ms = parse_instant(answer["decided_at"])
        occurred_at = orjson.loads(frame.request).get("occurred_at")
        hold = answer["hold"]
        return Decided(
            decision_id, answer["customer_id"], scene, decided_at_ms,
            decided_at_ms if occurred_at is None else parse_instant(occurred_at),
            Answered(
                answer["decision"], hold and hold["kind"],
                is_approved(scene, answer["decision"], answer["approved_amount"]), answer["rung"],
            ),
            tuple(
                Scored(
                    name, told[2] if len(told) > 2 else _CHAMPION, _score(answer["scores"][name], *told[:2]),
                    _features(numbers, layout.get(name)),
                )
                for name, told in rest["scorecards"].items()
            ),
        )  # fmt: skip

    async def _layout(self, policy_id: str, scene: str) -> Mapping[str, npt.NDArray[np.intp]]:
        """Where each scorecard's features stand among the numbers of a policy's scene; -1 for one that does not."""
        key = (policy_id, scene)
        if key not in self._layouts:
            described = await self._described(policy_id)
            told = described.get("scenes", {}).get(scene, described)
            places = {name: i for i, name in enumerate(told.get("numbers", ()))}
            self._layouts[key] = {
                card: np.array([places.get(name, -1) for name in names], np.intp)
                for card, names in told.get("scorecard_features", {}).items()
            }
        return self._layouts[key]

    async def _described(self, policy_id: str) -> dict[str, Any]:
        """A policy's description; nothing if it is not kept."""
        document = await self._store.read_policy(policy_id, STORE_TIMEOUT_S)
        described: dict[str, Any] = {} if document is None else orjson.loads(document)
        return await self._described(described[SAME_AS]) if SAME_AS in described else described


def _score(answered: Mapping[str, Any], version: str, problem: str) -> Score:
    return Score(answered["points"], answered["pd"], answered["grade"], version, problem)


def _features(numbers: Floats, places: npt.NDArray[np.intp] | None) -> Floats:
    if places is None:
        return np.empty(0)
    values = numbers.take(places, mode="clip")
    values[places < 0] = math.nan
    return values

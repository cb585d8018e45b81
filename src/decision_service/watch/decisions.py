"""Decisions that scorecards had a part in, read back from the decision log, with what became of them.

    archive and outbox of a partition ──page──▶ frames ──▶ decisions
                                                   └─ customers' logs ──▶ outcomes

Partition by partition and page by page, so memory is that of a page and of OUTCOMES_KEPT_MAX customers, whatever the
store holds. The cost is a read of every outbox entry and every frame between the two instants, and of the log of every
customer in them: some 6 kB and 100 us of this process a decision, at most a page (OUTBOX_AT_ONCE entries) of the
server's time at once. Nothing is written.

A frame names its policy; where each feature stands among its numbers is told by the description that the store keeps of
that policy. The scores, versions and roles are those that the answer rested on; nothing is scored again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from decision_service.api.instants import parse_instant
from decision_service.archive.all_decisions import AllDecisions
from decision_service.archive.all_decisions import Decision as KeptDecision
from decision_service.core.decision import Score
from decision_service.core.limits import DAY_MS
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.decision_log import Frame, decode
from decision_service.policies.in_force import SAME_AS
from decision_service.store import Store
from decision_service.watch.counting import is_approved, shadow_score
from decision_service.watch.manifests import CardName, Manifests
from decision_service.watch.outcomes import CustomerOutcomes, Outcome, outcomes_in
from decision_service.watch.said import CHAMPION, SHADOW, Said, said_by
from decision_service.watch.tally import Answered

if TYPE_CHECKING:
    from decision_service.archive.files import Archive

STORE_TIMEOUT_S: Final = 10.0
OUTCOMES_KEPT_MAX: Final = 10_000  # customers of a partition whose outcomes are remembered
READS_AT_ONCE: Final = 64
_SLACK_MS: Final = DAY_MS  # between our clocks and the store's

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Span:
    """From an instant up to before another, ms UTC; of the instants decisions were made at."""

    since_ms: int
    until_ms: int


class Scored(NamedTuple):
    """What one version of a scorecard said of a decision, in which role, the numbers that it saw (none if its manifest
    is not known), and what became of the customer by its target."""

    card: CardName
    role: str
    score: Score
    features: Floats
    outcome: Outcome = Outcome.IMMATURE


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
    """The decisions of a store and its archive; `manifests` tell of the scorecards that made them."""

    def __init__(self, store: Store, partitions: int, manifests: Manifests, archive: Archive | None = None) -> None:
        self._store = store
        self._kept = AllDecisions(store, partitions, archive)
        self._partitions = partitions
        self._manifests = manifests
        self._places: dict[tuple[str, str], dict[str, int]] = {}
        self._gathers: dict[tuple[str, str, CardName], npt.NDArray[np.intp] | None] = {}
        self._shadowed: dict[str, bool] = {}

    async def pages(
        self, span: Span, scene: str, begun: Callable[[int], None] = lambda _partition: None
    ) -> AsyncIterator[Sequence[Decided]]:
        """The decisions of a scene, without their outcomes, page by page; `begun` is told each partition. InvalidInput
        if some of them are in an archive whose address is not known."""
        await self._kept.refuse_unreachable(span.since_ms)
        for partition in range(self._partitions):
            begun(partition)
            async for page in self._partition(partition, span, scene):
                yield page

    async def pages_with_outcomes(
        self, span: Span, scene: str, by_ms: int, begun: Callable[[int], None] = lambda _partition: None
    ) -> AsyncIterator[Sequence[Decided]]:
        """The same with what became of the customers by an instant."""
        await self._kept.refuse_unreachable(span.since_ms)
        for partition in range(self._partitions):
            begun(partition)
            known: dict[str, dict[CardName, CustomerOutcomes]] = {}
            async for page in self._partition(partition, span, scene):
                yield await self._followed(page, by_ms, known)

    async def _partition(self, partition: int, span: Span, scene: str) -> AsyncIterator[Sequence[Decided]]:
        since_ms, until_ms = span.since_ms - _SLACK_MS, span.until_ms + _SLACK_MS
        async for told in self._kept.pages(partition, since_ms, until_ms):
            page = [await self._decided(one, decode(one.frame)) for one in told if one.frame is not None]
            wanted = [one for one in page if one.scene == scene and span.since_ms <= one.decided_at_ms < span.until_ms]
            if wanted:
                yield wanted

    async def _decided(self, kept: KeptDecision, frame: Frame) -> Decided:
        answer, rest = orjson.loads(frame.answer), frame.rest
        scene, policy_id = answer.get("scene", DRAWDOWN_SCENE), rest["policy_id"]
        await self._describe(policy_id, scene)
        numbers = np.frombuffer(frame.numbers, "<f8")
        said = [(name, one) for name, told in rest["scorecards"].items() for one in _said(answer["scores"][name], told)]
        if self._shadowed[policy_id]:
            said += await self._shadows(kept)
        decided_at_ms = parse_instant(answer["decided_at"])
        occurred_at = orjson.loads(frame.request).get("occurred_at")
        hold, approved = answer["hold"], is_approved(scene, answer["decision"], answer["approved_amount"])
        return Decided(
            kept.decision_id, answer["customer_id"], scene, decided_at_ms,
            decided_at_ms if occurred_at is None else parse_instant(occurred_at),
            Answered(answer["decision"], hold and hold["kind"], approved, answer["rung"]),
            tuple(self._scored(name, one, numbers, policy_id, scene) for name, one in said),
        )  # fmt: skip

    def _scored(self, name: str, said: Said, numbers: Floats, policy_id: str, scene: str) -> Scored:
        card = CardName(name, said.version)
        gather = self._gather(policy_id, scene, card)
        features = np.empty(0) if gather is None else _features(numbers, gather)
        return Scored(card, said.role, said.score, features)

    async def _shadows(self, kept: KeptDecision) -> list[tuple[str, Said]]:
        told = await self._kept.shadows(kept) or {}
        return [
            (name, Said(SHADOW, version, shadow_score(score, version)))
            for name, versions in told.items()
            for version, score in versions.items()
        ]

    def _gather(self, policy_id: str, scene: str, card: CardName) -> npt.NDArray[np.intp] | None:
        """Where a version's features stand among the numbers of a policy's scene; -1 for one that does not."""
        key = (policy_id, scene, card)
        if key not in self._gathers:
            manifest, places = self._manifests.manifest(card), self._places[policy_id, scene]
            self._gathers[key] = (
                None
                if manifest is None
                else np.array([places.get(name, -1) for name in manifest.names], np.intp)
            )  # fmt: skip
        return self._gathers[key]

    async def _describe(self, policy_id: str, scene: str) -> None:
        """Learn where a policy's scene has its numbers, and whether shadows look on."""
        if (policy_id, scene) not in self._places:
            described = await self._described(policy_id)
            told = described.get("scenes", {}).get(scene, described)
            self._places[policy_id, scene] = {name: i for i, name in enumerate(told.get("numbers", ()))}
            self._shadowed[policy_id] = self._shadowed.get(policy_id, False) or bool(told.get("shadows"))

    async def _described(self, policy_id: str) -> dict[str, Any]:
        """A policy's description; nothing if it is not kept."""
        document = await self._store.read_policy(policy_id, STORE_TIMEOUT_S)
        if document is None:
            return await self._kept.description(policy_id) or {}
        described: dict[str, Any] = orjson.loads(document)
        return await self._described(described[SAME_AS]) if SAME_AS in described else described

    # --- what became of them ------------------------------------------------------------------------------------

    async def _followed(
        self, page: Sequence[Decided], by_ms: int, known: dict[str, dict[CardName, CustomerOutcomes]]
    ) -> Sequence[Decided]:
        """The page with outcomes; `known` are those of customers of this partition."""
        if len(known) > OUTCOMES_KEPT_MAX:
            known.clear()
        cards: dict[str, set[CardName]] = {}
        for one in page:
            cards.setdefault(one.customer_id, set()).update(scored.card for scored in one.scored)
        unread = [(c, some) for c, some in cards.items() if not some <= known.get(c, {}).keys()]
        for start in range(0, len(unread), READS_AT_ONCE):
            some = unread[start : start + READS_AT_ONCE]
            logs = await asyncio.gather(*(self._store.read(customer, None, STORE_TIMEOUT_S) for customer, _ in some))
            for (customer, wanted), state in zip(some, logs, strict=True):
                known.setdefault(customer, {}).update(self._outcomes(state.log, wanted))
        return [_with_outcomes(one, known[one.customer_id], by_ms) for one in page]

    def _outcomes(self, log: bytes, cards: Iterable[CardName]) -> dict[CardName, CustomerOutcomes]:
        manifests = self._manifests
        return {card: outcomes_in(log, manifests.target(card), manifests.by_loan(card)) for card in cards}


def _with_outcomes(one: Decided, known: Mapping[CardName, CustomerOutcomes], by_ms: int) -> Decided:
    scored = tuple(
        said._replace(outcome=known[said.card].of(one.decision_id, one.asked_at_ms, by_ms)) for said in one.scored
    )
    return Decided(
        one.decision_id, one.customer_id, one.scene, one.decided_at_ms, one.asked_at_ms, one.answered, scored
    )  # fmt: skip


def _said(answered: Mapping[str, Any], told: Sequence[str]) -> tuple[Said, ...]:
    """What a frame tells of a scorecard; frames from before there were roles tell no role."""
    version, problem, *role = told
    return said_by(_score(answered, version, problem), role[0] if role else CHAMPION)


def _score(answered: Mapping[str, Any], version: str, problem: str) -> Score:
    return Score(answered["points"], answered["pd"], answered["grade"], version, problem)


def _features(numbers: Floats, gather: npt.NDArray[np.intp]) -> Floats:
    values = numbers.take(gather, mode="clip")
    values[gather < 0] = math.nan
    return values

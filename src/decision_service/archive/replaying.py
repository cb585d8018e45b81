"""Replaying: an archived decision is made again from its recorded inputs alone, and must come out the same.

    recorded                                            made again
      the changes before it (`histories.py`)              state: log prefix, facilities, attributes, version
      request body                                        parsed by the service's own parser
      snapshot of the facility as it was used             in the place of the one in the body, which may be dated ahead
      numbers that rest on entity logs                    put into their slots; all other numbers are computed
      policy id                                           compiled from the archive (`policies.py`), lists included
      decided_at                                          the clock
      latency and stage times                             copied: they are the clock's, and no decision rests on them

What comes out is compared as frames, byte for byte. The decision itself is `core.decide.decide`, untouched; a static
answer goes through `core.fallback.decide_static`, and whether a small amount might be paid is told by its cell.

A decision rests on nothing else. Whatever the buffers of a scene held before is overwritten with POISON first, so that
a decision which looked at a leftover of the one before it comes out different. What could still differ without anybody
recording it: the tz database (`zone_moved` tells), and the last bit of a floating-point result on another processor or
with another NumPy, Numba or libm.

Entity logs are not archived, so features of devices, payees and networks are taken as recorded: a replay shows that the
decision follows from them, not that they were counted right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from decision_service.answer import answer_bytes
from decision_service.archive.histories import Decided
from decision_service.archive.policies import LOADED_MAX, ArchivedPolicies
from decision_service.archive.rows import frame_of
from decision_service.archive.schema import Row
from decision_service.core.decide import decide
from decision_service.core.decision import Decision
from decision_service.core.event import Words
from decision_service.core.fallback import NOTHING_SEEN, SMALL_AMOUNT, decide_static
from decision_service.core.features.grains import CUSTOMER
from decision_service.core.features.plans import FeaturePlans
from decision_service.core.inputs import RequestWords
from decision_service.core.policy import Policy
from decision_service.core.scene import ChallengedSlots, Numbers, Scene, Scenes
from decision_service.decision_log import encode

POISON: Final = -7.25e77  # what no buffer holds when a decision begins, and every one does here
POISON_WORD: Final = -(2**61) - 7


class RecordedLinks(FeaturePlans):
    """Plans that read no entity log: what rests on one is taken from `recorded`, the rest computed as ever."""

    def __init__(self, plans: FeaturePlans) -> None:
        super().__init__(plans.plans, plans.first_slot)
        filled = sum(len(plans.plans[grain].names) for grain in plans.link_grains)
        self._filled = slice(plans.first_slot, plans.first_slot + filled)
        self._customer_plan = plans.plans[CUSTOMER]
        self.link_grains = ()  # nothing is to be read
        self.recorded: Numbers = np.empty(0)
        self.unread = False

    def compute(self, words: Words, links: Mapping[str, Words | None], row: RequestWords, numbers: Numbers) -> bool:
        """See `FeaturePlans.compute`."""
        del links
        numbers[self._filled] = self.recorded[self._filled]
        self._customer_plan.compute(words, row, numbers)
        return self.unread


class Unplayable(Exception):
    """What makes a frame impossible to compare: numbers of another layout, say."""


class Replayer:
    """Makes archived decisions again. One thread: policies own buffers."""

    def __init__(self, policies: ArchivedPolicies) -> None:
        self._policies = policies
        self._scenes: dict[bytes, Scenes] = {}  # by `Policy.content`
        self._ready: dict[str, Policy] = {}

    def policy(self, policy_id: str) -> Policy:
        """The policy as decisions are made again with it. Errors as `ArchivedPolicies.get`."""
        ready = self._ready.get(policy_id)
        if ready is not None:
            return ready
        policy = self._policies.get(policy_id)
        scenes = self._scenes.get(policy.content)
        if scenes is None:
            with_recorded = {name: replace(s, plan=RecordedLinks(s.plan)) for name, s in policy.scenes.items()}
            scenes = self._scenes[policy.content] = Scenes(with_recorded)
        if len(self._ready) >= LOADED_MAX:
            self._ready.clear()
        ready = self._ready[policy_id] = replace(policy, scenes=scenes)
        return ready

    def frame(self, one: Decided) -> bytes:
        """The frame that the decision of a row gets now. NotFound, ArchiveDamaged and the like if its policy cannot be
        had; whatever deciding raises."""
        row, rest = one.row, orjson.loads(one.row.rest or b"{}")
        policy = self.policy(row.policy_id or "")
        recorded: dict[str, Any] = orjson.loads(row.answer or b"{}")
        decided_at_ms = row.decided_at_ms or 0
        decision = self._static(one, policy) if is_static(row) else self._decide(one, policy)
        assert decision.trace is not None, "decisions keep their trace"
        latency_us = round(recorded["latency_ms"] * 1000)
        answer = answer_bytes(decision, latency_us, policy.zone.offset_at(decided_at_ms))
        return encode(decision, decision.trace, one.request, answer, rest["stages_us"])

    def _decide(self, one: Decided, policy: Policy) -> Decision:
        row = one.row
        scene = policy.scenes[one.request.scene]
        poison(scene)
        plan = scene.plan
        assert isinstance(plan, RecordedLinks)
        plan.recorded = np.frombuffer(row.numbers or b"", np.float64)
        plan.unread = row.rung == "no_links"
        if len(plan.recorded) != len(scene.numbers):
            raise Unplayable(f"numbers: {len(plan.recorded)} are recorded, the policy has {len(scene.numbers)}")
        return decide(one.request, one.state_before, policy, row.decided_at_ms or 0, row.decision_id or "")

    def _static(self, one: Decided, policy: Policy) -> Decision:
        row = one.row
        small = SMALL_AMOUNT in (row.cells or ())
        return decide_static(
            one.request, policy, row.decided_at_ms or 0, row.decision_id or "", small_allowed=small
        )  # fmt: skip


def is_static(row: Row) -> bool:
    """Whether a decision saw nothing of its customer."""
    return row.rung == "static" and row.read_version == NOTHING_SEEN


def poison(scene: Scene) -> None:
    """Overwrite what a scene's buffers hold."""
    scene.numbers.fill(POISON)
    scene.values.fill(POISON)
    scene.row.fill(POISON_WORD)
    for slots in scene.score_slots:
        slots.row.fill(POISON)
        if isinstance(slots, ChallengedSlots):
            slots.challenging.row.fill(POISON)


class Verdict(NamedTuple):
    """What became of one decision: equal if `recorded` is `replayed`."""

    recorded: bytes
    replayed: bytes
    policy: Policy

    @property
    def equal(self) -> bool:
        """Whether it came out the same, byte for byte."""
        return self.recorded == self.replayed


def replay(one: Decided, replayer: Replayer) -> Verdict:
    """Make a decision again. Errors as `Replayer.frame`."""
    replayed = replayer.frame(one)
    return Verdict(frame_of(one.row), replayed, replayer.policy(one.row.policy_id or ""))

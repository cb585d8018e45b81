"""Evaluating: deciding again, with the policy in shadow, what was decided; comparing; keeping the records.

    piece of decisions -> decide -> compare -> counted, metrics
                                            -> records -> store, SAVE_S apart

The inputs are those of the answer: request, state, links, the clock and the id. What they give is what the candidate
would have answered in its place, except that its own answer would have changed what came after it.

A shadow that raises has a record with the problem. One that does so for more than half of the last WINDOW decisions,
or takes more than SLOW_S of CPU for each of them, is `Broken`. A question of a scene that the candidate has no rule set
for is a problem of that decision alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from decision_service.core.decide import decide
from decision_service.core.decision import Decision
from decision_service.core.errors import InvalidInput, StoreError
from decision_service.core.policy import Policy
from decision_service.shadow_policy.counting import Counting, Pair
from decision_service.shadow_policy.meters import ShadowMeters
from decision_service.shadow_policy.record import Compared, active_side, body, differing, shadow_side
from decision_service.shadow_policy.wire import Sent, Told
from decision_service.store import Store

LOG = logging.getLogger("decision_service.shadow")
WINDOW: Final = 64
SLOW_S: Final = 0.01  # a shipped policy takes 0.0003
SAVE_S: Final = 0.25
RECORDS_MAX: Final = 8_192  # that wait for the store; further ones are lost, and counted
STORE_TIMEOUT_S: Final = 2.0
RAISED: Final = "raised "
Decide = Callable[..., Decision]


class Broken(Exception):
    """The shadow must not go on: `kind` is one of `meters.BREAKS`."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why


class Evaluating:
    """Evaluates what a worker decided."""

    def __init__(self, store: Store, counting: Counting, meters: ShadowMeters, decide: Decide = decide) -> None:
        self._store = store
        self._counting = counting
        self._meters = meters
        self._decide = decide
        self._active = Told("", "", {})
        self._records: dict[str, bytes] = {}
        self._lately: deque[tuple[bool, float]] = deque(maxlen=WINDOW)  # raised, CPU seconds
        self._told: set[str] = set()

    def note(self, active: Told) -> None:
        """What the decisions that follow were made by."""
        self._active = active

    def new_candidate(self) -> None:
        """Another policy is in shadow: it is judged by its own."""
        self._lately.clear()
        self._told.clear()

    def take(self, piece: Sequence[Sent], policy: Policy, plain_id: str) -> None:
        """Evaluate, count and note for the store. Broken."""
        for one in piece:
            began = time.thread_time()
            compared, decision = self._compare(one, policy)
            seconds = time.thread_time() - began
            self._lately.append((compared.problem.startswith(RAISED), seconds))
            self._meters.add_seconds(seconds)
            self._meters.count_compared(compared)
            self._counting.count(compared, Pair(self._active.id, plain_id, compared.scene), policy.zone)
            self._note(one.decision_id, body(compared, decision, policy, self._active.id))
        self._judge()

    def _compare(self, one: Sent, policy: Policy) -> tuple[Compared, Decision | None]:
        scene = one.request.scene
        active = active_side(one.active, self._active.rules[scene])
        decision, problem = None, ""
        try:
            decision = self._decide(one.request, one.state, policy, one.now_ms, one.decision_id)
        except InvalidInput as error:
            problem = f"{error.field}: {error.message}"
        except Exception as error:
            problem = f"{RAISED}{type(error).__name__}"
            if problem not in self._told:
                self._told.add(problem)
                LOG.error("the shadow policy failed; told once for %s", type(error).__name__, exc_info=error)
        if decision is None:
            return Compared(one.decision_id, one.now_ms, scene, active, None, "", (), problem), None
        shadow = shadow_side(decision, policy)
        differs = differing(active, shadow)
        return Compared(one.decision_id, one.now_ms, scene, active, shadow, decision.rung, differs, ""), decision

    def _judge(self) -> None:
        if len(self._lately) < WINDOW:
            return
        raised = sum(failed for failed, _ in self._lately)
        if 2 * raised > WINDOW:
            raise Broken("failing", f"raised for {raised} of the last {WINDOW} decisions")
        mean_s = sum(seconds for _, seconds in self._lately) / WINDOW
        if mean_s > SLOW_S:
            raise Broken("slow", f"{1e3 * mean_s:.1f} ms of CPU a decision; at most {1e3 * SLOW_S:g} are allowed")

    # --- records ----------------------------------------------------------------------------------------------------

    def _note(self, decision_id: str, record: bytes) -> None:
        if len(self._records) >= RECORDS_MAX:
            self._meters.count("lost")
            return
        self._records[decision_id] = record

    async def save(self) -> None:
        """Keep the records that wait. StoreError: what could not be kept still waits; giving it again does no harm."""
        records, self._records = self._records, {}
        try:
            for ids in self._store.together_decisions(records):
                await self._store.save_shadow_policy({one: records[one] for one in ids}, STORE_TIMEOUT_S)
        except StoreError:
            self._records = {**records, **self._records}
            raise

    async def work(self) -> None:
        """Keep records until cancelled."""
        while True:
            await asyncio.sleep(SAVE_S)
            try:
                await self.save()
            except StoreError as error:
                LOG.debug("records of the shadow policy wait: %s", error.message)
            except Exception:  # a mistake of ours must not end the keeping
                LOG.exception("records of the shadow policy could not be kept")

"""The watch over a new policy: are its first scores what its scorecards were trained to give (faults G07)?

The guard judges a candidate by what was decided before. What only shows afterwards (a feature that its new definition
leaves null for tomorrow's customers, a model that meets others than the guard kept) is seen here: each worker keeps the
scores of the first customers that it decides under a new policy and judges their spread (`score_spread`) at
CUSTOMERS_MIN of them and at every doubling. If it is too far off the fleet goes back to the policy before:

    worker A   scores of policy 7 far off ── notes why, publishes 5's content as 8, only if 7 is still the newest ── ok
    worker B   scores of policy 7 far off ── the same ── 7 is no longer the newest: follows 8, as all others do

So it happens once, however many workers find it out, and who was slower undoes nothing. What was gone back from is
noted by its content: no later rollback leads to it (each makes one content fewer to go back to, so they end), and
nobody puts it in force again without `force`. If it was edited before its scores were judged, the edit stays in force
(it may be what stops a fraud) and the worker tells that the scores are far off. A policy that was forced, one that
changes neither a scorecard nor a feature nor an attribute, and one that was published NEW_MS ago are not watched; a
restart of a worker does not make an old policy new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from decision_service.core.decision import Decision
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import ATTRIBUTES_FILE, FEATURES_FOLDER, Policy
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.policies.bundle import BundleHead
from decision_service.policies.score_spread import CUSTOMERS_MIN, ScoreSpread, cards_of, follows, spreads

NEW_MS: Final = DAY_MS


class ScoreWatch:
    """What one worker saw of the policy it watches. `customers_max` 0 watches none; `due` is set when it is time to
    `judge`."""

    def __init__(self, customers_max: int) -> None:
        self._customers_max = customers_max
        self._policy: Policy | None = None
        self._before_id = ""
        self._before: tuple[ScoreSpread, ...] = ()
        self._seen: dict[str, Decision] = {}
        self._judged_at = 0
        self.number = 0  # of the published policy that is watched, 0 for none
        self.edited = False  # what is watched is no longer what the scores came with
        self.due = asyncio.Event()

    def begin(self, number: int, policy: Policy, before: Policy | None, lately: Sequence[Decision]) -> None:
        """Watch a policy from now on; `lately` was decided by the one before."""
        if number == self.number:
            return
        self.end()
        if self._customers_max and policy.scorecards:
            self.number, self._policy = number, policy
            self._before_id = "" if before is None else before.id
            self._before = spreads(lately, cards_of(before))
            self._judged_at = min(CUSTOMERS_MIN, self._customers_max)

    def go_on(self, number: int, policy: Policy) -> None:
        """Watch the same scores under a policy that was edited since: somebody meant what it says besides, so nobody
        goes back from it by himself."""
        self.number, self._policy, self.edited = number, policy, True
        if self._judged_at <= len(self._seen):
            self.due.set()

    def end(self) -> None:
        """Watch nothing."""
        self.edited = False
        self.number, self._policy, self._seen, self._judged_at = 0, None, {}, 0
        self.due.clear()

    def keep(self, decision: Decision) -> None:
        """Take note of a drawdown that was committed; one that the policy before decided, which was in flight when it
        was replaced, is passed over."""
        if not self.number or decision.scene != DRAWDOWN_SCENE or decision.policy_id == self._before_id:
            return
        if len(self._seen) < self._customers_max:
            self._seen[decision.customer_id] = decision
            if len(self._seen) == self._judged_at:
                self.due.set()

    @property
    def spreads(self) -> tuple[ScoreSpread, ...]:
        """The scores seen so far."""
        return spreads(self._seen.values(), cards_of(self._policy))

    def judge(self) -> str:
        """What is too far off, in words, empty if nothing is; the watch ends when all is well with enough customers."""
        off = [told for spread in self.spreads if (told := spread.off(follows(spread, self._before)))]
        if off:
            return "; ".join(off)
        if len(self._seen) >= self._customers_max:
            self.end()
        while 0 < self._judged_at <= len(self._seen):  # more may have come since it was due
            self._judged_at = min(2 * self._judged_at, self._customers_max)
        return ""

    def as_json(self) -> dict[str, Any] | None:
        """For a machine; None while nothing is watched."""
        if not self.number:
            return None
        return {
            "number": self.number, "customers": len(self._seen), "customers_max": self._customers_max,
            "scores": [spread.as_json() for spread in self.spreads],
        }  # fmt: skip


def is_watched(heads: Mapping[int, BundleHead], number: int, now_ms: int) -> bool:
    """Whether a published policy is new and scores otherwise than the one before it. `heads` are newest first."""
    older = next((head for n, head in heads.items() if n < number), None)
    head = heads.get(number)
    if head is None or older is None or head.forced or now_ms - head.at_ms > NEW_MS:
        return False
    return _what_scores(head) != _what_scores(older)


def still_scores_so(heads: Mapping[int, BundleHead], watched: int, number: int) -> bool:
    """Whether a published policy is an edit of the one that is watched, and scores as that one does."""
    before, head = heads.get(watched), heads.get(number)
    if before is None or head is None or head.forced or head.rollback is not None:
        return False
    return _what_scores(before) == _what_scores(head)


def _what_scores(head: BundleHead) -> tuple[Any, ...]:
    named = ((name, digest) for name, digest in head.files.items() if name.startswith(FEATURES_FOLDER))
    return (head.scorecards, head.files.get(ATTRIBUTES_FILE), *sorted(named))

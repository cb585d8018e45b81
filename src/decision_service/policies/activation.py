"""Activation: how a content becomes the policy in force, here and in the fleet.

    content -> compiled in a thread -> judged by the guard -> published under the next number -> in force
       `compile`                        `rehearse`            `publish`, `lead`                  `PolicyInForce.take`

Whichever way it came, `compile` also asks whether it is signed as the settings want (`policies/signatures.py`).

`publish` and `restore` are asked for by somebody and raise what is wrong; `lead` takes what this host's disk holds, and
while the store is away has it in force here alone, to be published later; `follow` takes what others published, which
the guard has judged where it was published. A candidate that fails anywhere changes nothing. What is in force and new
is watched (`score_watch`); `roll_back` leads the fleet back from it.

The caller sees to it that one runs at a time (`ActivePolicy` holds the lock).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from decision_service.core.errors import NotFound, PolicyRejected, ScorecardRejected, StoreError, VersionMoved
from decision_service.policies.bundle import Content
from decision_service.policies.guard import ActivationGuard, Rehearsal, has_evidence
from decision_service.policies.in_force import FLEET, SCORES, PolicyInForce
from decision_service.policies.published import PublishedPolicies
from decision_service.policies.score_watch import ScoreWatch, is_watched, still_scores_so
from decision_service.policies.source import Candidate, Source
from decision_service.store import FleetNumbers, Store

LOG = logging.getLogger("decision_service.policy")


class PolicyActivation:
    """The ways into force. `known` is what this worker has dealt with of the fleet's numbers."""

    def __init__(
        self, source: Source, store: Store, now_ms: Callable[[], int], guard: ActivationGuard, watch: ScoreWatch,
        in_force: PolicyInForce,
    ) -> None:  # fmt: skip
        self._source = source
        self._now_ms = now_ms
        self.guard = guard
        self.watch = watch
        self._in_force = in_force
        self.published = PublishedPolicies(store, now_ms, source.signatures)
        self.known = FleetNumbers(-1, 0)
        self.unpublished: Candidate | None = None
        self._unpublished_forced = False
        self.rehearsal: Rehearsal | None = None  # of the last candidate that this worker was first to load
        self.compiles = 0  # candidates since the start

    async def compile(self, content: Content) -> Candidate:
        """The candidate a content means. PolicyRejected, ScorecardRejected."""
        self.compiles += 1
        candidate = await asyncio.to_thread(self._source.compile, content)
        with suppress(StoreError):  # asked again before it is published
            await self.published.learn_serial()
        self.published.check_serial(candidate.policy)
        return candidate

    async def rehearse(self, candidate: Candidate, *, force: bool) -> None:
        """Judge a candidate by what was decided lately. PolicyRejected, unless it is forced."""
        policy = self._in_force.with_lists(candidate.policy)
        active = self._in_force.policy
        self.rehearsal = await asyncio.to_thread(self.guard.rehearse, policy, active, self.guard.lately)
        if force:
            return
        with suppress(StoreError):
            await self.published.refuse_rolled_back(candidate.content)
        if not has_evidence(self.rehearsal):
            await self.refuse_as_others_did(candidate.content)
        try:
            self.guard.refuse(self.rehearsal, policy)
        except PolicyRejected as error:
            with suppress(StoreError):
                await self.published.note_refusal(candidate.content, error)
            raise

    async def refuse_as_others_did(self, content: Content) -> None:
        """PolicyRejected if the guard of a worker refused it: one that decided little, or just started, must not
        put in force what another has shown to be a mistake."""
        with suppress(StoreError):
            if not self.guard.takes_any:
                await self.published.refuse_noted(content)
                await self.published.refuse_rolled_back(content)

    async def publish(self, files: Mapping[str, str], by: str, *, force: bool) -> int:
        """Compile these files, publish and activate them; their number. PolicyRejected, ScorecardRejected, StoreError:
        then nothing changed."""
        content = await asyncio.to_thread(self._source.with_files, files)
        return await self._publish(content, by, "publish", force=force)

    async def restore(self, number: int, by: str, *, force: bool) -> int:
        """Publish the content of an earlier number again; its new number. NotFound, and as `publish`."""
        content = await self.published.content(number)
        return await self._publish(content, by, f"restore of {number}", force=force)

    async def _publish(self, content: Content, by: str, origin: str, *, force: bool) -> int:
        candidate = await self.compile(content)
        await self.rehearse(candidate, force=force)
        policy = self._in_force.with_lists(candidate.policy)
        number = await self.published.publish(content, policy, by, origin, None, forced=force)
        await self.activate(candidate, number)
        self._in_force.all_is_fine()
        return number

    async def lead(self, candidate: Candidate, by: str, noticed: int | None, *, force: bool = False) -> None:
        """Publish what was read from disk and switch to it. While the store is away it is in force here alone, and
        published later."""
        policy = self._in_force.with_lists(candidate.policy)
        try:
            number = await self.published.publish(candidate.content, policy, by, "disk", noticed, forced=force)
        except StoreError as error:
            LOG.warning("policy %s is not published yet: %s", policy.id, error.message)
            await self.activate(candidate, 0)
            self.unpublished, self._unpublished_forced = candidate, force
            return
        self.unpublished = None
        if number:
            await self.activate(candidate, number)

    async def lead_late(self, candidate: Candidate, by: str) -> None:
        """Publish what could not be while the store was away, unless the fleet has gone further meanwhile."""
        await self.lead(candidate, by, self.known.published, force=self._unpublished_forced)

    async def lead_again(self, newest: int, by: str) -> None:
        """Publish what is in force again if it was the newest, which the store has forgotten: it knows only what came
        up to `newest`. One worker does, the others find it there. StoreError."""
        in_force = self._in_force
        ran_the_newest = in_force.bundle == self.known.published
        self.known = self.known._replace(published=newest)
        if ran_the_newest and in_force.content is not None:
            in_force.bundle = await self.published.publish(in_force.content, in_force.current, by, "known", newest)
            self.known = self.known._replace(published=max(in_force.bundle, newest))

    async def follow(self, number: int) -> None:
        """Take the policy published under a number; if it cannot be, this worker keeps its own. StoreError."""
        try:
            head = await self.published.head(number)
            if self._in_force.runs(head.digest):
                self._in_force.bundle, self._in_force.rollback = number, head.rollback
            else:
                content = await self.published.content(number)
                await self.published.learn_serial()
                await self.activate(await self.compile(content), number)
        except (PolicyRejected, ScorecardRejected, NotFound) as error:
            self._in_force.refuse(FLEET, error, f"published policy {number}: ")
        else:
            self._in_force.problems[FLEET] = ""
        self.known = self.known._replace(published=number)

    async def activate(self, candidate: Candidate, number: int) -> None:
        """Put a candidate in force that is published under a number (0: not yet)."""
        self.known = self.known._replace(published=max(self.known.published, number))
        self.unpublished = None
        before = self._in_force.policy
        await self._in_force.take(candidate, number)
        heads = {}
        with suppress(StoreError):  # without a store nothing is decided that could be watched
            heads = await self.published.heads() if number else {}
        self._in_force.rollback = heads[number].rollback if number in heads else None
        if is_watched(heads, number, self._now_ms()):
            gone_back = self._in_force.rollback is not None  # from scores that are nothing to go by
            lately = [] if gone_back else [decision for _, _, decision in self.guard.lately]
            self.watch.begin(number, self._in_force.current, before, lately)
        elif self.watch.number and still_scores_so(heads, self.watch.number, number):
            self.watch.go_on(number, self._in_force.current)
        else:
            self.watch.end()

    async def roll_back(self, reason: str, by: str) -> int:
        """Lead the fleet back from the policy that is watched to the newest before it that nobody went back from and
        that still compiles here; its new number. 0 if there is none, or if the fleet has gone on already. StoreError.
        """
        number, content = self.watch.number, self._in_force.content
        heads = await self.published.heads()
        if content is None or number != next(iter(heads), 0):
            return 0  # what is the newest is about to be followed, and judged if it scores as this does
        if self.watch.edited:
            self.watch.end()
            self._in_force.cannot_stay(SCORES, f"{reason}; not gone back from: it was edited since these scores came")
            return 0
        await self.published.note_rollback(content.digest, reason)
        for earlier in heads:
            candidate = await self._gone_back_to(earlier, content.digest)
            if candidate is None:
                continue
            try:
                new = await self.published.roll_back(
                    number, candidate.content, self._in_force.with_lists(candidate.policy), by, reason
                )
            except VersionMoved:  # another worker was first, or somebody published: this one follows
                return 0
            LOG.error("policy %d was rolled back to %d, now %d: %s", number, earlier, new, reason)
            await self.activate(candidate, new)
            return new
        self.watch.end()
        self._in_force.cannot_stay(SCORES, f"{reason}; no earlier policy can be gone back to")
        return 0

    async def _gone_back_to(self, number: int, left: str) -> Candidate | None:
        """An earlier policy, compiled, unless it is the one that is left or was left before."""
        try:
            content = await self.published.content(number)
            if content.digest == left or await self.published.rollback_reason(content.digest):
                return None
            return await self.compile(content)
        except (PolicyRejected, ScorecardRejected, NotFound) as error:
            LOG.warning("published policy %d cannot be gone back to: %s", number, error.message)
            return None

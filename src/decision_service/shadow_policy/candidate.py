"""The candidate: which policy is in shadow in this process, and why it is not a newer one.

    published to the fleet (`rules publish --shadow`)   goes before
    the directory of the settings                        of this host

Both are followed: the number in the store four times a second with the lists, the directory as workers follow theirs
(`policies/disk_watch.py`). A candidate is compiled in a thread beside the one in shadow and takes its place between two
decisions; one that cannot be taken changes nothing but `standing`. When what is published is stopped, the directory
counts again, and without one nothing is in shadow.

A policy is in shadow once its lists are known, and its description and everything it was made of are kept in the store
(as those of policies in force are): so the report knows its label in a year, and what it said can be had again. No
signatures are asked for: a shadow decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final

import orjson

from decision_service.core.errors import DecisionServiceError, NotFound, PolicyRejected, ScorecardRejected, StoreError
from decision_service.core.policy import Policy
from decision_service.policies.bundle import Content
from decision_service.policies.disk_watch import DiskWatch
from decision_service.policies.in_force import SAME_AS
from decision_service.policies.source import Candidate, NotAtRest, PolicySource
from decision_service.policies.sources import PolicySources
from decision_service.shadow_policy.published import PublishedShadow
from decision_service.shadow_policy.standing import DISK, PUBLISHED, Standing
from decision_service.store import Store
from decision_service.warm import warm

LOG = logging.getLogger("decision_service.shadow")
FOLLOW_S: Final = 0.25
AGAIN_S: Final = 60.0  # a trial of a scorecard that got no turn on a busy machine is no refusal for ever
STORE_TIMEOUT_S: Final = 2.0


class ShadowCandidate:
    """What is in shadow. `tell` is given every new standing."""

    def __init__(
        self, source: PolicySource, store: Store, tell: Callable[[Standing], None], *, follows_disk: bool
    ) -> None:
        """`source` has the directories of the shadow; without `follows_disk` only what is published counts."""
        self.policy: Policy | None = None
        self.plain_id = ""  # of its content, without lists
        self._source = source
        self._store = store
        self._tell = tell
        self._published = PublishedShadow(store)
        self._follows_disk = follows_disk
        self._standing = Standing("starting")
        self._number = -1  # published, that was dealt with last
        self._again_at = math.inf  # what was refused for a scorecard is tried again
        self._lists_version = -1
        self._described, self._described_plain = "", ""
        self._sources = PolicySources(store, source.models)
        self._compiled: tuple[Candidate, Standing] | None = None  # what will stand once its lists are known
        self._content: Content | None = None
        self._lock = asyncio.Lock()
        self._disk = DiskWatch(source, self._disk_changed, lambda: None)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to follow."""
        if self._follows_disk:
            await self._disk.start()
        self._tasks.append(asyncio.create_task(self._poll()))
        if self._follows_disk:
            self._tasks += [asyncio.create_task(loop) for loop in (self._disk.scan(), self._disk.notice())]

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _poll(self) -> None:
        while True:
            try:
                async with self._lock:
                    await self.follow()
            except StoreError:
                pass  # it is asked again
            except Exception:  # a shadow that stopped following would be compared under a wrong name
                LOG.exception("could not follow what is in shadow")
            await asyncio.sleep(FOLLOW_S)

    async def follow(self) -> None:
        """Take what is newly published, or the directory where nothing is; take over moved lists. StoreError."""
        number = (await self._store.read_fleet(STORE_TIMEOUT_S)).shadow
        if number != self._number or time.monotonic() >= self._again_at:
            self._again_at = math.inf
            if self._number > 0 and self._standing.source == PUBLISHED and not number:
                self._drop()
            await (self._take_published(number) if number else self._take_disk())
            self._number = number
        await self._follow_lists()

    async def _disk_changed(self) -> bool:
        async with self._lock:
            if self._number > 0:
                return True
            try:
                await self._take_disk(at_rest=False)
            except NotAtRest:
                return False
        return True

    async def _take_published(self, number: int) -> None:
        try:
            content = await self._published.content(number)
            candidate = await asyncio.to_thread(self._source.compile, content)
        except (PolicyRejected, ScorecardRejected, NotFound) as error:
            self._refuse(PUBLISHED, number, error)
        else:
            await self._take(candidate, PUBLISHED, number)

    async def _take_disk(self, *, at_rest: bool = True) -> None:
        if not self._follows_disk:
            self._stand(Standing("off"))
            return
        try:
            read = self._source.read_when_at_rest if at_rest else self._source.read
            content = await asyncio.to_thread(read)
            candidate = await asyncio.to_thread(self._source.compile, content)
        except (PolicyRejected, ScorecardRejected) as error:
            self._refuse(DISK, 0, error)
        else:
            await self._take(candidate, DISK, 0)

    async def _take(self, candidate: Candidate, source: str, number: int) -> None:
        policy = candidate.policy
        await asyncio.to_thread(warm, policy)
        self._lists_version = -1
        self._compiled = candidate, Standing(
            "shadowing", policy.with_lists({}).id, policy.label, source, number,
            scorecards={card.name: card.version for card in policy.scorecards.values()},
            rules=sum(len(scene.rule_set.rules) for scene in policy.scenes.values()),
        )  # fmt: skip

    def _refuse(self, source: str, number: int, error: DecisionServiceError) -> None:
        """Say why it is not taken; what is in shadow from the same source stays."""
        if isinstance(error, ScorecardRejected):
            self._again_at = time.monotonic() + AGAIN_S
        if self._standing.source != source:
            self._drop()
        found = error.diagnostics if isinstance(error, PolicyRejected) else ()
        told = tuple(diagnostic.as_json() for diagnostic in found)
        stays = self._standing
        LOG.warning("a policy from %s is not taken into shadow: %s", source, error.code)
        self._stand(
            Standing("shadowing" if self.policy else "refused", self.plain_id, stays.label, source,
                     stays.number if self.policy else number, error.message, told, stays.scorecards, stays.rules)
        )  # fmt: skip

    def _drop(self) -> None:
        self.policy, self.plain_id, self._compiled = None, "", None
        self._standing = Standing("starting")

    def _stand(self, standing: Standing) -> None:
        self._standing = standing
        self._tell(standing)

    async def _follow_lists(self) -> None:
        """Take over the lists as the store has them now, and what was compiled meanwhile. StoreError."""
        compiled = self._compiled
        policy = self.policy if compiled is None else compiled[0].policy
        if policy is None:
            return
        version, lists = await self._store.read_lists(self._lists_version, STORE_TIMEOUT_S)
        policy = policy if lists is None else policy.with_lists(lists)
        content = self._content if compiled is None else compiled[0].content
        await self._describe(policy, content)
        self.policy, self._content, self._lists_version = policy, content, version
        if compiled is not None:
            self._compiled, self.plain_id = None, compiled[1].policy_id
            self._stand(compiled[1])
            LOG.info("policy %s (%s) is in shadow, from %s", self.plain_id, policy.label, compiled[1].source)

    async def _describe(self, policy: Policy, content: Content | None) -> None:
        if self._described == policy.id:
            return
        plain = policy.with_lists({})
        if self._described_plain != plain.id:
            await self._store.save_policy(plain.id, orjson.dumps(plain.describe()), STORE_TIMEOUT_S)
        if policy.id != plain.id:
            await self._store.save_policy(policy.id, orjson.dumps({SAME_AS: plain.id}), STORE_TIMEOUT_S)
        if content is not None:
            await self._sources.save(policy, content)
        self._described, self._described_plain = policy.id, plain.id

"""The policy on this host's disk: when it is news, and taking it if it is.

What lies on a disk is news only once: a worker publishes what it reads there unless those files were published before
and it has not seen them change. So a host that was away, or whose disk is old, follows the fleet and never leads it
back; `force` says that going back is meant, and so does an edit. At the start nothing has been seen to change. The
worker that is first to load a candidate also lets the guard judge it (`policies/guard.py`), unless it is forced.

Files that hold what is in force already, or what was just refused, are not compiled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from decision_service.core.errors import DecisionServiceError, PolicyRejected, ScorecardRejected, StoreError
from decision_service.policies.activation import PolicyActivation
from decision_service.policies.bundle import BundleHead, Content
from decision_service.policies.in_force import DISK, PolicyInForce
from decision_service.policies.published import left_behind
from decision_service.policies.source import Candidate, Source


class PolicyOnDisk:
    """What this host's disk holds, and held when it last compiled."""

    def __init__(self, source: Source, activation: PolicyActivation, in_force: PolicyInForce) -> None:
        self._source = source
        self._activation = activation
        self._in_force = in_force
        self._refused = ""  # digest of what it held when it last did not compile
        self.good: Content | None = None  # what it held when it last did
        self.noticed = 0  # the newest number when it had last not changed

    async def start(self, heads: dict[int, BundleHead], by: str) -> DecisionServiceError | None:
        """Take what is on disk, unless the fleet has left it behind; why it cannot be taken."""
        try:
            content = await asyncio.to_thread(self._source.read_when_at_rest)
            if left_behind(content, heads):
                self.good = content
                return None
            if content.digest not in {head.digest for head in heads.values()}:
                await self._activation.refuse_as_others_did(content)
            await self._activation.lead(await self._activation.compile(content), by, None)
        except (PolicyRejected, ScorecardRejected) as error:
            return error
        return None

    async def load(
        self, read: Callable[[], Content], by: str, noticed: int, *, asked: bool = False, force: bool = False
    ) -> None:
        """Take what is on disk if it is news. NotAtRest. `noticed`: the newest number when it was found."""
        try:
            content = await asyncio.to_thread(read)
            if content.digest == self._refused and not asked:
                return
            if await self._is_news(content, asked=asked, force=force):
                wanted = content if force else await asyncio.to_thread(self._with_files_in_force, content)
                candidate = await self._compiled(wanted, content, force=force)
                await self._activation.lead(candidate, by, None if force else noticed, force=force)
        except (PolicyRejected, ScorecardRejected) as error:
            self._in_force.refuse(DISK, error)
        else:
            self.good = content
            self._in_force.disk_is_fine()

    async def _compiled(self, wanted: Content, on_disk: Content, *, force: bool) -> Candidate:
        self._refused = on_disk.digest
        candidate = await self._activation.compile(wanted)
        await self._activation.rehearse(candidate, force=force)
        self._refused = ""
        return candidate

    async def _is_news(self, content: Content, *, asked: bool, force: bool) -> bool:
        """Whether what is on disk should take the place of what is in force."""
        if self._in_force.runs(content.digest):
            return False
        if force or self.good is None or content.digest != self.good.digest:
            return True
        return asked and not left_behind(content, await self.heads())

    async def heads(self) -> dict[int, BundleHead]:
        """The published policies, none while the store is away."""
        try:
            return await self._activation.published.heads()
        except StoreError:
            return {}

    def _with_files_in_force(self, content: Content) -> Content:
        """What is on disk; where only the scorecards are new, beside the files that are in force, which may be later
        ones than those on disk, and name other versions."""
        active = self._in_force.content
        same = self.good is not None and self.good.file_digests == content.file_digests
        if not same or active is None:
            return content
        if active.files == content.files:
            return content
        return self._source.with_files(active.sent_files)

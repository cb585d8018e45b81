"""Kept decisions: a decision by its id, from wherever it is kept, as the JSON that explains it.

    journal   it waits to be delivered           store   while its frame is there            archive   ever after

The same frame gives the same JSON whichever of them has it. While the store is away the archive is asked, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from decision_service.core.errors import Erased, NotFound, StoreError
from decision_service.decision_log import decode
from decision_service.scorecards.shadows import ShadowScores
from decision_service.store.keys import partition_of_decision
from decision_service.trace import NO_POLICY, render_trace

if TYPE_CHECKING:
    from decision_service.archive.archived_decisions import ArchivedDecisions
    from decision_service.policies.active_policy import ActivePolicy
    from decision_service.store import Store

Source = Literal["journal", "store", "archive"]


class Kept(NamedTuple):
    """A decision with its trace as JSON, and where it was kept."""

    body: bytes
    source: Source


class InShadow(NamedTuple):
    """What was said of a decision that had no part in it, as far as it is recorded: by shadow scorecards, and by the
    policy in shadow."""

    scores: ShadowScores | None = None
    policy: dict[str, Any] | None = None


class KeptDecisions:
    """Decisions that were made. `archived` is None where no archive is configured; `journalled` tells the frame of a
    decision that waits in the journal of this host."""

    def __init__(
        self, store: Store, active: ActivePolicy, archived: ArchivedDecisions | None, timeout_s: float,
        journalled: Callable[[str], bytes | None],
    ) -> None:  # fmt: skip
        self._store = store
        self._active = active
        self._archived = archived
        self._timeout_s = timeout_s
        self._journalled = journalled

    async def decision(self, decision_id: str) -> Kept:
        """A decision with its full trace. NotFound, Erased, StoreError, ArchiveUnavailable."""
        if partition_of_decision(decision_id) is None:
            raise NotFound("no such decision")
        journalled = self._journalled(decision_id)
        if journalled is not None:
            return Kept(await self.explained(journalled, InShadow()), "journal")
        away: StoreError | None = None
        try:
            frame, said = await asyncio.gather(
                self._store.read_decision(decision_id, self._timeout_s), self.said_in_shadow(decision_id)
            )
        except StoreError as error:
            if self._archived is None:
                raise
            frame, said, away = None, InShadow(), error
        if frame is not None:
            return Kept(await self.explained(frame, said), "store")
        body = await self._from_archive(decision_id)
        if body is not None:
            return Kept(body, "archive")
        raise NotFound("no such decision") if away is None else away

    async def said_in_shadow(self, decision_id: str) -> InShadow:
        """What the store has of what was said in shadow. StoreError."""
        scores, record = await asyncio.gather(
            self._store.read_shadows(decision_id, self._timeout_s),
            self._store.read_shadow_policy(decision_id, self._timeout_s),
        )
        return InShadow(
            None if scores is None else orjson.loads(scores), None if record is None else orjson.loads(record)
        )

    async def _from_archive(self, decision_id: str) -> bytes | None:
        if self._archived is None:
            return None
        found = await self._archived.decision(decision_id, self._timeout_s)
        if found is None:
            return None
        if found.erased:
            raise Erased("what this decision told of a person was erased", found.remains)
        return await self.explained(found.frame(), InShadow(found.shadows, found.shadow_policy))

    async def explained(self, frame: bytes, said: InShadow) -> bytes:
        """A frame as JSON: the answer's fields and the trace."""
        taken = decode(frame)
        policy_id = taken.rest["policy_id"]
        description = await self._description(policy_id) if policy_id else NO_POLICY
        trace = await asyncio.to_thread(render_trace, taken, description, self._active.all_scorecards, said.scores)
        return orjson.dumps({**orjson.loads(taken.answer), "trace": {**trace, "shadow_policy": said.policy}})

    async def _description(self, policy_id: str) -> dict[str, Any]:
        """What a policy was: as the store keeps it, else from the archive. NotFound."""
        try:
            return await self._active.description(policy_id)
        except (NotFound, StoreError):
            if self._archived is None or (kept := await self._archived.policy(policy_id, self._timeout_s)) is None:
                raise
            return kept

"""Guards of the service, broken one at a time, to see whether the simulator notices.

Each of GUARDS is a context manager that takes one guard away and puts it back, and the invariants of which one must be
reported. Nothing else than the guard is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, Final
from unittest.mock import patch

from sim_disk import SimJournal
from sim_store import Server, SimStore

import decision_service.core.fallback as fallback_module
import decision_service.recording as recording_module
import decision_service.service as service_module
import decision_service.static_answers as static_module
from decision_service.core.errors import DecisionServiceError, OutcomeUnknown, StoreUnavailable, VersionMoved
from decision_service.core.request import DecisionRequest
from decision_service.journal import StaticRow
from decision_service.journal.delivery import Delivery
from decision_service.journal.memory import MemorySentTable
from decision_service.judge import ACCEPTED
from decision_service.service import DecisionService
from decision_service.static_answers import StaticAnswers
from decision_service.store import Commit, CustomerState
from decision_service.store.keys import partition_of
from decision_service.store.memory import MemoryStore
from decision_service.turns import Turns

Broken = Callable[[], AbstractContextManager[Any]]


def no_sent_table() -> AbstractContextManager[Any]:
    """Nobody remembers what was sent: static answers are given beside commits."""
    return patch.object(MemorySentTable, "holds", lambda *_: False)


def unknown_taken_for_nothing_written() -> AbstractContextManager[Any]:
    """A commit whose reply is lost is said not to have happened."""
    commit = SimStore.commit

    async def broken(self: SimStore, change: Commit, timeout_s: float) -> int:
        try:
            return await commit(self, change, timeout_s)
        except OutcomeUnknown as error:
            raise StoreUnavailable(error.message) from None

    return patch.object(SimStore, "commit", broken)


def decided_again_after_unknown() -> AbstractContextManager[Any]:
    """After a lost reply the request is answered anew instead of asked for."""

    ask_again = DecisionService._ask_again

    async def broken(
        self: DecisionService, request: DecisionRequest, decision_id: str, deadline: float, lost: OutcomeUnknown
    ) -> Any:
        static = self._static
        if static is None:
            return await ask_again(self, request, decision_id, deadline, lost)
        with patch.object(static.sent, "holds", lambda _: False):
            return await static.answer(request, decision_id, self._clock(), deadline + 0.002, lost)

    return patch.object(DecisionService, "_ask_again", broken)


def no_version_check() -> AbstractContextManager[Any]:
    """The store takes every commit, whatever happened since the state was read."""
    checked = MemoryStore.commit

    async def broken(self: MemoryStore, commit: Commit, timeout_s: float) -> int:
        if commit.decision is None or commit.decision[0] not in self._decisions:
            version = self._customers.get(commit.customer_id, CustomerState()).version
            commit = commit._replace(expected_version=version)
        return await checked(self, commit, timeout_s)

    return patch.object(MemoryStore, "commit", broken)


def answer_told_before_it_is_durable() -> AbstractContextManager[Any]:
    """The journal says a row is written when the writer thread has not seen it yet."""
    write = SimJournal.write

    async def broken(self: SimJournal, row: StaticRow) -> StaticRow | None:
        earlier = self._disk.journal.find(row.decision_id)
        if earlier is not None or row.approved_minor:
            return await write(self, row)
        self._loop.create_task(_quietly(write(self, row)))
        return row

    return patch.object(SimJournal, "write", broken)


async def _quietly(writing: Any) -> None:
    with suppress(DecisionServiceError):
        await writing


def deadline_not_kept() -> AbstractContextManager[Any]:
    """Store calls may take ten seconds, whatever the caller asked for."""
    return patch.object(service_module, "time_left", lambda _left_s: 10.0)


@contextmanager
def small_amounts_without_bound() -> Iterator[None]:
    """Any amount is paid on a snapshot alone."""

    def broken(request: DecisionRequest, _policy: Any, _now_ms: int) -> bool:
        return request.facility is not None

    with patch.object(fallback_module, "may_be_paid", broken), patch.object(static_module, "may_be_paid", broken):
        yield


@contextmanager
def content_not_compared() -> Iterator[None]:
    """A repeat is answered whatever its content."""
    with (
        patch.object(DecisionService, "_refuse_other_content", staticmethod(lambda *_: None)),
        patch.object(static_module, "fingerprint_of", lambda _: _Anything()),
    ):
        yield


class _Anything:
    """Not unlike anything."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


@contextmanager
def journal_not_looked_at() -> Iterator[None]:
    """Who decides does not ask whether a static answer was told."""
    with (
        patch.object(StaticAnswers, "told_before", lambda *_: None),
        patch.object(StaticAnswers, "refuse_told_meanwhile", lambda *_: None),
        patch.object(StaticAnswers, "deliver_rows_of", _nothing),
    ):
        yield


async def _nothing(*_: Any) -> None:
    """Do nothing."""


@contextmanager
def approvals_not_delivered_first() -> Iterator[None]:
    """Who decides does not see what was approved on this host while the store was away."""
    refuse = StaticAnswers.refuse_told_meanwhile

    def broken(self: StaticAnswers, *asked: Any) -> None:
        with suppress(VersionMoved):
            refuse(self, *asked)

    with (
        patch.object(StaticAnswers, "deliver_rows_of", _nothing),
        patch.object(StaticAnswers, "refuse_told_meanwhile", broken),
    ):
        yield


def approvals_not_remembered() -> AbstractContextManager[Any]:
    """One small amount after another is paid while the store is away."""
    return patch.object(StaticAnswers, "_approved_lately", lambda *_: False)


def approvals_looked_for_only_before() -> AbstractContextManager[Any]:
    """A small amount is told as soon as it is durable, whatever was approved while it was written."""

    async def broken(self: StaticAnswers, written: StaticRow, mine: bool) -> bool:
        if self.sent.holds(written.decision_id) or not written.approved_minor:
            return await told(self, written, mine)
        return await self._journal.trust(written)

    told = StaticAnswers._is_to_be_told
    return patch.object(StaticAnswers, "_is_to_be_told", broken)


def doubtful_approvals_delivered() -> AbstractContextManager[Any]:
    """The deliverer takes a small amount along before its writer has looked for other approvals."""

    async def broken(_self: Delivery, row: StaticRow, _timeout_s: float) -> StaticRow:
        return row

    return patch.object(Delivery, "_settled", broken)


def mark_taken_back_too_often() -> AbstractContextManager[Any]:
    """The mark of a commit goes also when nobody knows what became of it."""
    send = DecisionService._send

    async def broken(
        self: DecisionService, commit: Commit, request: DecisionRequest, decision_id: str, *more: Any
    ) -> None:
        try:
            await send(self, commit, request, decision_id, *more)
        except OutcomeUnknown:
            if self._static is not None:
                self._static.sent.unmark(decision_id)
            raise

    return patch.object(DecisionService, "_send", broken)


def outbox_after_the_commit() -> AbstractContextManager[Any]:
    """What is to be told of a decision is written after it and not with it."""
    commit, run = SimStore.commit, Server.run
    apart: dict[tuple[str, int], Any] = {}

    def without_entry(self: Server, name: str, arguments: tuple[Any, ...]) -> Any:
        outcome = run(self, name, arguments)
        if name == "commit" and not isinstance(outcome, Exception):
            outbox = self.memory._outbox[partition_of(arguments[0].customer_id, self.memory.partitions)]
            apart[arguments[0].customer_id, outcome] = outbox, outbox.pop()
        return outcome

    async def broken(self: SimStore, change: Commit, timeout_s: float) -> int:
        version = await commit(self, change, timeout_s)
        await self.read(change.customer_id, None, timeout_s)  # a second call, of which anything may become
        outbox, entry = apart[change.customer_id, version]
        outbox.append(entry)
        return version

    both = ExitStack()
    both.enter_context(patch.object(Server, "run", without_entry))
    both.enter_context(patch.object(SimStore, "commit", broken))
    return both


def events_not_recognised() -> AbstractContextManager[Any]:
    """An event that is in the log already is taken once more."""
    judge = recording_module.judge

    def broken(event: Any, currency: Any, known: Any) -> Any:
        outcome, record = judge(event, currency, known)
        return (ACCEPTED, event.pack()) if outcome.status == "duplicate" else (outcome, record)

    return patch.object(recording_module, "judge", broken)


def row_removed_before_it_is_delivered() -> AbstractContextManager[Any]:
    """The journal forgets a row as soon as somebody begins to deliver it."""
    bring = Delivery.bring

    async def broken(self: Delivery, row: StaticRow, timeout_s: float) -> Any:
        await self._journal.remove([row.decision_id])
        return await bring(self, row, timeout_s)

    return patch.object(Delivery, "bring", broken)


def conflict_not_kept() -> AbstractContextManager[Any]:
    """A static answer that the store contradicts is dropped without a word."""

    async def broken(self: SimJournal, conflict: Any) -> None:
        await self.remove([conflict.decision_id])

    return patch.object(SimJournal, "keep_conflict", broken)


def turn_not_passed_on() -> AbstractContextManager[Any]:
    """Who leaves does not call the next."""

    def broken(self: Turns, customer_id: str) -> None:
        if not self._waiting[customer_id]:
            del self._waiting[customer_id]

    return patch.object(Turns, "leave", broken)


def read_from_a_stale_copy() -> AbstractContextManager[Any]:
    """A replayed answer is read from a replica that lags one commit behind, and commits are not conditional on it."""
    run = Server.run

    def broken(self: Server, name: str, arguments: tuple[Any, ...]) -> Any:
        outcome = run(self, name, arguments)
        if name == "commit" and isinstance(outcome, int):
            frame = arguments[0].decision
            if frame is not None and self.world.rng.random() < 0.2:
                self.memory._decisions.pop(frame[0])
        return outcome

    return patch.object(Server, "run", broken)


GUARDS: Final[dict[Broken, tuple[str, ...]]] = {
    no_sent_table: ("I1",),
    unknown_taken_for_nothing_written: ("I1",),
    decided_again_after_unknown: ("I1",),
    no_version_check: ("I2", "I4", "I10"),
    answer_told_before_it_is_durable: ("I1", "I3"),
    deadline_not_kept: ("I8",),
    small_amounts_without_bound: ("I7",),
    content_not_compared: ("I1",),
    journal_not_looked_at: ("I1",),
    approvals_not_delivered_first: ("I2",),
    approvals_not_remembered: ("I2",),
    approvals_looked_for_only_before: ("I2",),
    doubtful_approvals_delivered: ("I1", "I2"),
    mark_taken_back_too_often: ("I1",),
    outbox_after_the_commit: ("I3",),
    events_not_recognised: ("I10",),
    row_removed_before_it_is_delivered: ("I1", "I3"),
    conflict_not_kept: ("I1",),
    turn_not_passed_on: ("I8", "not recovered"),
    read_from_a_stale_copy: ("I3",),
}

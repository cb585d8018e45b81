"""Delivery: what the journal holds is committed to the store, in order, under the same decision ids.

    row ──read──▶ doubtful approval ──────────────────────────────────────────────▶ drop the row (nobody was told)
         │        the store has this very decision ───────────────────────────────▶ remove the row
         │        the store has another: doubtful row ────────────────────────────▶ remove the row (nobody was told)
         │                               else ──append what it approved──▶ conflict, remove the row
         └─────▶ nothing: commit, as the decision would have been ──acknowledged──▶ mark as sent, remove the row

What a doubtful row approves was not weighed against what else was approved (`journal/__init__.py`), so it must not come
to be lent: the next attempt under its id is decided anew. The row is dropped only if it is still doubtful then; one
that its writer trusted in the meantime is delivered.

Every step may be repeated by anyone: the commit is conditional, a decision is stored once, and what a conflict appends
has a key of its own. So a deliverer may die anywhere, and two may work at once; the lock of `journal.deliverer` only
keeps them out of each other's way. A worker whose deliverer is frozen takes over when its beat is TAKE_OVER_MS old.

The rows of one customer are delivered one after another, those of several customers CUSTOMERS_AT_ONCE at a time. After
a failure of the store the deliverer waits longer and longer, with jitter, so that a store that comes back is not run
over. Requests of a customer with rows deliver those first (`service.py`), so their decisions see what was approved.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import orjson

from decision_service.core.errors import (
    DecisionServiceError,
    JournalUnavailable,
    OutcomeUnknown,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
    VersionMoved,
)
from decision_service.core.event import drawdown_key, holds_key
from decision_service.core.limits import COMMIT_ATTEMPTS_MAX
from decision_service.core.money import SCALES
from decision_service.core.state import CustomerState
from decision_service.decision_log import answer_in, check_whole
from decision_service.decision_records import exposure_key, exposure_record
from decision_service.journal import Conflict, ConflictKind, Journal, SentTable, StaticRow
from decision_service.journal.sent import approval_key, told_key
from decision_service.journal.shared_file import open_shared
from decision_service.linker import Linker
from decision_service.recording import Retention
from decision_service.store import Commit, Store
from decision_service.store.records import decode_facility
from decision_service.telemetry import Meters

LOG = logging.getLogger("decision_service.journal")
LOCK_FILE: Final = "journal.deliverer"
CUSTOMERS_AT_ONCE: Final = 16
ROWS_AT_ONCE: Final = 256
IDLE_S: Final = 0.1  # between looks at the counter
SETTLE_S: Final = 5.0  # between looks after the journal itself
STORE_TIMEOUT_S: Final = 2.0
BACKOFF_S: Final = (0.05, 2.0)  # first and longest wait after a failure of the store
TAKE_OVER_MS: Final = 10_000


class JournalWatch(Protocol):
    """What the deliverer tells of itself to the other workers of its host."""

    deliverer_beat_ms: int


class Brought(NamedTuple):
    """A row that may leave the journal, and what the store contradicts it with, if it does."""

    row: StaticRow
    conflict: Conflict | None


class Delivery:
    """Delivers rows to a store; any worker may, at any time."""

    def __init__(
        self, store: Store, journal: Journal, sent: SentTable, linker: Linker, retention: Retention, meters: Meters,
        now_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self._store = store
        self._journal = journal
        self._sent = sent
        self._linker = linker
        self._retention = retention
        self._meters = meters
        self._now_ms = now_ms

    async def deliver(self, row: StaticRow, timeout_s: float) -> None:
        """Bring one row into the store and take it out of the journal. StoreUnavailable, JournalUnavailable."""
        brought = await self.bring(row, timeout_s)
        if brought is not None:
            await self.finish(brought)

    async def bring(self, row: StaticRow, timeout_s: float) -> Brought | None:
        """Bring one row into the store, or find out what contradicts it; None if it is gone, with nothing to finish.
        StoreUnavailable: it is not known to be there. JournalUnavailable: it could not be dropped."""
        try:
            async with asyncio.timeout(timeout_s):
                settled = await self._settled(row, timeout_s)
                if settled is None:
                    return None
                brought = Brought(settled, await self._bring(settled, timeout_s))
        except TimeoutError:
            raise StoreUnavailable("a journalled answer was not delivered in time") from None
        except OutcomeUnknown as error:  # to be asked for again: the row is still there
            raise StoreUnavailable(error.message) from None
        self._sent.keep(row.decision_id)  # the store has a decision under this id: from now on it alone answers
        return brought

    async def _settled(self, row: StaticRow, timeout_s: float) -> StaticRow | None:
        """The row that is to be brought: this one, unless it is a doubtful approval. That is dropped once the store was
        reached (while it is away, the writer may still trust it), or found to be trusted by now; None if it is gone."""
        found: StaticRow | None = row
        while found is not None and found.doubtful and found.approved_minor:
            await self._store.read(found.customer_id, found.decision_id, timeout_s)
            if await self._journal.drop(found):
                self._meters.count_journal("never_told")
                return None
            found = self._journal.find(row.decision_id)
        return found

    async def finish(self, brought: Brought) -> None:
        """Take out of the journal a row that was brought. JournalUnavailable: it is still there."""
        row, conflict = brought
        if conflict is None:
            if await self._journal.remove([row.decision_id]):
                self._meters.count_journal("never_told" if row.doubtful else "delivered")
        elif await self._journal.keep_conflict(conflict):
            self._meters.count_journal("conflict")
            LOG.error("the static answer %s contradicts the store (%s): see `decision-service reconcile`",
                      row.decision_id, conflict.kind)  # fmt: skip

    async def _bring(self, row: StaticRow, timeout_s: float) -> Conflict | None:
        if row.approved_minor:  # before anybody may find that the row is gone
            self._sent.mark(approval_key(row.customer_id, self._now_ms()))
        for _ in range(COMMIT_ATTEMPTS_MAX):
            state = await self._store.read(row.customer_id, row.decision_id, timeout_s)
            if state.decision == row.frame or (state.decision is not None and self._was_never_told(row)):
                return None
            try:
                if state.decision is not None:
                    return await self._contradicted("differs", row, state, timeout_s)
                if row.record and holds_key(state.log, drawdown_key(row.decision_id)):
                    return await self._contradicted("spent", row, state, timeout_s)
                mine = await self._claim(row, timeout_s) == row.customer_id
                commit = self._commit(row if mine else row._replace(facility=b""), state)
                await self._store.commit(commit, timeout_s)
            except VersionMoved:
                continue
            self._linker.take(commit)
            return None if mine else self._conflict("owner", row, b"")
        raise StoreUnavailable("the customer is being changed by too many callers at once")

    def _was_never_told(self, row: StaticRow) -> bool:
        """Neither by its writer, who doubts it, nor by another while the doubt was being written."""
        return row.doubtful and not self._sent.holds(told_key(row.decision_id))

    async def _claim(self, row: StaticRow, timeout_s: float) -> str:
        if not row.facility:
            return row.customer_id
        facility = decode_facility(row.facility)
        return await self._store.claim_facility(facility.facility_id, row.customer_id, timeout_s)

    def _commit(self, row: StaticRow, state: CustomerState) -> Commit:
        """The change that the decision is, as `DecisionService` would have made it."""
        facilities = {}
        if row.facility:
            sent = decode_facility(row.facility)
            stored = state.facilities.get(sent.facility_id)
            if stored is None or (stored.currency == sent.currency and sent.as_of_ms >= stored.as_of_ms):
                facilities = {sent.facility_id: sent}
        return Commit(
            row.customer_id, state.version, records=row.record,
            trimmed_log=self._retention.trimmed(state.log, row.record) if row.record else None,
            facilities=facilities, decision=(row.decision_id, row.frame),
            links=(self._linker.new_id(), row.links) if row.links else (b"", b""), origin="journal",
        )  # fmt: skip

    async def _contradicted(
        self, kind: ConflictKind, row: StaticRow, state: CustomerState, timeout_s: float
    ) -> Conflict:
        """The conflict, once the log shows at least what the row approved. VersionMoved."""
        found = state.decision or b""
        missing_minor = row.approved_minor - _approved_minor(found)
        key = exposure_key(row.decision_id)
        if missing_minor > 0 and not holds_key(state.log, key):
            record = exposure_record(row.record, key, missing_minor)
            trimmed = self._retention.trimmed(state.log, record)
            commit = Commit(row.customer_id, state.version, record, trimmed, origin="journal")
            await self._store.commit(commit, timeout_s)
        return self._conflict(kind, row, found)

    async def refuse(self, row: StaticRow) -> None:
        """Put a row that can never be committed among the conflicts, so that it holds up no other."""
        await self.finish(Brought(row, self._conflict("refused", row, b"")))

    def _conflict(self, kind: ConflictKind, row: StaticRow, found: bytes) -> Conflict:
        now_ms = self._now_ms()
        return Conflict(kind, row.decision_id, row.customer_id, row.approved_minor, now_ms, row.frame, found)


def _approved_minor(frame: bytes) -> int:
    """What the decision of a frame approved, as far as it can be read: nothing of one that is damaged."""
    try:
        check_whole(frame)
        answer: dict[str, Any] = orjson.loads(answer_in(frame))
        approved_minor: int = round(answer["approved_amount"] * SCALES[answer["currency"]])
        return approved_minor
    except (ValueError, KeyError, TypeError):
        return 0


class Deliverer:
    """One worker's deliverer task: it delivers while it holds the lock of its host, and stands by otherwise."""

    def __init__(
        self, delivery: Delivery, journal: Journal, lock_path: Path | None = None, watch: JournalWatch | None = None,
        restore_sent: Callable[[], None] = lambda: None, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Without `lock_path` it is the only one. `restore_sent` looks after the sent table."""
        self._delivery = delivery
        self._journal = journal
        self._lock_path = lock_path
        self._lock: int | None = None
        self._watch = watch
        self._restore_sent = restore_sent
        self._monotonic = monotonic
        self._failures = 0
        self._settle_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver, and to look after the journal."""
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._settle())]

    async def close(self) -> None:
        """Stop; what is not delivered stays in the journal."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _settle(self) -> None:
        while True:
            await self._journal.settle()
            try:
                self._restore_sent()
            except JournalUnavailable as error:
                LOG.error("the table of what is sent cannot be restored: %s", error.message)
            await asyncio.sleep(SETTLE_S * random.uniform(0.8, 1.2))

    async def _work(self) -> None:
        while True:
            try:
                if self._journal.pending and self._is_mine():
                    await self.round()
                self._failures = 0
                pause_s = IDLE_S
            except (StoreError, JournalUnavailable):
                first, longest = BACKOFF_S
                pause_s = min(longest, first * 2**self._failures) * random.uniform(0.5, 1.0)
                self._failures = min(self._failures + 1, 16)
            except Exception:  # one mistake must not end all deliveries
                LOG.exception("could not deliver")
                pause_s = BACKOFF_S[1]
            await asyncio.sleep(pause_s)

    def _is_mine(self) -> bool:
        """Whether this worker delivers: it has the lock, or whoever has it shows no life."""
        now_ms = int(self._monotonic() * 1_000)
        if self._lock is None and self._lock_path is not None:
            self._lock = _locked(self._lock_path)
        mine = self._lock is not None or self._lock_path is None
        if self._watch is None:
            return mine
        if mine:
            self._watch.deliverer_beat_ms = now_ms
            return True
        return now_ms - self._watch.deliverer_beat_ms > TAKE_OVER_MS

    async def round(self) -> None:
        """Deliver all there is. StoreError if the store fails: the rest is still there; JournalUnavailable."""
        after_seq = 0
        while self._journal.pending:
            rows = await self._journal.oldest(after_seq, ROWS_AT_ONCE)
            if not rows:
                return
            after_seq = rows[-1].seq
            await self._deliver(rows)
            if self._watch is not None:
                self._watch.deliverer_beat_ms = int(self._monotonic() * 1_000)

    async def _deliver(self, rows: Sequence[StaticRow]) -> None:
        """Deliver rows: one first, to see whether the store takes it, then customers beside each other."""
        await self._deliver_one(rows[0])
        by_customer: dict[str, list[StaticRow]] = defaultdict(list)
        for row in rows[1:]:
            by_customer[row.customer_id].append(row)
        waiting = list(by_customer.values())[::-1]

        async def work() -> None:
            while waiting:
                for row in waiting.pop():
                    await self._deliver_one(row)

        results = await asyncio.gather(*(work() for _ in range(CUSTOMERS_AT_ONCE)), return_exceptions=True)
        for error in results:
            if error is not None:
                raise error

    async def _deliver_one(self, row: StaticRow) -> None:
        try:
            await self._delivery.deliver(row, STORE_TIMEOUT_S)
        except StoreDamaged:
            LOG.error("the customer of a journalled answer is damaged in the store; it is kept among the conflicts")
            await self._delivery.refuse(row)
        except (StoreError, JournalUnavailable):
            raise
        except (DecisionServiceError, ValueError, TypeError, KeyError):
            LOG.exception("a journalled answer can never be delivered; it is kept among the conflicts")
            await self._delivery.refuse(row)


def _locked(path: Path) -> int | None:
    """The descriptor that holds the lock on a file; None if another process has it."""
    try:
        descriptor = open_shared(path)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor

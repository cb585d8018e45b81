"""Comparing: a pass over the caller's list, then one over archive and outbox; each a page at a time.

The store is read at ROWS_AT_ONCE decisions at once: some 30 MB of frames, and a command a partition. A decision that is
lost but lies in the journal is not lost: it waits to be delivered. One whose frame has left the store is looked up in
the archive, some 10 ms each; of one whose payload is erased outcome and amount are compared.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.archive.all_decisions import AllDecisions
from decision_service.archive.lookup import Archived
from decision_service.core.errors import StoreDamaged
from decision_service.core.event import drawdown_key
from decision_service.core.limits import DAY_MS
from decision_service.core.money import SCALES
from decision_service.core.state import CustomerState
from decision_service.reconcile.acknowledged import Acknowledged, AcknowledgedList
from decision_service.reconcile.findings import Finding, Findings
from decision_service.reconcile.restoring import STORE_TIMEOUT_S, Restoring
from decision_service.reconcile.soundness import NO_RECORD, Told, missing_in, told_in
from decision_service.store import Store
from decision_service.store.keys import partition_of_kept

ROWS_AT_ONCE: Final = 4_096
LOGS_AT_ONCE: Final = 32  # logs of customers read at once, of up to 256 kB each
CLOCK_SLACK_MS: Final = DAY_MS  # between our clocks and the store's

Keys = npt.NDArray[np.uint64]
Watch = Callable[[str, int, int | None], None]  # what is counted, how many so far, of how many
Pending = Callable[[str], bytes | None]  # the journalled frame of a decision that is not delivered yet


@dataclass(frozen=True, slots=True)
class Span:
    """From an instant up to before another, ms UTC, of the instants decisions were made at."""

    since_ms: int
    until_ms: int


@dataclass(slots=True)
class Counts:
    """What was looked at."""

    acknowledged: int = 0
    agreed: int = 0
    waiting: int = 0  # acknowledged and in the journal, not delivered yet
    delivered: int = 0  # of the journal, by this run
    undelivered: int = 0  # still in the journal
    stored: int = 0  # decisions of the outbox between the two instants
    verified: int = 0


class Comparing:
    """The passes. `restoring` is None where nothing may be changed."""

    def __init__(
        self, store: Store, partitions: int, findings: Findings, restoring: Restoring | None, pending: Pending,
        watch: Watch, kept: AllDecisions | None = None,
    ) -> None:  # fmt: skip
        self.counts = Counts()
        self._store = store
        self._partitions = partitions
        self._findings = findings
        self._restoring = restoring
        self._pending = pending
        self._kept = kept or AllDecisions(store, partitions, None)
        self._watch = watch
        self._known: dict[int, Keys] = {}  # keys of acknowledged decisions by partition, sorted

    def check_list(self, acknowledged: AcknowledgedList) -> None:
        """Read the whole list once: remembers what is in it. InvalidInput, before anything is changed."""
        known: dict[int, array[int]] = defaultdict(lambda: array("Q"))
        for number, row in enumerate(acknowledged.rows(), 1):
            known[partition_of_kept(row.decision_id)].append(drawdown_key(row.decision_id))
            self._watch("rows checked", number, None)
            self.counts.acknowledged = number
        self._known = {partition: np.sort(np.frombuffer(some, np.uint64)) for partition, some in known.items()}

    async def compare_list(self, acknowledged: AcknowledgedList) -> None:
        """Find what is lost and what is different. StoreUnavailable."""
        done = 0
        for page in acknowledged.pages(ROWS_AT_ONCE):
            frames = await self._frames([row.decision_id for row in page])
            for row in page:
                await self._compare(row, frames[row.decision_id])
            done += len(page)
            self._watch("answers compared", done, self.counts.acknowledged)

    async def _frames(self, decision_ids: Iterable[str]) -> dict[str, bytes | None]:
        by_partition: dict[int, list[str]] = defaultdict(list)
        for decision_id in dict.fromkeys(decision_ids):
            by_partition[partition_of_kept(decision_id)].append(decision_id)
        read = [self._store.read_decisions(p, some, STORE_TIMEOUT_S) for p, some in by_partition.items()]
        found = await asyncio.gather(*read)
        return {
            decision_id: frame
            for some, frames in zip(by_partition.values(), found, strict=True)
            for decision_id, frame in zip(some, frames, strict=True)
        }

    async def _compare(self, row: Acknowledged, frame: bytes | None) -> None:
        waiting = frame is None
        if frame is None:
            frame = self._pending(row.decision_id)
        if frame is None and (archived := await self._archived(row)) is not None:
            if archived.erased:
                self._compare_erased(row, archived)
                return
            frame, waiting = archived.frame(), False
        if frame is None:
            repair = "" if self._restoring is None else await self._restoring.lost(row)
            self._find(row, "lost", repair=repair)
            return
        try:
            told = told_in(row.decision_id, frame)
        except ValueError as error:
            self._find(row, "damaged", note=str(error))
            return
        if told.answer["decision"] == row.decision and _same(row.approved, told):
            self.counts.agreed += 1
            self.counts.waiting += waiting
            return
        self._find(row, "different", stored=told.short(), repair=await self._repaired(row, told))

    async def _archived(self, row: Acknowledged) -> Archived | None:
        """The decision as the archive has it. InvalidInput if there may be one whose address is not known."""
        found = await self._kept.archived(row.decision_id)
        if found is None:
            await self._kept.refuse_unreachable(0)
        return found

    def _compare_erased(self, row: Acknowledged, archived: Archived) -> None:
        told = archived.remains
        if told["decision"] == row.decision and Decimal(str(told["approved_amount"])) == row.approved:
            self.counts.agreed += 1
            return
        stored = {name: told.get(name) for name in ("decision", "approved_amount", "currency", "decided_at", "rung")}
        self._find(row, "different", stored=stored, note="its payload is erased")

    async def _repaired(self, row: Acknowledged, told: Told) -> str:
        if self._restoring is None:
            return ""
        if row.approved <= Decimal(told.approved_minor) / SCALES[told.answer["currency"]]:
            return "nothing to append: no more was acknowledged than the store knows of"
        line = told.answer["facility_id"], told.answer["currency"]
        return await self._restoring.exceeding(row, told.approved_minor, line)

    def _find(
        self, row: Acknowledged, sort: Any, *, stored: Mapping[str, Any] | None = None, note: str = "", repair: str = ""
    ) -> None:
        said = {"decision": row.decision, "approved_amount": float(row.approved)}
        self._findings.take(
            Finding(
                sort, row.decision_id, row.customer_id, row.request_id, row.row, said, stored or {}, note, repair
            )
        )  # fmt: skip

    # --- archive and outbox -------------------------------------------------------------------------------------

    async def look_through(self, span: Span, *, listed: bool, verify: bool) -> None:
        """Find decisions that the list lacks (if there is a list), and (`verify`) those that are not whole.
        StoreUnavailable, ArchiveUnavailable; InvalidInput if some of them are in an archive whose address is not
        known."""
        await self._kept.refuse_unreachable(span.since_ms)
        since_ms, until_ms = span.since_ms - CLOCK_SLACK_MS, span.until_ms + CLOCK_SLACK_MS
        for partition in range(self._partitions):
            async for kept in self._kept.pages(partition, since_ms, until_ms):
                frames = {one.decision_id: one.frame for one in kept}
                page = list(frames) if verify else self._unlisted(partition, list(frames))
                told = {i: self._told(i, frames[i], verify=verify) for i in page}
                whole = {i: t for i, t in told.items() if t is not None and _within(t, span)}
                self.counts.stored += len(whole)
                for decision_id in self._unlisted(partition, list(whole)) if listed else ():
                    self._unaccounted(whole[decision_id])
                if verify:
                    await self._verify(list(whole.values()))
            self._watch("partitions looked through", partition + 1, self._partitions)

    def _unlisted(self, partition: int, decision_ids: Sequence[str]) -> Sequence[str]:
        """Those that the caller's list lacks."""
        known = self._known.get(partition)
        if known is None or not decision_ids:
            return decision_ids
        wanted = np.fromiter(map(drawdown_key, decision_ids), np.uint64, len(decision_ids))
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return [i for i, listed in zip(decision_ids, (known[at] == wanted).tolist(), strict=True) if not listed]

    def _told(self, decision_id: str, frame: bytes | None, *, verify: bool) -> Told | None:
        try:
            if frame is None:
                raise ValueError("the outbox tells of it, and there is no frame")
            return told_in(decision_id, frame)
        except ValueError as error:
            if verify:
                self._findings.take(Finding("damaged", decision_id, note=str(error)))
            return None

    def _unaccounted(self, told: Told) -> None:
        answer = told.answer
        self._findings.take(
            Finding(
                "unaccounted", answer["decision_id"], told.customer_id, answer["request_id"], stored=told.short()
            )
        )  # fmt: skip

    async def _verify(self, page: Sequence[Told]) -> None:
        by_customer: dict[str, list[Told]] = defaultdict(list)
        for told in page:
            by_customer[told.customer_id].append(told)
        customers = list(by_customer)
        for start in range(0, len(customers), LOGS_AT_ONCE):
            some = customers[start : start + LOGS_AT_ONCE]
            states = await asyncio.gather(*map(self._state, some))
            for customer_id, state in zip(some, states, strict=True):
                for told in by_customer[customer_id]:
                    self.counts.verified += 1
                    await self._verify_one(told, state)

    async def _state(self, customer_id: str) -> CustomerState | None:
        """The customer; None if what is stored is no customer."""
        try:
            return await self._store.read(customer_id, None, STORE_TIMEOUT_S)
        except StoreDamaged:
            return None

    async def _verify_one(self, told: Told, state: CustomerState | None) -> None:
        missing = "the customer cannot be read" if state is None else missing_in(state.log, told)
        if not missing:
            return
        repair = ""
        if self._restoring is not None and missing == NO_RECORD and told.approved_minor > 0:
            repair = await self._restoring.record_of(told.answer, told.asked_at_ms)
        answer = told.answer
        self._findings.take(
            Finding(
                "damaged", answer["decision_id"], told.customer_id, answer["request_id"], stored=told.short(),
                note=missing, repair=repair,
            )
        )  # fmt: skip


def _same(approved: Decimal, told: Told) -> bool:
    return approved * SCALES[told.answer["currency"]] == told.approved_minor


def _within(told: Told, span: Span) -> bool:
    return span.since_ms <= told.decided_at_ms < span.until_ms

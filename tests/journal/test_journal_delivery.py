"""Delivery: in order, once, whatever fails in between; and what contradicts a row is kept and its money counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from journal_cases import T0_MS

from decision_service.core.errors import OutcomeUnknown, StoreUnavailable
from decision_service.core.event import APPROVED, DRAWDOWN, Event, drawdown_key, facility_key, words_of
from decision_service.core.facility import Facility
from decision_service.core.ledger import position_of
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.state import CustomerState
from decision_service.decision_log import MAGIC_WITHOUT_CRC
from decision_service.journal import StaticRow
from decision_service.journal.delivery import TAKE_OVER_MS, Deliverer, Delivery
from decision_service.journal.memory import MemoryJournal, MemorySentTable
from decision_service.journal.sent import approval_key, told_key
from decision_service.linker import Linker
from decision_service.recording import Retention
from decision_service.store import Commit
from decision_service.store.keys import decision_id_of
from decision_service.store.memory import MemoryStore
from decision_service.store.records import encode_facility
from decision_service.telemetry import Meters

LINE = Facility("f-1", "c-1", "revolver", "CNY", 1_000_00, 0, T0_MS - DAY_MS, 1_800, "active", T0_MS - 90 * DAY_MS)


class FailingStore(MemoryStore):
    """A memory store of which so many commits, from now on, fail."""

    def __init__(self) -> None:
        super().__init__(partitions=16)
        self.unavailable = 0
        self.away = False
        self.lost_replies = 0
        self.order: list[str] = []

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        """Read, unless it is away."""
        if self.away:
            raise StoreUnavailable("away")
        return await super().read(customer_id, decision_id, timeout_s)

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        """Commit, unless it is to fail."""
        if self.unavailable:
            self.unavailable -= 1
            raise StoreUnavailable("refused")
        version = await super().commit(commit, timeout_s)
        if commit.decision is not None:
            self.order.append(commit.decision[0])
        if self.lost_replies:
            self.lost_replies -= 1
            raise OutcomeUnknown("lost")
        return version


@dataclass
class Desk:
    """What a delivery test works with."""

    store: FailingStore
    journal: MemoryJournal
    sent: MemorySentTable
    delivery: Delivery
    deliverer: Deliverer
    meters: Meters


def frame_of(approved: float, note: str = "") -> bytes:
    """A frame with an answer of which delivery reads two fields."""
    answer = b'{"approved_amount": %g, "currency": "CNY", "note": "%b"}' % (approved, note.encode())
    sections = (b"f" * 16, answer, b"{}", b"", b"", b"{}")
    return MAGIC_WITHOUT_CRC + b"".join(len(one).to_bytes(4, "little") for one in sections) + b"".join(sections)


def answered(n: int, customer: str = "c-1", approved: int = 0, **more: Any) -> StaticRow:
    """The n-th static answer, with the record of its drawdown."""
    decision_id = decision_id_of(customer, f"r-{n}", 16)
    record = Event(
        drawdown_key(decision_id), DRAWDOWN, APPROVED if approved else 3, T0_MS + n, approved or 100_00,
        facility=facility_key("f-1"), decided_at_ms=T0_MS + n,
    ).pack()  # fmt: skip
    row = StaticRow(decision_id, customer, approved, T0_MS + n, frame_of(approved / 100), record, b"", b"")
    return row._replace(**more)


def at_a_desk(tmp_path: Path, test: Callable[[Desk], Awaitable[Any]]) -> None:
    """Run a test with a delivery on a memory store."""

    async def go() -> None:
        (tmp_path / "meters").mkdir(exist_ok=True)
        meters, store, journal, sent = Meters(tmp_path / "meters"), FailingStore(), MemoryJournal(), MemorySentTable()
        linker = Linker(store, meters, lambda: T0_MS, 16, 1_024, 400 * DAY_MS)
        retention = Retention(400 * DAY_MS, 4_096, 256)
        delivery = Delivery(store, journal, sent, linker, retention, meters, lambda: T0_MS)
        await test(Desk(store, journal, sent, delivery, Deliverer(delivery, journal), meters))
        meters.close()

    asyncio.run(go())


async def written(desk: Desk, *rows: StaticRow) -> None:
    """Rows in the journal."""
    for row in rows:
        assert await desk.journal.write(row) is not None


def test_rows_are_delivered_in_order_and_marked(tmp_path: Path) -> None:
    """All rows of a customer come into the store in the order they were told, with their records, and are then known
    as sent."""

    async def test(desk: Desk) -> None:
        rows = [answered(n, f"c-{n % 3}") for n in range(30)]
        await written(desk, *rows)
        await desk.deliverer.round()
        assert desk.journal.pending == 0
        for customer in ("c-0", "c-1", "c-2"):
            own = [row.decision_id for row in rows if row.customer_id == customer]
            assert [one for one in desk.store.order if one in own] == own
            state = await desk.store.read(customer, own[0], 1)
            assert (len(words_of(state.log)), state.decision) == (1 + 10, rows[0].frame)
        assert all(desk.sent.holds(row.decision_id) for row in rows)

    at_a_desk(tmp_path, test)


@pytest.mark.fault("A05", "A14")
def test_a_store_that_fails_gets_every_row_once(tmp_path: Path) -> None:
    """Commits that are refused are made again; one whose reply was lost is found, and not made twice."""

    async def test(desk: Desk) -> None:
        await written(desk, answered(1), answered(2))
        desk.store.unavailable = 1
        with pytest.raises(StoreUnavailable):
            await desk.deliverer.round()
        assert desk.journal.pending == 2
        desk.store.lost_replies = 1
        with pytest.raises(StoreUnavailable):
            await desk.deliverer.round()
        assert desk.journal.pending == 2
        await desk.deliverer.round()
        state = await desk.store.read("c-1", None, 1)
        assert (desk.journal.pending, len(words_of(state.log)), state.version) == (0, 1 + 2, 2)

    at_a_desk(tmp_path, test)


def test_a_snapshot_goes_along_unless_a_later_one_is_known(tmp_path: Path) -> None:
    """The facility that came with a request is stored by its delivery, as its commit would have done."""

    async def test(desk: Desk) -> None:
        await written(desk, answered(1, facility=encode_facility(LINE)))
        await desk.deliverer.round()
        assert (await desk.store.read("c-1", None, 1)).facilities == {"f-1": LINE}
        assert await desk.store.facility_owner("f-1", 1) == "c-1"
        newer, older = replace(LINE, as_of_ms=T0_MS), replace(LINE, as_of_ms=T0_MS - 1)
        await written(desk, answered(2, facility=encode_facility(newer)), answered(3, facility=encode_facility(older)))
        await desk.deliverer.round()
        assert (await desk.store.read("c-1", None, 1)).facilities == {"f-1": newer}

    at_a_desk(tmp_path, test)


@pytest.mark.parametrize(("stored", "added"), [(0, 300_00), (100, 200_00), (300, 0), (500, 0)])
def test_a_contradicted_approval_is_a_conflict_and_its_money_is_counted(
    tmp_path: Path, stored: int, added: int
) -> None:
    """The store has another decision under the id: both are kept, and the log reserves what was promised beyond it."""

    async def test(desk: Desk) -> None:
        row = answered(1, approved=300_00)
        other = frame_of(stored, "of another host")
        await desk.store.commit(Commit("c-1", 0, facilities={"f-1": LINE}, decision=(row.decision_id, other)), 1)
        await written(desk, row)
        desk.store.lost_replies = 1 if added else 0
        if added:
            with pytest.raises(StoreUnavailable):
                await desk.deliverer.round()
        await desk.deliverer.round()
        state = await desk.store.read("c-1", row.decision_id, 1)
        assert state.decision == other
        assert position_of(LINE, words_of(state.log), T0_MS, 24 * HOUR_MS).reserved_minor == added
        (kept,) = await desk.journal.conflicts()
        assert (kept.kind, kept.frame, kept.found, kept.approved_minor) == ("differs", row.frame, other, 300_00)
        assert desk.journal.pending == 0

    at_a_desk(tmp_path, test)


@pytest.mark.fault("H10")
def test_money_is_counted_beside_a_decision_that_cannot_be_read(tmp_path: Path) -> None:
    """What the store has under the id is damaged: nothing of it counts, and all that was told is reserved."""

    async def test(desk: Desk) -> None:
        row = answered(1, approved=300_00)
        damaged = frame_of(300)[:-40]
        await desk.store.commit(Commit("c-1", 0, facilities={"f-1": LINE}, decision=(row.decision_id, damaged)), 1)
        await written(desk, row)
        await desk.deliverer.round()
        state = await desk.store.read("c-1", None, 1)
        assert position_of(LINE, words_of(state.log), T0_MS, 24 * HOUR_MS).reserved_minor == 300_00
        assert [one.kind for one in await desk.journal.conflicts()] == ["differs"]

    at_a_desk(tmp_path, test)


def test_a_doubtful_row_goes_if_the_store_knows_better(tmp_path: Path) -> None:
    """Nobody was told a doubtful row: what the store has is the answer. If it has nothing, the row is the answer."""

    async def test(desk: Desk) -> None:
        known, unknown = answered(1, doubtful=True), answered(2, doubtful=True)
        await desk.store.commit(Commit("c-1", 0, decision=(known.decision_id, frame_of(1))), 1)
        await written(desk, known, unknown)
        await desk.deliverer.round()
        assert (desk.journal.pending, await desk.journal.conflicts()) == (0, [])
        assert await desk.store.read_decision(unknown.decision_id, 1) == unknown.frame

    at_a_desk(tmp_path, test)


def test_a_doubtful_approval_is_dropped_and_never_lent(tmp_path: Path) -> None:
    """Its writer died before it looked for other approvals: nobody was told, so nothing is delivered. The store must
    have been reached for that, and a row that was trusted in the meantime is delivered as what was told."""

    async def test(desk: Desk) -> None:
        left = answered(1, approved=500_00, doubtful=True)
        await written(desk, left)
        desk.store.away = True
        with pytest.raises(StoreUnavailable):
            await desk.deliverer.round()
        assert desk.journal.pending == 1
        desk.store.away = False
        await desk.deliverer.round()
        assert desk.journal.pending == 0
        assert not desk.sent.holds(left.decision_id)
        state = await desk.store.read("c-1", left.decision_id, 1)
        assert (state.decision, state.version) == (None, 0)
        await written(desk, left)
        (row,) = await desk.journal.oldest(0, 9)
        assert await desk.journal.trust(row)
        await desk.delivery.deliver(row, 1)  # as it was read before
        assert desk.journal.pending == 0
        assert desk.sent.holds(approval_key("c-1", T0_MS))
        assert await desk.store.read_decision(left.decision_id, 1) == left.frame

    at_a_desk(tmp_path, test)


def test_a_row_that_was_told_before_it_was_doubted_is_a_conflict(tmp_path: Path) -> None:
    """Another worker told a row, then its writer found a mark: what the store has contradicts what a caller knows."""

    async def test(desk: Desk) -> None:
        row = answered(1, doubtful=True)
        await desk.store.commit(Commit("c-1", 0, decision=(row.decision_id, frame_of(1))), 1)
        await written(desk, row)
        desk.sent.mark(told_key(row.decision_id))
        await desk.deliverer.round()
        (kept,) = await desk.journal.conflicts()
        assert (kept.kind, kept.frame, desk.journal.pending) == ("differs", row.frame, 0)

    at_a_desk(tmp_path, test)


def test_another_customers_facility_is_not_taken_over(tmp_path: Path) -> None:
    """The answer was told and stays; the snapshot is left out, and the case is kept for people."""

    async def test(desk: Desk) -> None:
        await desk.store.claim_facility("f-1", "c-9", 1)
        row = answered(1, facility=encode_facility(LINE))
        await written(desk, row)
        await desk.deliverer.round()
        state = await desk.store.read("c-1", row.decision_id, 1)
        assert (state.decision, dict(state.facilities)) == (row.frame, {})
        assert [one.kind for one in await desk.journal.conflicts()] == ["owner"]

    at_a_desk(tmp_path, test)


def test_a_drawdown_that_the_log_knows_is_not_recorded_twice(tmp_path: Path) -> None:
    """A decision so old that its frame is gone left its record: a second one under its key would break the log."""

    async def test(desk: Desk) -> None:
        row = answered(1)
        await desk.store.commit(Commit("c-1", 0, records=row.record), 1)
        await written(desk, row)
        await desk.deliverer.round()
        assert len(words_of((await desk.store.read("c-1", None, 1)).log)) == 1 + 1
        assert [one.kind for one in await desk.journal.conflicts()] == ["spent"]

    at_a_desk(tmp_path, test)


@pytest.mark.fault("H10")
def test_a_damaged_row_holds_up_no_other(tmp_path: Path) -> None:
    """A row that can never be committed is put aside, and those behind it are delivered."""

    async def test(desk: Desk) -> None:
        bad = answered(1, decision_id="d00f" + "0" * 32)
        await written(desk, bad, answered(2), answered(3, "c-2"))
        await desk.deliverer.round()
        assert desk.journal.pending == 0
        assert [one.kind for one in await desk.journal.conflicts()] == ["refused"]
        assert len(desk.store.order) == 2

    at_a_desk(tmp_path, test)


def test_one_worker_of_a_host_delivers(tmp_path: Path) -> None:
    """Only who holds the lock delivers; another takes over when the first is gone, or has shown no life for long."""

    class Watch:
        deliverer_beat_ms = 0

    async def test(desk: Desk) -> None:
        now, watch, path = [100.0], Watch(), tmp_path / "lock"
        one, other = (
            Deliverer(desk.delivery, desk.journal, path, watch, monotonic=lambda: now[0]) for _ in range(2)
        )  # fmt: skip
        assert one._is_mine()
        assert not other._is_mine()
        now[0] += TAKE_OVER_MS / 1_000 + 1
        assert other._is_mine(), "the first is frozen"
        assert one._is_mine()
        assert not other._is_mine()
        await one.close()
        assert other._is_mine()
        await other.close()

    at_a_desk(tmp_path, test)

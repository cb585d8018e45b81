"""Histories of events: each log becomes what posting the events would have made of it, however often they come."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from import_cases import (
    CLOCK,
    KEEP,
    NOW_MS,
    T,
    decision_id,
    event,
    history,
    imported,
    logs_of,
    outbox_records,
    write,
)

from decision_service.api.parse import parse_event
from decision_service.change import change_customer
from decision_service.core.event import read_header, words_of
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS, EVENTS_PER_CALL_MAX
from decision_service.core.links import customer_key, log_name
from decision_service.imports.events import COMPLETE, FORMAT
from decision_service.imports.links import LinksKept
from decision_service.imports.slices import SLICES
from decision_service.imports.terms import import_id_of
from decision_service.recording import EventBatch, Retention
from decision_service.store import Commit, Store
from decision_service.store.memory import MemoryStore

pytestmark = pytest.mark.anyio

LINE = Facility("f-1", "c-1", "revolver", "CNY", 10_000_00, 0, NOW_MS - DAY_MS, 1_800, "active", NOW_MS - 99 * DAY_MS)


async def posted(store: Store, rows: list[dict[str, Any]]) -> None:
    """Post rows as a caller of the API would: in recorded order, a customer's events in calls of a thousand."""
    of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.get("recorded_at", row["occurred_at"])):
        body = {name: value for name, value in row.items() if value is not None and name != "recorded_at"}
        of[row["customer_id"]].append(body | ({"currency": "CNY"} if "amount" in body else {}))
    for customer, bodies in of.items():
        for start in range(0, len(bodies), EVENTS_PER_CALL_MAX):
            events = [parse_event(body, i, CLOCK) for i, body in enumerate(bodies[start : start + EVENTS_PER_CALL_MAX])]
            batch = EventBatch(customer, events, KEEP, lambda: b"id")
            await change_customer(store, customer, batch.plan)


def without_decisions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that a caller may post."""
    return [row for row in rows if row.get("status") != "approved"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
async def test_an_import_leaves_the_logs_that_posting_the_events_would(tmp_path: Path, suffix: str) -> None:
    """Logs are equal to the byte, and the outbox has every record of them once."""
    rows = without_decisions(history(np.random.default_rng(1), 3_000, 7))
    ours, theirs = MemoryStore(), MemoryStore()
    await imported(write(tmp_path / f"events{suffix}", rows), ours)
    await posted(theirs, rows)
    logs = await logs_of(ours, rows)
    assert logs == await logs_of(theirs, rows)
    assert outbox_records(ours) == {name: log[64:] for name, log in logs.items()}


async def test_every_row_is_counted_once(tmp_path: Path) -> None:
    """Accepted, duplicate and rejected rows add up to the rows of the file, and the accepted are in the logs."""
    rows = history(np.random.default_rng(2), 2_000, 5)
    store = MemoryStore()
    account = await imported(write(tmp_path / "events.parquet", rows), store)
    assert account.rows == len(rows)
    assert account.counts["duplicate"] > 50
    assert account.counts["rejected"] == len(account.refusals) > 50
    logs = await logs_of(store, rows)
    assert sum(len(log) // 64 - 1 for log in logs.values()) == account.counts["accepted"]


async def test_a_history_with_its_decisions_settles_and_labels_them(tmp_path: Path) -> None:
    """A settlement finds the drawdown of a decision that stands in the same file, and takes over its amount."""
    rows = [
        event(1, kind="drawdown", status="approved", decision_id=decision_id(9), facility_id="f-1", amount="500"),
        event(2, kind="drawdown", status="booked", decision_id=decision_id(9), amount=None),
        event(3, kind="drawdown", status="booked", decision_id=decision_id(9), amount="400"),
        event(4, kind="drawdown", status="booked", decision_id=decision_id(8), amount=None),
    ]
    store = MemoryStore()
    account = await imported(write(tmp_path / "events.parquet", rows), store)
    assert [(r.row, r.column) for r in account.refusals] == [(3, "amount"), (4, "decision_id")]
    words = words_of((await store.read("c-1", None, T)).log)
    assert words[1:, 2].tolist() == [500_00, 500_00]
    assert words[1, 1] == words[2, 7] == 9


async def test_a_settlement_before_its_drawdown_is_refused_every_time(tmp_path: Path) -> None:
    """What a second run finds in the log does not make a row right that the first refused."""
    rows = [
        event(1, kind="drawdown", status="booked", decision_id=decision_id(9), amount=None),
        event(2, kind="drawdown", status="approved", decision_id=decision_id(9), facility_id="f-1", amount="500"),
    ]
    path, store = write(tmp_path / "events.parquet", rows), MemoryStore()
    for _ in range(2):
        account = await imported(path, store)
        assert [(r.row, r.column) for r in account.refusals] == [(1, "decision_id")]
    assert len((await store.read("c-1", None, T)).log) == 128


@pytest.mark.fault("D11")
async def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """Even without what was kept of the first, all rows are duplicates and no version moves."""
    rows = without_decisions(history(np.random.default_rng(3), 1_500, 5))
    path, store = write(tmp_path / "events.parquet", rows), MemoryStore()
    first = await imported(path, store)
    versions = {name: (await store.read(name, None, T)).version for name in await logs_of(store, rows)}
    second = await imported(path, store, again=True)
    assert second.counts["accepted"] == 0
    assert second.counts["duplicate"] == first.counts["accepted"] + first.counts["duplicate"]
    assert versions == {name: (await store.read(name, None, T)).version for name in versions}


@pytest.mark.parametrize("again", [False, True])
async def test_what_retention_trimmed_does_not_come_back(tmp_path: Path, again: bool) -> None:
    """A customer with more events than a log holds keeps the newest; a second run finds the others forgotten."""
    keep = Retention(400 * DAY_MS, 1_000, 250)
    rows = [event(i, at_ms=NOW_MS - 50 * DAY_MS + i) for i in range(4_500)]
    path, store = write(tmp_path / "events.parquet", rows), MemoryStore()
    first = await imported(path, store, retention=keep)
    log = (await store.read("c-1", None, T)).log
    assert first.counts["accepted"] == len(rows)
    assert first.trimmed == read_header(log)[0] == len(rows) - (len(log) // 64 - 1)
    second = await imported(path, store, retention=keep, again=again)
    assert (await store.read("c-1", None, T)).log == log
    if again:
        assert second.counts["skipped"] == first.trimmed
        assert second.counts["accepted"] == 0


async def test_a_file_larger_than_the_memory_allowed_gives_the_same(tmp_path: Path) -> None:
    """Rows that went through the temporary directory come out in the same order."""
    rows = history(np.random.default_rng(4), 3_000, 40)
    path, small, large = write(tmp_path / "events.parquet", rows), MemoryStore(), MemoryStore()
    spilt = await imported(path, small, memory_bytes_max=10_000)
    held = await imported(path, large)
    assert (spilt.counts, sorted(spilt.refusals)) == (held.counts, sorted(held.refusals))
    assert await logs_of(small, rows) == await logs_of(large, rows)
    assert await entities(small, 9, 30) == await entities(large, 9, 30)


async def test_a_finished_file_is_passed_over_unless_asked_for(tmp_path: Path) -> None:
    """The account of a file whose rows are all in is the answer of the next run."""
    rows = [event(i, f"c-{i % 3}") for i in range(30)]
    path, store = write(tmp_path / "events.parquet", rows), MemoryStore()
    first = await imported(path, store)
    kept = await store.read_import(import_id_of(path, FORMAT), T)
    assert COMPLETE in kept
    second = await imported(path, store)
    assert second.counts == first.counts
    assert second.earlier == 30
    write(path, [*rows, event(99)])
    assert (await imported(path, store)).shown()["duplicate"] == 30


async def test_what_was_rejected_is_judged_again(tmp_path: Path) -> None:
    """A row in a currency that the facility is not in is accepted once the customer has no such facility."""
    rows = [event(1, facility_id="f-1", currency="USD"), event(2, "c-2")]
    path, store = write(tmp_path / "events.parquet", rows), MemoryStore()
    await store.commit(Commit("c-1", 0, facilities={"f-1": LINE}), T)
    first = await imported(path, store)
    assert [(r.row, r.column, r.reason) for r in first.refusals] == [(1, "currency", "the facility is in CNY")]
    await store.commit(Commit("c-1", 1, facilities={"f-1": replace(LINE, currency="USD")}), T)
    second = await imported(path, store)
    assert (second.counts["rejected"], second.counts["accepted"], second.earlier) == (0, 2, 1)


async def test_rows_without_an_amount_are_of_no_currency(tmp_path: Path) -> None:
    """A login at a facility in dollars needs no currency, as in a call of the API."""
    store = MemoryStore()
    await store.commit(Commit("c-1", 0, facilities={"f-1": replace(LINE, currency="USD")}), T)
    rows = [event(1, kind="login", amount=None, facility_id="f-1"), event(2, facility_id="f-1")]
    account = await imported(write(tmp_path / "events.parquet", rows), store)
    assert [r.row for r in account.refusals] == [2]


async def test_live_events_beside_an_import_are_neither_lost_nor_doubled(tmp_path: Path) -> None:
    """While a file is imported, others append to the same customers: every event is in its log once."""
    rows = [event(i, f"c-{i % 4}") for i in range(6_000)]
    path, store = write(tmp_path / "events.parquet", rows), MemoryStore()
    done = asyncio.Event()

    async def live(customer: str) -> int:
        sent = 0
        while not done.is_set():
            body = event(10_000 + sent, customer, at_ms=NOW_MS - 1_000, currency="CNY")
            batch = EventBatch(customer, [parse_event(body, 0, CLOCK)], KEEP, lambda: b"id")
            await change_customer(store, customer, batch.plan)
            sent += 1
            await asyncio.sleep(0.002)
        return sent

    callers = [asyncio.create_task(live(f"c-{n}")) for n in range(2)]
    account = await imported(path, store)
    done.set()
    sent = await asyncio.gather(*callers)
    assert account.counts["accepted"] == 6_000
    for number, log in enumerate((await logs_of(store, rows)).values()):
        keys = words_of(log)[1:, 1].tolist()
        assert len(keys) == len(set(keys)) == 1_500 + (sent[number] if number < 2 else 0)


async def entities(store: Store, devices: int, payees: int) -> list[bytes | None]:
    """The logs of some entities."""
    names = [log_name("device", f"d-{i}") for i in range(devices)]
    names += [log_name("payee", f"m-{i}") for i in range(payees)]
    return [(await store.read_links([name], T).logs())[name[0]] for name in names]


async def test_entities_get_their_newest_in_recorded_order(tmp_path: Path) -> None:
    """A payee's log holds the latest events of all customers, as many as it keeps, in the order of recording."""
    rows = [event(i, f"c-{i % 7}", counterparty_id="m-0") for i in range(300)]
    store = MemoryStore()
    await imported(write(tmp_path / "events.parquet", rows), store, links_kept=LinksKept(100, DAY_MS))
    log = (await store.read_links([log_name("payee", "m-0")], T).logs()).payee
    assert log is not None
    words = words_of(log)
    assert words[1:, 0].tolist() == [NOW_MS - DAY_MS + i for i in range(200, 300)]
    assert words[1:, 6].view("u8").tolist() == [customer_key(f"c-{i % 7}") for i in range(200, 300)]


async def test_an_import_leaves_what_is_newer_in_an_entity_log(tmp_path: Path) -> None:
    """History fills the room that live events left, pushes none of them out, and says what it left out."""
    store, name = MemoryStore(), log_name("payee", "m-0")
    live = [event(1_000 + i, "c-9", counterparty_id="m-0") for i in range(90)]
    await imported(write(tmp_path / "live.parquet", live), store, links_kept=LinksKept(100, DAY_MS))
    before = (await store.read_links([name], T).logs()).payee
    rows = [event(i, counterparty_id="m-0") for i in range(300)]
    for _ in range(2):
        await imported(
            write(tmp_path / "events.parquet", rows), store, links_kept=LinksKept(100, DAY_MS), again=True
        )  # fmt: skip
        after = (await store.read_links([name], T).logs()).payee
        assert before is not None
        assert after is not None
        assert after[64:].startswith(before[64:])
        assert read_header(after) == (0, NOW_MS - DAY_MS + 289)
        assert words_of(after)[91:, 0].tolist() == [NOW_MS - DAY_MS + i for i in range(290, 300)]


async def test_a_label_reaches_the_entities_of_the_event_it_concerns(tmp_path: Path) -> None:
    """A fraud label that names no payee is in the log of the payee that was paid."""
    rows = [
        event(1, counterparty_id="m-0", device_id="d-0"),
        event(2, kind="label", category="fraud", amount=None, about_event_id="e-1"),
    ]
    store = MemoryStore()
    await imported(write(tmp_path / "events.parquet", rows), store)
    for log in await entities(store, 1, 1):
        assert log is not None
        assert words_of(log)[2, 7] == words_of(log)[1, 1]


async def test_a_run_that_stopped_before_the_entity_logs_is_made_good(tmp_path: Path) -> None:
    """Customers that an earlier run finished are gone through once more for their links, and stay as they are."""
    rows = history(np.random.default_rng(5), 800, 20, good=True)
    path, store, whole = write(tmp_path / "events.parquet", rows), _Stopping(), MemoryStore()
    with pytest.raises(ConnectionError):
        await imported(path, store)
    assert 0 < len(await store.read_import(import_id_of(path, FORMAT), T)) <= SLICES
    account = await imported(path, store)
    clean = await imported(path, whole)
    assert (account.counts, account.trimmed) == (clean.counts, clean.trimmed)
    assert account.earlier > 0
    assert await logs_of(store, rows) == await logs_of(whole, rows)
    assert await entities(store, 9, 30) == await entities(whole, 9, 30)
    assert outbox_records(store) == outbox_records(whole)


class _Stopping(MemoryStore):
    """A store under an import that is stopped when it comes to the entity logs."""

    stopped = False

    async def append_links(self, *arguments: Any) -> Any:
        if not self.stopped:
            self.stopped = True
            raise ConnectionError("stopped")
        return await super().append_links(*arguments)


async def test_an_empty_file_is_done_at_once(tmp_path: Path) -> None:
    """A heading without rows is no error."""
    path = tmp_path / "events.csv"
    path.write_text("customer_id,event_id,kind,occurred_at\n")
    account = await imported(path, MemoryStore())
    assert account.rows == 0

"""Searching all decisions: what is archived, and what waits for it, as one list."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest_service import LINE, Clock, Run, Started, ask

from decision_service.api.instants import format_instant
from decision_service.archive import waiting
from decision_service.archive.all_decisions import AllDecisions
from decision_service.archive.archived_decisions import ArchivedDecisions
from decision_service.archive.chain import GENESIS, chained
from decision_service.archive.files import Archive
from decision_service.archive.rows import read_entry, row_of
from decision_service.archive.search import Question
from decision_service.archive.segments import day_of, segment_path
from decision_service.archive.tables import parquet_of, table_of
from decision_service.core.errors import ArchiveUnavailable, InvalidInput
from decision_service.decision_search import DecisionSearch
from decision_service.store.keys import partition_of
from decision_service.store.memory import MemoryStore
from decision_service.store.outbox import ArchiveHead

PARTITIONS = 16
PLACE = partition_of("c-1", PARTITIONS)
EVER_MS = 1 << 52


async def archived_so_far(store: MemoryStore, archive: Archive) -> None:
    """Archive what waits in the customer's place as the consumer does: a segment, then the head; nothing is trimmed."""
    head = await store.take_place(PLACE, "test", 60_000, 1)
    assert head is not None
    read = await store.read_outbox(PLACE, head.last_id, 1_000, 1)
    entries = [read_entry(at, fields) for at, fields in read]
    frames = [await store.read_decision(e.decision_id, 1) if e.decision_id else None for e in entries]
    rows = [row_of(PLACE, entry, frame) for entry, frame in zip(entries, frames, strict=True)]
    sealed = chained(rows, head.position, head.hash)
    last = sealed[-1]
    path = segment_path(PLACE, day_of(last.at_ms), head.position + 1, last.position, str(head.fence), last.hash or b"")
    archive.write(path, parquet_of(table_of(sealed), head.hash if head.position else GENESIS))
    moved = ArchiveHead(last.position, last.hash or b"", entries[-1].at, path, head.fence)
    await store.archived(PLACE, head, moved, [e.decision_id for e in entries if e.decision_id], 86_400_000, b"", 1)


async def decide(service: Started, request: Any) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads((await service.decisions.decide(request, 4_000, time.perf_counter())).body)
    return answer


def test_a_search_tells_what_is_archived_and_what_waits(
    run: Run, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newest first, each once, whatever of it is archived by then; and how far it covers everything."""
    store, archive = MemoryStore(partitions=PARTITIONS), Archive(tmp_path / "archive")

    async def test(service: Started) -> None:
        archived = ArchivedDecisions(lambda: archive, PARTITIONS)
        searches = DecisionSearch(store, service.active, archived, PARTITIONS, clock)
        await service.customers.put_facility(LINE)
        told: list[str] = []
        for number in range(4):
            told.append((await decide(service, ask(f"r-{number}", 900_00 if number % 2 else 10_00)))["decision_id"])
            if number == 1:
                await archived_so_far(store, archive)
        page = await searches.page(Question())
        assert [one["decision_id"] for one in page["decisions"]] == told[::-1]
        assert page["includes_waiting"]
        state = await store.outbox_state(PLACE, 1)
        assert (state.waiting, page["archived_through"]) == (2, format_instant(state.oldest_waiting_ms))
        waits, kept = page["decisions"][0], page["decisions"][-1]
        assert waits["rules"] is not None
        assert (kept["customer_id"], kept["approved_amount"], kept["decision"]) == ("c-1", 10.0, "approve")
        first = await searches.page(Question(customer_id="c-1", limit=3))
        rest = await searches.page(Question(customer_id="c-1", limit=3)._replace(after=_cursor(first["after"])))
        assert [one["decision_id"] for one in (*first["decisions"], *rest["decisions"])] == told[::-1]
        assert rest["after"] is None
        held = [one["decision_id"] for one in (await searches.page(Question(outcome="hold")))["decisions"]]
        assert held == [told[3]]  # 900 + 10 + 900 is above the line
        assert (await searches.page(Question(rule="over_limit")))["decisions"][0]["decision_id"] == told[3]
        monkeypatch.setattr(waiting, "WAITING_MAX", 1)
        page = await searches.page(Question())
        assert [one["decision_id"] for one in page["decisions"]] == told[1::-1]
        assert not page["includes_waiting"]
        await archived_so_far(store, archive)
        page = await searches.page(Question())
        assert [one["decision_id"] for one in page["decisions"]] == told[::-1]
        assert (page["includes_waiting"], page["archived_through"]) == (True, format_instant(clock.ms))
        archived.close()

    run(test, store)


def _cursor(text: str) -> Any:
    from decision_service.archive.search import Cursor

    return Cursor.parse(text)


def test_without_an_archive_there_is_no_search(run: Run, clock: Clock) -> None:
    """It says why, and that decisions are found by their id."""

    async def test(service: Started) -> None:
        searches = DecisionSearch(service.store, service.active, None, PARTITIONS, clock)
        with pytest.raises(ArchiveUnavailable, match="no archive is configured"):
            await searches.page(Question())

    run(test)


def test_a_command_reads_every_decision_once_and_is_told_where_the_outbox_begins(run: Run, tmp_path: Path) -> None:
    """From archive and outbox together; without the archive only as far back as the outbox reaches."""
    store, archive = MemoryStore(partitions=PARTITIONS), Archive(tmp_path / "archive")

    async def every(decisions: AllDecisions) -> list[str]:
        found = []
        async for page in decisions.pages(PLACE, 0, EVER_MS):
            assert all(one.frame is not None for one in page)
            found += [one.decision_id for one in page]
        return found

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        told = [(await decide(service, ask(f"r-{number}")))["decision_id"] for number in range(2)]
        await AllDecisions(store, PARTITIONS, None).refuse_unreachable(0)  # nothing is archived
        await archived_so_far(store, archive)
        told += [(await decide(service, ask(f"r-{number}")))["decision_id"] for number in range(2, 4)]
        await archived_so_far(store, archive)
        told += [(await decide(service, ask("r-4")))["decision_id"]]
        kept = AllDecisions(store, PARTITIONS, archive)
        assert await every(kept) == told
        assert await every(AllDecisions(store, PARTITIONS, None)) == told
        head = await store.take_place(PLACE, "test", 60_000, 1)
        assert head is not None
        entries = await store.read_outbox(PLACE, b"", 100, 1)
        await store.archived(PLACE, head, head, (), 1, entries[2][0], 1)  # the facility and two decisions are trimmed
        for decision_id in told[:2]:
            store._decisions.pop(decision_id)
        assert await every(kept) == told
        assert await every(AllDecisions(store, PARTITIONS, None)) == told[2:]
        first_ms = (await store.outbox_state(PLACE, 1)).first_ms
        await AllDecisions(store, PARTITIONS, None).refuse_unreachable(first_ms)
        begins = rf"the outbox begins at {format_instant(first_ms)} \(partition {PLACE}\)"
        with pytest.raises(InvalidInput, match=begins):
            await AllDecisions(store, PARTITIONS, None).refuse_unreachable(first_ms - 1)
        await kept.refuse_unreachable(0)
        archived = await kept.archived(told[0])
        assert archived is not None
        assert archived.row.customer_id == "c-1"

    run(test, store)

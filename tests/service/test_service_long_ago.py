"""Decided long ago: what a service says of decisions that have left its store, with an archive and without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest_service import LINE, Clock, Run, Started, ask, write_policy

from decision_service.archive.archived_decisions import ArchivedDecisions
from decision_service.archive.chain import GENESIS, chained, erased
from decision_service.archive.compaction import compact
from decision_service.archive.descriptions import DescriptionKeeper
from decision_service.archive.files import Archive
from decision_service.archive.rows import read_entry, row_of
from decision_service.archive.schema import Row
from decision_service.archive.segments import day_of, segment_path
from decision_service.archive.tables import parquet_of, table_of
from decision_service.core.errors import (
    ArchiveUnavailable,
    Conflict,
    Erased,
    NotFound,
    RequestIdReused,
    StoreUnavailable,
)
from decision_service.core.event import words_of
from decision_service.core.limits import DAY_MS
from decision_service.kept import KeptDecisions
from decision_service.long_ago import LongAgo
from decision_service.service import READ_TIMEOUT_S
from decision_service.store.memory import MemoryStore

PARTITIONS = 16


class Forgetting(MemoryStore):
    """A store whose frames expire when it is told."""

    away = False

    def expire(self) -> None:
        self._decisions.clear()
        self._shadows.clear()

    async def read_decision(self, decision_id: str, timeout_s: float) -> bytes | None:
        if self.away:
            raise StoreUnavailable("away")
        return await super().read_decision(decision_id, timeout_s)


async def archive_all(
    store: Forgetting, archive: Archive, at_ms: int, change: Callable[[Row], Row] = lambda row: row
) -> None:
    """Archive every entry of the outbox, a segment a place, index them, and keep what policies were."""
    for place in range(PARTITIONS):
        entries = [read_entry(b"%d-%d" % (at_ms, n), fields) for n, fields in enumerate(store.outbox(place))]
        frames = [await store.read_decision(e.decision_id, 1) if e.decision_id else None for e in entries]
        rows = [row_of(place, entry, frame) for entry, frame in zip(entries, frames, strict=True)]
        if rows:
            sealed = [change(row) for row in chained(rows, 0, GENESIS)]
            path = segment_path(place, day_of(at_ms), 1, len(sealed), "1", sealed[-1].hash or b"")
            archive.write(path, parquet_of(table_of(sealed), GENESIS))
            await DescriptionKeeper(store, archive).keep([row.policy_id or "" for row in sealed])
    for _ in compact(archive, range(PARTITIONS), at_ms + 2 * DAY_MS):
        pass


def with_archive(service: Started, archived: ArchivedDecisions) -> None:
    """Let a started service have an archive."""
    decisions = service.decisions
    decisions._long_ago = LongAgo(archived, decisions.now_ms, time.perf_counter)
    decisions.kept = KeptDecisions(service.store, service.active, archived, READ_TIMEOUT_S, lambda _id: None)


async def decide(service: Started, request: Any, budget_ms: int = 4_000) -> Any:
    return await service.decisions.decide(request, budget_ms, time.perf_counter())


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def test_a_retry_is_answered_from_the_archive(run: Run, clock: Clock, archive: Archive) -> None:
    """Byte for byte and as a replay, with nothing new in the log; other content under the id is refused as ever."""
    store = Forgetting(partitions=PARTITIONS)

    async def test(service: Started) -> None:
        archived = ArchivedDecisions(lambda: archive, PARTITIONS)
        with_archive(service, archived)
        await service.customers.put_facility(LINE)
        first = await decide(service, ask("r-1", 900_00))
        await archive_all(store, archive, clock.ms)
        store.expire()
        records = len(words_of((await store.read("c-1", None, 1)).log))
        again = await decide(service, ask("r-1", 900_00))
        assert again.body == first.body
        assert again.replayed
        assert (again.outcome, again.rung, again.scene) == (first.outcome, first.rung, first.scene)
        with pytest.raises(RequestIdReused):
            await decide(service, ask("r-1", 800_00))
        assert len(words_of((await store.read("c-1", None, 1)).log)) == records
        archived.close()

    run(test, store)


def test_a_retry_that_the_archive_does_not_answer_in_time_is_refused(run: Run, clock: Clock, archive: Archive) -> None:
    """By the deadline, as one whose answer the archive lacks, or has erased."""
    store = Forgetting(partitions=PARTITIONS)

    def hang() -> Archive:
        time.sleep(0.5)
        return archive

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        await decide(service, ask("r-1", 900_00))
        await archive_all(store, archive, clock.ms, lambda row: erased(row, 7) if row.decision_id else row)
        store.expire()
        hanging = ArchivedDecisions(hang, PARTITIONS)
        with_archive(service, hanging)
        began = time.perf_counter()
        with pytest.raises(Conflict, match="did not give its answer in time"):
            await decide(service, ask("r-1", 900_00), budget_ms=100)
        assert time.perf_counter() - began < 0.45
        hanging.close()
        archived = ArchivedDecisions(lambda: archive, PARTITIONS)
        with_archive(service, archived)
        with pytest.raises(Conflict, match="no longer kept"):
            await decide(service, ask("r-1", 900_00))
        archived.close()

    run(test, store)


def test_a_decision_is_explained_the_same_from_store_and_archive(run: Run, clock: Clock, archive: Archive) -> None:
    """The same bytes, whence is told; nowhere is NotFound; while the store is away the archive answers alone."""
    store = Forgetting(partitions=PARTITIONS)

    async def test(service: Started) -> None:
        archived = ArchivedDecisions(lambda: archive, PARTITIONS)
        with_archive(service, archived)
        kept = service.decisions.kept
        await service.customers.put_facility(LINE)
        answer = await decide(service, ask("r-1", 900_00))
        stored = await kept.decision(answer.decision_id)
        assert stored.source == "store"
        await archive_all(store, archive, clock.ms)
        store.away = True
        assert await kept.decision(answer.decision_id) == stored._replace(source="archive")
        with pytest.raises(StoreUnavailable):
            await kept.decision("d000" + "0" * 32)
        store.away = False
        store.expire()
        store._policies.clear()  # and with it what the policy was
        service.active._in_force.policy = service.active.policy.with_lists({"block": frozenset(["c-9"])})
        assert await kept.decision(answer.decision_id) == stored._replace(source="archive")
        with pytest.raises(NotFound):
            await kept.decision("d000" + "0" * 32)
        archived.close()
        with pytest.raises(Exception, match="shutdown"):
            await kept.decision(answer.decision_id)

    run(test, store)


def test_an_erased_decision_tells_what_is_still_known(run: Run, clock: Clock, archive: Archive) -> None:
    """Outcome, reasons, instants and the tombstone, and nothing of the customer."""
    store = Forgetting(partitions=PARTITIONS)

    async def test(service: Started) -> None:
        archived = ArchivedDecisions(lambda: archive, PARTITIONS)
        with_archive(service, archived)
        await service.customers.put_facility(LINE)
        answer = await decide(service, ask("r-1", 1_900_00))
        await archive_all(store, archive, clock.ms, lambda row: erased(row, clock.ms) if row.decision_id else row)
        store.expire()
        with pytest.raises(Erased) as told:
            await service.decisions.kept.decision(answer.decision_id)
        known = dict(told.value.known)
        assert (known["decision"], known["hold"], known["reasons"]) == ("hold", "block", ["RC04"])
        assert known["tombstone"]["erased_at"] == known["recorded_at"]
        assert b"c-1" not in orjson.dumps(known)
        archived.close()

    run(test, store)


def test_a_review_that_left_no_record_is_not_decided_anew(
    run: Run, clock: Clock, archive: Archive, rules: Path
) -> None:
    """Its answer comes from the archive's index, unless it says that it is of the last hours."""
    write_policy(rules)
    (rules / "limit.yaml").write_text(
        "rule_set: limit_review\nscene: limit\nrules:\n"
        "  - id: fine\n    when: facility.limit > 0\n    on_null: skip\n    then: approve\n"
        "fallback: {static: {hold: review, reason: RC90}}\n"
    )
    store = Forgetting(partitions=PARTITIONS)

    async def test(service: Started) -> None:
        archived = ArchivedDecisions(lambda: archive, PARTITIONS)
        with_archive(service, archived)
        await service.customers.put_facility(LINE)
        review = ask("r-1", 0, scene="limit", currency="")
        first = await decide(service, review)
        await archive_all(store, archive, clock.ms)
        store.expire()
        clock.ms += 40 * DAY_MS
        version = (await store.read("c-1", None, 1)).version
        again = await decide(service, review)
        assert (again.body, again.replayed) == (first.body, True)
        assert (await store.read("c-1", None, 1)).version == version
        with pytest.raises(RequestIdReused):
            await decide(service, replace(review, fingerprint=b"x" * 16))
        fresh = ask("r-1", 0, scene="limit", currency="", occurred_at_ms=clock.ms)
        assert not (await decide(service, fresh)).replayed  # is not looked for: its frame would be there
        anew = await decide(service, ask("r-2", 0, scene="limit", currency=""))
        assert not anew.replayed
        archived.close()

    run(test, store)


def test_a_review_whose_answer_is_gone_is_not_decided_anew(
    run: Run, clock: Clock, archive: Archive, rules: Path
) -> None:
    """Erased, or after its retention: refused as a drawdown is, not a second answer under the same decision id."""
    write_policy(rules)
    (rules / "limit.yaml").write_text(
        "rule_set: limit_review\nscene: limit\nrules:\n"
        "  - id: fine\n    when: facility.limit > 0\n    on_null: skip\n    then: approve\n"
        "fallback: {static: {hold: review, reason: RC90}}\n"
    )
    store = Forgetting(partitions=PARTITIONS)

    async def test(service: Started) -> None:
        archived = ArchivedDecisions(lambda: archive, PARTITIONS)
        with_archive(service, archived)
        await service.customers.put_facility(LINE)
        review = ask("r-1", 0, scene="limit", currency="")
        await decide(service, review)
        await archive_all(store, archive, clock.ms, lambda row: erased(row, 7) if row.decision_id else row)
        store.expire()
        with pytest.raises(Conflict, match="no longer kept"):
            await decide(service, review)
        archived.close()

    run(test, store)


def test_without_an_archive_nothing_is_asked(run: Run, clock: Clock) -> None:
    """What left the store is not found, and a retry is refused."""
    store = Forgetting(partitions=PARTITIONS)

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        answer = await decide(service, ask("r-1", 900_00))
        store.expire()
        with pytest.raises(NotFound):
            await service.decisions.decision(answer.decision_id)
        with pytest.raises(Conflict, match="decided long ago"):
            await decide(service, ask("r-1", 900_00))
        await asyncio.sleep(0)

    run(test, store)


def test_an_archive_that_is_away_is_told(run: Run, tmp_path: Path) -> None:
    """Not that there is no such decision."""

    def away() -> Archive:
        raise ArchiveUnavailable("away")

    async def test(service: Started) -> None:
        archived = ArchivedDecisions(away, PARTITIONS)
        with_archive(service, archived)
        with pytest.raises(ArchiveUnavailable):
            await service.decisions.kept.decision("d000" + "0" * 32)
        archived.close()

    run(test, Forgetting(partitions=PARTITIONS))

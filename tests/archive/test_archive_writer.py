"""The writer: every entry once, in order, whatever ends it wherever; on the store in memory and on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from archive_checks import (
    PARTITIONS,
    TIMEOUT_S,
    Counted,
    check_exactly_once,
    decide,
    drained,
    rows_in,
    waiting_place,
    writer_on,
)

from decision_service.archive.files import Archive
from decision_service.archive.writer import Limits, Writer
from decision_service.core.errors import ArchiveDamaged, ArchiveUnavailable, OutcomeUnknown, StoreUnavailable
from decision_service.store import Store
from decision_service.store.keys import partition_of
from decision_service.store.memory import MemoryStore
from decision_service.store.open import open_store

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty store of each sort, of few partitions."""
    if request.param == "memory":
        yield MemoryStore(partitions=PARTITIONS)
        return
    opened = open_store(request.getfixturevalue("valkey"), partitions=PARTITIONS)
    try:
        yield opened
    finally:
        await opened.close()


class Ended(Exception):
    """Stands for the end of the process: nothing below may catch it."""


class Doomed:
    """Passes calls on to a store or an archive, and ends the process at a chosen one, before or after it is done."""

    def __init__(self, inner: Any, doom: Doom, names: tuple[str, ...]) -> None:
        self._inner, self._doom, self._names = inner, doom, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found
        if asyncio.iscoroutinefunction(found):

            async def call(*args: Any, **kwargs: Any) -> Any:
                self._doom.step(name)
                result = await found(*args, **kwargs)
                self._doom.step(name)
                return result

            return call

        def call_now(*args: Any, **kwargs: Any) -> Any:
            self._doom.step(name)
            result = found(*args, **kwargs)
            self._doom.step(name)
            return result

        return call_now


class Doom:
    """Counts steps, and raises at one of them."""

    def __init__(self, at: int, error: type[Exception] = Ended) -> None:
        self.at, self.error, self.steps, self.came = at, error, 0, ""

    def step(self, name: str) -> None:
        """One step; the end if it is the chosen one."""
        self.steps += 1
        if self.steps == self.at:
            self.came = name
            raise self.error(f"at {name}") if self.error is not Ended else Ended()


PLACE = (partition_of("c-1", PARTITIONS),)
STORE_CALLS = ("take_place", "read_outbox", "read_decisions", "read_policy", "archived")
ARCHIVE_CALLS = ("stage", "publish", "staged", "discard", "is_published", "newest")


def doomed_writer(store: Store, folder: Path, doom: Doom, owner: str) -> Writer:
    """A writer that ends at a step."""
    archive: Any = Doomed(Archive(folder), doom, ARCHIVE_CALLS)
    return Writer(Doomed(store, doom, STORE_CALLS), archive, owner, Limits(10, 60_000), Counted())  # type: ignore[arg-type]


async def test_what_waits_is_written_once_and_trimmed_one_segment_later(store: Store, tmp_path: Path) -> None:
    """Segments of ten; of the stream only what the last head covered is left; again nothing is written."""
    ids = await decide(store, 1, range(25)) + await decide(store, 2, range(3))
    told = Counted()
    writer = writer_on(store, tmp_path, told=told)
    assert await drained(writer) == 28
    check_exactly_once(tmp_path, ids)
    assert await drained(writer) == 0
    assert told.kinds == {"change": 28}
    states = [await store.outbox_state(place, TIMEOUT_S) for place in range(PARTITIONS)]
    assert sum(state.waiting for state in states) == 0
    assert max(state.length for state in states) <= 10
    more = await decide(store, 1, range(25, 27))
    assert await drained(writer) == 2
    check_exactly_once(tmp_path, ids + more)


@pytest.mark.parametrize("owners", [pytest.param(("a", "a"), marks=pytest.mark.slow), ("a", "b")])
async def test_a_writer_may_end_at_any_step(tmp_path: Path, owners: tuple[str, str]) -> None:
    """Ended before or after each of its calls, its successor finishes what it began: every entry once."""
    doom, at = Doom(0), 0
    while at <= doom.steps:
        at += 1
        folder, store = tmp_path / str(at), MemoryStore(partitions=PARTITIONS)
        ids = await decide(store, 1, range(12))
        doom = Doom(at)
        try:
            await drained(doomed_writer(store, folder, doom, owners[0]), PLACE)
        except Ended:
            ids += await decide(store, 1, range(12, 14))
        await store.leave_place(*PLACE, owners[0], TIMEOUT_S)
        await drained(writer_on(store, folder, owners[1]), PLACE)
        check_exactly_once(folder, ids)
        await drained(writer_on(store, folder, "tidy"), PLACE)
        assert [path for path, _ in Archive(folder).staged()] == [], doom.came
    assert at > 30


@pytest.mark.parametrize(
    "error",
    [OutcomeUnknown, *(pytest.param(e, marks=pytest.mark.slow) for e in (StoreUnavailable, ArchiveUnavailable))],
)
async def test_a_call_may_fail_at_any_step(tmp_path: Path, error: type[Exception]) -> None:
    """The same writer goes on after a failure, though it does not know whether what failed was done."""
    doom, at = Doom(0), 0
    while at <= doom.steps:
        at += 1
        folder, store = tmp_path / str(at), MemoryStore(partitions=PARTITIONS)
        ids = await decide(store, 1, range(12))
        doom = Doom(at, error)
        writer = doomed_writer(store, folder, doom, "a")
        try:
            await drained(writer, PLACE)
        except error:
            assert doom.came
        doom.at = -1
        ids += await decide(store, 1, range(12, 14))
        await drained(writer, PLACE)
        check_exactly_once(folder, ids)


async def test_who_was_away_for_too_long_cannot_count(store: Store, tmp_path: Path) -> None:
    """A writer that stops between staging and the head, and wakes up when another has the place, changes nothing."""
    ids = await decide(store, 1, range(4))
    place = await waiting_place(store)
    woken, asleep = asyncio.Event(), asyncio.Event()

    class Sleepy:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def archived(self, *args: Any) -> None:
            asleep.set()
            await woken.wait()
            await store.archived(*args)

    slow = asyncio.create_task(writer_on(Sleepy(), tmp_path, "slow").write(place))  # type: ignore[arg-type]
    await asleep.wait()
    await store.leave_place(place, "slow", TIMEOUT_S)
    assert await writer_on(store, tmp_path, "quick").write(place) == 4
    woken.set()
    assert await slow is None
    check_exactly_once(tmp_path, ids)
    assert await writer_on(store, tmp_path, "quick").write(place) == 0
    assert Archive(tmp_path).staged() == []


async def test_a_place_is_written_by_one_at_a_time(store: Store, tmp_path: Path) -> None:
    """Two writers over one store: what one has is the other's None, and between them all is written once."""
    ids = [one for customer in range(12) for one in await decide(store, customer, range(5))]
    writers = [writer_on(store, tmp_path, owner, rows_max=4) for owner in ("a", "b", "c")]

    async def work(writer: Writer) -> None:
        for _ in range(8):
            for place in range(PARTITIONS):
                await writer.write(place)

    await asyncio.gather(*(work(writer) for writer in writers))
    for writer in writers:
        await writer.leave()
    await drained(writers[0])
    check_exactly_once(tmp_path, ids)


async def test_days_are_not_mixed(tmp_path: Path) -> None:
    """At midnight UTC a new segment begins."""
    now = [86_400_000 * 20_000 - 2]
    store = MemoryStore(partitions=PARTITIONS, now_ms=lambda: now[0])
    ids = []
    for n in range(4):
        ids += await decide(store, 1, [n])
        now[0] += 1
    await drained(writer_on(store, tmp_path))
    check_exactly_once(tmp_path, ids)
    assert [(s.day, s.first, s.last) for s in Archive(tmp_path).segments()] == [
        ("2024-10-03", 1, 2), ("2024-10-04", 3, 4),
    ]  # fmt: skip


async def test_an_entry_that_cannot_be_read_is_written_and_passed(store: Store, tmp_path: Path) -> None:
    """It is chained and counted like any other, and what comes after it is archived."""
    ids = await decide(store, 1, range(2))
    place = await waiting_place(store)
    await store.add_entry(place, {b"kind": b"decision", b"id": b"\xff"}, TIMEOUT_S)
    await store.add_entry(place, {b"kind": b"erasure", b"body": b'{"customer_key":9223372036854775808}'}, TIMEOUT_S)
    ids += await decide(store, 1, range(2, 4))
    told = Counted()
    await drained(writer_on(store, tmp_path, told=told))
    assert told.kinds == {"change": 4, "unreadable": 2}
    rows = rows_in(tmp_path)[place]
    assert [row.kind for row in rows] == ["change", "change", "unreadable", "unreadable", "change", "change"]
    assert all(row.raw for row in rows[2:4])


async def test_a_store_set_back_goes_on_behind_the_archive(tmp_path: Path) -> None:
    """A store that lost its head, and one that is new: rows that are archived are not written twice, the chain goes on,
    and what only the store has comes behind it."""
    now = [86_400_000 * 20_000]
    store = MemoryStore(partitions=PARTITIONS, now_ms=lambda: now[0])
    ids = await decide(store, 1, range(6))
    await drained(writer_on(store, tmp_path))
    again = MemoryStore(partitions=PARTITIONS, now_ms=lambda: now[0])
    lost = await decide(again, 1, range(6))  # the same entries once more, as after a backup without the head
    assert lost == ids
    now[0] += 5
    more = await decide(again, 1, range(6, 8))
    await drained(writer_on(again, tmp_path, "b"))
    check_exactly_once(tmp_path, ids + more)


async def test_older_entries_that_the_archive_lacks_come_behind_it(tmp_path: Path) -> None:
    """Of a store set back, what was written by a clock that is behind is not taken for archived."""
    now = [86_400_000 * 20_000]
    store = MemoryStore(partitions=PARTITIONS, now_ms=lambda: now[0])
    ids = await decide(store, 1, range(3))
    await drained(writer_on(store, tmp_path))
    again = MemoryStore(partitions=PARTITIONS, now_ms=lambda: now[0] - 1_000)
    await decide(again, 1, range(10, 12))
    await drained(writer_on(again, tmp_path, "b"))
    rows = [row for rows in rows_in(tmp_path).values() for row in rows]
    assert [row.request_id for row in rows] == ["r-0", "r-1", "r-2", "r-10", "r-11"]
    assert len(ids) == 3


async def test_another_archive_is_refused(store: Store, tmp_path: Path) -> None:
    """A head whose segment is nowhere is an error that names it, and nothing is trimmed."""
    await decide(store, 1, range(5))
    writer = writer_on(store, tmp_path / "one", "a", rows_max=2)
    place = await waiting_place(store)
    assert await writer.write(place) == 2
    await writer.leave()
    before = await store.outbox_state(place, TIMEOUT_S)
    with pytest.raises(ArchiveDamaged, match="000000000002"):
        await writer_on(store, tmp_path / "other", "b").write(place)
    assert await store.outbox_state(place, TIMEOUT_S) == before


async def test_policies_are_kept_before_a_row_names_them(store: Store, tmp_path: Path) -> None:
    """Each once; while that fails no row counts."""
    await decide(store, 1, range(3))
    kept: list[str] = []
    broken = [True]

    async def keep(policy_ids: Any) -> frozenset[str]:
        if broken[0]:
            raise ArchiveUnavailable("away")
        assert rows_in(tmp_path) == {}
        kept.extend(policy_ids)
        return frozenset()

    writer = Writer(store, Archive(tmp_path), "a", Limits(10, 60_000), Counted(), keep)
    with pytest.raises(ArchiveUnavailable):
        await drained(writer)
    assert rows_in(tmp_path) == {}
    broken[0] = False
    assert await drained(writer) == 3
    assert kept == ["9f2c51d07a3b"]

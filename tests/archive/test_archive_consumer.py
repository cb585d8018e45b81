"""The consumer: what is due is written, what fails waits without harm to the rest, and what it does is counted."""

from __future__ import annotations

import asyncio
import math
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
    rows_in,
    waiting_place,
    writer_on,
)

from decision_service.archive.consumer import Consumer
from decision_service.archive.headroom import Headroom, Room, memory_left
from decision_service.archive.meters import ArchiveMeters, families
from decision_service.core.errors import StoreUnavailable
from decision_service.store import Store
from decision_service.store.memory import MemoryStore
from decision_service.store.open import open_store

pytestmark = pytest.mark.anyio
START_MS = 86_400_000 * 20_000


class Clock:
    """The store's and the consumer's."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


def consumer_on(
    store: Store, folder: Path, clock: Clock, told: Counted, owner: str = "a", rows_max: int = 10
) -> Consumer:
    """A consumer that waits for ten rows, or a minute."""
    writer = writer_on(store, folder, owner, rows_max, told)
    return Consumer(store, writer, told, PARTITIONS, rows_max, 60.0, clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(partitions=PARTITIONS, now_ms=clock)


async def look_once(consumer: Consumer) -> bool:
    """One round."""
    return await consumer._round(asyncio.Event())


async def test_little_waits_until_it_is_old(store: MemoryStore, clock: Clock, tmp_path: Path) -> None:
    """Nine rows wait a minute, ten are written at once; until then nothing is read."""
    told = Counted()
    consumer = consumer_on(store, tmp_path, clock, told)
    ids = await decide(store, 1, range(9))
    clock.now_ms += 59_000
    assert not await look_once(consumer)
    assert (told.lag_s, told.backlog) == (59.0, 9)
    assert rows_in(tmp_path) == {}
    ids += await decide(store, 1, range(9, 10))
    assert await look_once(consumer)
    check_exactly_once(tmp_path, ids)
    ids += await decide(store, 1, range(10, 11))
    clock.now_ms += 60_000
    assert await look_once(consumer)
    check_exactly_once(tmp_path, ids)
    assert not await look_once(consumer)
    assert (told.lag_s, told.backlog) == (0.0, 0)


async def test_a_place_that_fails_holds_up_no_other(store: MemoryStore, clock: Clock, tmp_path: Path) -> None:
    """It is tried again later, and nothing of it is trimmed meanwhile."""
    ids = [one for customer in range(8) for one in await decide(store, customer, range(3))]
    broken = await waiting_place(store)
    failing = [True]

    class Store_(MemoryStore):  # noqa: N801
        def __getattribute__(self, name: str) -> Any:
            return getattr(store, name) if name != "read_outbox" else read_outbox

    async def read_outbox(place: int, *args: Any) -> Any:
        if place == broken and failing[0]:
            raise StoreUnavailable("away")
        return await store.read_outbox(place, *args)

    told = Counted()
    consumer = consumer_on(Store_(), tmp_path, clock, told)
    clock.now_ms += 60_000
    assert await look_once(consumer)
    assert told.failed == ["store-unavailable"]
    assert broken not in rows_in(tmp_path)
    assert len(rows_in(tmp_path)) > 1
    assert not await look_once(consumer)  # it waits before it is tried again
    failing[0] = False
    consumer._waits.clear()
    await look_once(consumer)
    check_exactly_once(tmp_path, ids)


async def test_an_archive_that_cannot_be_written_costs_nothing(
    store: MemoryStore, clock: Clock, tmp_path: Path
) -> None:
    """No entry goes, the failure is counted, and all is written once the folder is writable again."""
    ids = await decide(store, 1, range(15))
    place = await waiting_place(store)
    before = await store.outbox_state(place, TIMEOUT_S)
    (tmp_path / "archive").write_text("in the way")
    told = Counted()
    consumer = consumer_on(store, tmp_path / "archive", clock, told)
    await look_once(consumer)
    assert told.failed == ["archive-unavailable"]
    assert await store.outbox_state(place, TIMEOUT_S) == before
    (tmp_path / "archive").unlink()
    consumer._waits.clear()
    clock.now_ms += 60_000
    await look_once(consumer)
    await look_once(consumer)
    check_exactly_once(tmp_path / "archive", ids)


async def test_what_one_consumer_cannot_write_another_does(store: MemoryStore, clock: Clock, tmp_path: Path) -> None:
    """The first one's disk is full: it gives the place back and does not keep it by trying."""
    ids = await decide(store, 1, range(15))
    (tmp_path / "full").write_text("in the way")
    told = Counted()
    await look_once(consumer_on(store, tmp_path / "full", clock, told, "a"))
    assert told.failed == ["archive-unavailable"]
    clock.now_ms += 1_000
    done = await consumer_on(store, tmp_path / "archive", clock, told, "b").drain(asyncio.Event())
    assert (done.rows, done.held, done.failed) == (15, 0, {})
    check_exactly_once(tmp_path / "archive", ids)


async def test_a_bug_in_one_place_stops_no_other(store: MemoryStore, clock: Clock, tmp_path: Path) -> None:
    """Whatever is raised is counted as internal, and the round goes on."""
    for customer in range(8):
        await decide(store, customer, range(3))
    told = Counted()
    consumer = consumer_on(store, tmp_path, clock, told)
    write, calls = consumer._writer.write, []

    async def write_some(place: int) -> int | None:
        calls.append(place)
        if len(calls) == 1:
            raise ZeroDivisionError
        return await write(place)

    consumer._writer.write = write_some  # type: ignore[method-assign]
    clock.now_ms += 60_000
    await look_once(consumer)
    assert told.failed == ["internal"]
    assert len(rows_in(tmp_path)) == len(calls) - 1 > 0


@pytest.fixture
async def shared(valkey: str) -> AsyncIterator[Store]:
    """A store on a real server."""
    opened = open_store(valkey, partitions=PARTITIONS)
    try:
        yield opened
    finally:
        await opened.close()


async def test_several_consumers_share_a_store(shared: Store, tmp_path: Path) -> None:
    """Three at once, while decisions are made: everything once, chains whole, and no place stays taken."""
    stop, told = asyncio.Event(), [Counted() for _ in range(3)]
    clock = Clock()
    clock.now_ms = 10**15  # everything is old
    consumers = [consumer_on(shared, tmp_path, clock, told[i], str(i), rows_max=7) for i in range(3)]
    running = [asyncio.create_task(consumer.run(stop)) for consumer in consumers]
    ids: list[str] = []
    for n in range(12):
        for customer in range(6):
            ids += await decide(shared, customer, [n])
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    stop.set()
    await asyncio.gather(*running)
    done = await consumer_on(shared, tmp_path, clock, told[0], "last").drain(asyncio.Event())
    assert (done.held, done.failed) == (0, {})
    check_exactly_once(tmp_path, ids)
    assert not [failure for one in told for failure in one.failed]


async def test_what_drain_could_not_write_is_told(store: MemoryStore, clock: Clock, tmp_path: Path) -> None:
    """By place, with the reason; the rest is written."""
    await decide(store, 1, range(3))
    (tmp_path / "archive").write_text("in the way")
    done = await consumer_on(store, tmp_path / "archive", clock, Counted()).drain(asyncio.Event())
    assert done.rows == 0
    assert len(done.failed) == 1
    (tmp_path / "archive").unlink()
    again = await consumer_on(store, tmp_path / "archive", clock, Counted(), "b").drain(asyncio.Event())
    assert (again.rows, again.held, again.failed) == (3, 0, {})


async def test_places_of_another_consumer_are_told_by_drain(store: MemoryStore, clock: Clock, tmp_path: Path) -> None:
    """They are left to it: somebody writes them."""
    await decide(store, 1, range(3))
    place = await waiting_place(store)
    assert await store.take_place(place, "other", 60_000, TIMEOUT_S) is not None
    done = await consumer_on(store, tmp_path, clock, Counted()).drain(asyncio.Event())
    assert (done.rows, done.held, done.failed) == (0, 1, {})


def test_meters_are_told_by_any_process_of_the_host(tmp_path: Path) -> None:
    """Counters stay when a consumer ends; what only a running one knows goes with it."""
    assert list(families(tmp_path)) == []
    meters = ArchiveMeters(tmp_path)
    meters.archive_wrote({"change": 3, "unreadable": 1}.items(), 4_096)
    meters.archive_failed("store-unavailable")
    meters.archive_failed("never heard of")
    meters.set_archive(2.5, 7)
    meters.set_headroom(Room(1_000.0, math.inf))
    values = told_values(tmp_path)
    assert values["decision_service_archive_rows_total change"] == 3
    assert values["decision_service_archive_rows_total unreadable"] == 1
    assert values["decision_service_archive_failures_total store-unavailable"] == 1
    assert values["decision_service_archive_failures_total other"] == 1
    assert values["decision_service_archive_segments_total"] == 1
    assert values["decision_service_archive_bytes_total"] == 4_096
    assert values["decision_service_archive_consumers"] == 1
    assert values["decision_service_archive_lag_seconds"] == 2.5
    assert values["decision_service_archive_backlog_entries"] == 7
    assert values["decision_service_archive_headroom_bytes"] == 1_000
    assert values["decision_service_archive_headroom_seconds"] == math.inf
    meters.close()
    values = told_values(tmp_path)
    assert values["decision_service_archive_consumers"] == 0
    assert values["decision_service_archive_rows_total change"] == 3
    assert "decision_service_archive_lag_seconds" not in values


def told_values(directory: Path) -> dict[str, float]:
    """The samples by name and labels."""
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in families(directory)
        for sample in family.samples
    }


def test_headroom_is_the_smallest_and_lasts_as_it_shrinks(tmp_path: Path) -> None:
    """Of a server of 1,000 bytes that grows by 1 a second 300 s are left at 300; nothing bounds one without a limit."""
    now = [0.0]
    headroom = Headroom(lambda: now[0])
    assert headroom.look([(600, 1_000), (5, 10_000), (9, 0)]) == Room(400.0, math.inf)
    now[0] = 59.0
    assert headroom.look([(700, 1_000)]) == Room(300.0, math.inf)
    now[0] = 100.0
    assert headroom.look([(700, 1_000)]) == Room(300.0, 300.0)
    now[0] = 1_000.0
    assert headroom.look([(700, 1_000)]) == Room(300.0, math.inf)
    assert Headroom(lambda: 0.0).look([(9, 0)]) == Room(math.inf, math.inf)
    assert 0 < Headroom(lambda: 0.0, tmp_path).look().left_bytes < math.inf


def test_memory_left_is_that_of_the_container_if_it_is_less(tmp_path: Path) -> None:
    """As /proc and the container's own files tell it."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 16 kB\nMemAvailable:       8 kB\n")
    assert memory_left(tmp_path, meminfo) == 8_192
    (tmp_path / "memory.max").write_text("6000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory_left(tmp_path, meminfo) == 5_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_left(tmp_path, meminfo) == 8_192
    assert memory_left(tmp_path, tmp_path / "none") == math.inf

"""The linker over every store: what is committed reaches the logs of its entities, once, whoever dies when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from store_cases import T, decision_id, record

from decision_service import linker as linker_module
from decision_service.core.errors import OutcomeUnknown, StoreUnavailable
from decision_service.core.event import EMPTY_LOG
from decision_service.core.limits import DAY_MS
from decision_service.core.links import (
    about_name,
    customer_key,
    entity_header,
    link_record,
    log_name,
    log_names,
    pack_links,
)
from decision_service.decision_log import MAGIC
from decision_service.linker import QUEUE_MAX, STALE_MS, Linker
from decision_service.store import Commit, LinkCounts, Store, keys
from decision_service.store.memory import MemoryStore
from decision_service.telemetry import Meters

pytestmark = pytest.mark.anyio

NOW_MS = 1_795_000_000_000
PARTITIONS = 256
PAYEE = log_name("payee", "m-1")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meters(tmp_path: Path) -> Iterator[Meters]:
    meters = Meters(tmp_path)
    yield meters
    meters.close()


MakeLinker = Callable[[Store], Linker]


@pytest.fixture
def make(clock: Clock, meters: Meters) -> MakeLinker:
    """A linker of a worker of its own."""
    return lambda store: Linker(store, meters, clock, PARTITIONS, 1_024, DAY_MS)


def counted(meters: Meters, name: str) -> float:
    """What a meter shows."""
    return float(meters.totals().cells[meters.layout.names.index(name)])


def entering(number: int, customer_id: str) -> bytes:
    return link_record(record(number), customer_key(customer_id))


async def draw(
    store: Store, linker: Linker, customer_id: str, number: int, names: Sequence[bytes] = (PAYEE,), **asked: str
) -> Commit:
    """Commit a record of a customer with links to entities, and a decision on a request that named `asked`."""
    body = orjson.dumps({"customer_id": customer_id, **asked})
    frame = MAGIC + b"".join(size.to_bytes(4, "little") for size in (0, 0, len(body), 0, 0, 0)) + body
    state = await store.read(customer_id, None, T)
    links = linker.new_id(), pack_links(names, record(number), customer_key(customer_id))
    commit = Commit(
        customer_id, state.version, record(number),
        decision=(decision_id(customer_id, f"r-{number}"), frame), links=links,
    )  # fmt: skip
    await store.commit(commit, T)
    return commit


async def log_of(store: Store, name: bytes = PAYEE) -> bytes | None:
    return (await store.read_links([name], T).logs())[name[0]]


async def waiting_everywhere(store: Store) -> int:
    """How many commits wait to be linked."""
    return sum([len((await store.waiting_links(p, 0, T))[1]) for p in range(PARTITIONS)])


async def until(found: Callable[[], bool]) -> None:
    """Wait for something that happens by itself."""
    for _ in range(2_000):
        if found():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")


async def until_linked(store: Store) -> None:
    """Wait for the payee's first record."""
    for _ in range(2_000):
        if await log_of(store) != EMPTY_LOG:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nothing was ever linked")


async def sweep(linker: Linker) -> None:
    """Once through all partitions, without the pauses."""
    for partition in range(PARTITIONS):
        await linker.sweep_partition(partition)


async def test_linker_brings_commits_of_all_customers_into_one_log(any_store: Store, make: MakeLinker) -> None:
    """What several customers did with one payee stands in its log, in the order it was taken, and waits no more."""
    linker = make(any_store)
    for number in range(100):
        linker.take(await draw(any_store, linker, f"c-{number}", number))
    await linker.flush()
    records = b"".join(entering(n, f"c-{n}") for n in range(100))
    assert await log_of(any_store) == entity_header("payee") + records
    assert await waiting_everywhere(any_store) == 0


async def test_linker_running_needs_no_push(any_store: Store, make: MakeLinker) -> None:
    """A started linker links what it is given by itself, and what it still has when it is closed."""
    linker = make(any_store)
    linker.start()
    linker.take(await draw(any_store, linker, "c-1", 1))
    await until_linked(any_store)
    linker.take(await draw(any_store, linker, "c-1", 2))
    await linker.close()
    assert await log_of(any_store) == entity_header("payee") + entering(1, "c-1") + entering(2, "c-1")


async def test_linker_of_another_worker_finishes_what_a_dead_one_left(
    any_store: Store, make: MakeLinker, clock: Clock, meters: Meters
) -> None:
    """A worker that dies after the commit has lost nothing: who sweeps links it, once it has waited long enough; and
    if the dead one comes back and links it as well, it is there once."""
    dead, alive = make(any_store), make(any_store)
    for number in range(5):
        dead.take(await draw(any_store, dead, f"c-{number}", number))
    clock.ms += STALE_MS
    await sweep(alive)
    assert await log_of(any_store) == EMPTY_LOG, "what is fresh belongs to whoever committed it"
    clock.ms += 1
    await sweep(alive)
    log = await log_of(any_store)
    assert log is not None
    assert {log[at : at + 64] for at in range(64, len(log), 64)} == {entering(n, f"c-{n}") for n in range(5)}
    assert await waiting_everywhere(any_store) == 0
    await dead.flush()
    assert await log_of(any_store) == log
    assert (counted(meters, "links appended"), counted(meters, "links duplicate")) == (5, 5)


@pytest.mark.fault("H14")
async def test_linker_dead_between_append_and_forget_doubles_nothing(
    any_store: Store, make: MakeLinker, clock: Clock
) -> None:
    """Links that were appended and not yet forgotten are appended again, and stand there once."""
    linker = make(any_store)
    commit = await draw(any_store, linker, "c-1", 1)
    await any_store.append_links({PAYEE: entering(1, "c-1")}, 1_024, DAY_MS, T)
    clock.ms += STALE_MS + 1
    await asyncio.gather(sweep(make(any_store)), sweep(make(any_store)))
    linker.take(commit)
    await linker.flush()
    assert await log_of(any_store) == entity_header("payee") + entering(1, "c-1")
    assert await waiting_everywhere(any_store) == 0


async def test_linker_settlements_and_labels_reach_the_entities_of_the_drawdown(
    any_store: Store, make: MakeLinker
) -> None:
    """A link about a decision goes to the device, payee and network that the decision's request named."""
    linker = make(any_store)
    asked = {"device_id": "d-1", "counterparty_id": "m-1", "ip": "203.0.113.7"}
    names = log_names(*asked.values())
    linker.take(await draw(any_store, linker, "c-1", 1, names, **asked))
    digest = keys.digest_in_decision_id(decision_id("c-1", "r-1"))
    assert digest is not None
    for number in (2, 3):
        linker.take(await draw(any_store, linker, "c-1", number, [about_name(digest)]))
    await linker.flush()
    for name, grain in zip(names, ("device", "payee", "ip"), strict=True):
        found = b"".join(entering(n, "c-1") for n in (1, 2, 3))
        assert await log_of(any_store, name) == entity_header(grain) + found
    assert await waiting_everywhere(any_store) == 0


async def test_linker_a_foreign_decision_is_dropped(any_store: Store, make: MakeLinker, meters: Meters) -> None:
    """A link about a decision that does not exist, or is another customer's, is counted and goes nowhere."""
    linker = make(any_store)
    partition = keys.partition_of("c-1", PARTITIONS)
    neighbour = next(f"c-{n}" for n in range(2, 10**6) if keys.partition_of(f"c-{n}", PARTITIONS) == partition)
    linker.take(await draw(any_store, linker, neighbour, 1, [], counterparty_id="m-1"))
    foreign = keys.digest_in_decision_id(decision_id(neighbour, "r-1"))
    assert foreign is not None
    for number, digest in enumerate((foreign, bytes(16))):
        linker.take(await draw(any_store, linker, "c-1", number, [about_name(digest)]))
    await linker.flush()
    assert await log_of(any_store) == EMPTY_LOG
    assert counted(meters, "links unresolved") == 2
    assert await waiting_everywhere(any_store) == 0


@pytest.mark.fault("H10")
async def test_linker_leaves_what_it_cannot_read(any_store: Store, make: MakeLinker, clock: Clock) -> None:
    """Links that a newer version wrote, or that are damaged, stay where they are and hold nothing up."""
    linker = make(any_store)
    newer = b"\x77" + bytes(80)
    for number, links in enumerate((newer, b"torn")):
        commit = Commit(f"c-{number}", 0, record(number), links=(linker.new_id(), links))
        await any_store.commit(commit, T)
        linker.take(commit)
    linker.take(await draw(any_store, linker, "c-9", 9))
    await linker.flush()
    assert await log_of(any_store) == entity_header("payee") + entering(9, "c-9")
    clock.ms += STALE_MS + 1
    await sweep(linker)
    assert await waiting_everywhere(any_store) == 2


async def test_linker_ids_are_never_the_same(make: MakeLinker) -> None:
    """Ids of one worker in one millisecond, and of two workers, differ; each begins with its instant."""
    one, other = make(MemoryStore()), make(MemoryStore())
    ids = [worker.new_id() for _ in range(1_000) for worker in (one, other)]
    assert len(set(ids)) == 2_000
    assert {int.from_bytes(links_id[:8], "big") for links_id in ids} == {NOW_MS}


@pytest.mark.fault("H13")
async def test_linker_memory_is_bounded(make: MakeLinker, meters: Meters) -> None:
    """Beyond its bound the linker leaves commits to the sweep, and says so."""
    linker = make(MemoryStore())
    for _ in range(QUEUE_MAX + 3):
        linker.take(Commit("c-1", 0, links=(b"id", b"links")))
    assert counted(meters, "links left") == 3


class FailingStore(MemoryStore):
    """Fails as told: before it does anything, or after it did everything."""

    def __init__(self) -> None:
        super().__init__()
        self.fails: dict[str, Exception] = {}
        self.fails_after: dict[str, Exception] = {}

    async def _failing(self, name: str, work: Any) -> Any:
        if name in self.fails:
            work.close()
            raise self.fails[name]
        done = await work
        if name in self.fails_after:
            raise self.fails_after[name]
        return done

    async def append_links(
        self, records: Mapping[bytes, bytes], records_max: int, kept_ms: int, timeout_s: float,
        left_out_ms: Mapping[bytes, int] = MappingProxyType({}),
    ) -> LinkCounts:  # fmt: skip
        work = super().append_links(records, records_max, kept_ms, timeout_s, left_out_ms)
        counts: LinkCounts = await self._failing("append", work)
        return counts

    async def forget_links(self, ids: Mapping[int, Sequence[bytes]], timeout_s: float) -> None:
        await self._failing("forget", super().forget_links(ids, timeout_s))

    async def read_decision(self, decision_id: str, timeout_s: float) -> bytes | None:
        frame: bytes | None = await self._failing("frame", super().read_decision(decision_id, timeout_s))
        return frame


@pytest.mark.parametrize("step", ["append", "forget", "frame"])
@pytest.mark.parametrize("when", ["fails", "fails_after"])
async def test_linker_goes_on_when_the_store_is_back(make: MakeLinker, step: str, when: str, meters: Meters) -> None:
    """Whatever step fails, before or after its effect, nothing is forgotten too early and nothing is there twice; the
    failures are counted, the pauses grow, and the linker goes on by itself."""
    store = FailingStore()
    error = StoreUnavailable("away") if when == "fails" else OutcomeUnknown("no reply")
    linker = make(store)
    linker.take(await draw(store, linker, "c-1", 1, [PAYEE], counterparty_id="m-1"))
    digest = keys.digest_in_decision_id(decision_id("c-1", "r-1"))
    assert digest is not None
    linker.take(await draw(store, linker, "c-1", 2, [about_name(digest)]))
    getattr(store, when)[step] = error
    linker.start()
    await until(lambda: counted(meters, f"store_errors {error.code}") >= 2)
    forgotten = step == "forget" and when == "fails_after"
    assert await waiting_everywhere(store) == (0 if forgotten else 2)
    assert counted(meters, "links_waiting ") == 2
    getattr(store, when).clear()
    await until(lambda: counted(meters, "links_waiting ") == 0)
    await linker.close()
    assert await log_of(store) == entity_header("payee") + entering(1, "c-1") + entering(2, "c-1")
    assert await waiting_everywhere(store) == 0


@pytest.mark.fault("H13")
async def test_linker_tells_how_far_behind_it_is(make: MakeLinker, clock: Clock, meters: Meters) -> None:
    """The lag is the age of the oldest commit that is not yet linked; the largest of all workers holds, and it goes."""
    store = FailingStore()
    store.fails["append"] = StoreUnavailable("away")
    linker = make(store)
    commit = await draw(store, linker, "c-1", 1)
    clock.ms += 2_500
    linker.take(commit)
    linker.start()
    await until(lambda: counted(meters, "link_lag ") > 0)
    assert counted(meters, "link_lag ") == 2.5
    store.fails.clear()
    await until(lambda: counted(meters, "link_lag ") == 0)
    await linker.close()


async def test_linker_sweeps_beside_a_partition_that_cannot_be_read(make: MakeLinker, clock: Clock) -> None:
    """Partitions are asked for together, and one that fails holds up only itself: a node of a cluster may be away."""

    class NeighboursAway(MemoryStore):
        async def waiting_links(self, partition: int, cursor: int, timeout_s: float) -> Any:
            if abs(partition - keys.partition_of("c-1", PARTITIONS)) == 1:
                raise StoreUnavailable("away")
            return await super().waiting_links(partition, cursor, timeout_s)

    store = NeighboursAway(partitions=PARTITIONS)
    await draw(store, make(store), "c-1", 1)
    clock.ms += STALE_MS + 1
    linker = make(store)
    linker.start()
    await until_linked(store)
    await linker.close()


async def test_linker_sweeps_by_itself(any_store: Store, make: MakeLinker, clock: Clock) -> None:
    """A worker that starts finds what earlier ones left within its first sweep."""
    await draw(any_store, make(any_store), "c-1", 1)
    clock.ms += STALE_MS + 1
    linker = make(any_store)
    linker.start()
    await until_linked(any_store)
    await linker.close()
    assert linker_module.FIRST_SWEEP_S < linker_module.SWEEP_S

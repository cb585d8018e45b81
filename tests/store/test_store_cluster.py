"""Cluster: slots that move, nodes that die; every call has one effect or none, and the store finds its way again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from store_cases import T, decision_id, record

from decision_service.core.errors import StoreUnavailable
from decision_service.core.event import EMPTY_LOG
from decision_service.core.limits import PARTITIONS
from decision_service.store import Commit, Store, keys
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio

PARTITION = keys.partition_of("c-1", PARTITIONS)
SLOT = keys.slot_of(keys.outbox_key(PARTITION))


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = open_store(url)
    try:
        yield store
    finally:
        await store.close()


class SlotMove:
    """Moves SLOT between two nodes in the steps an operator's tool takes."""

    def __init__(self, nodes: list[ValkeyServer]) -> None:
        self.source = next(n for n in nodes if self._owns(n))
        self.target = next(n for n in nodes if n is not self.source)
        self.nodes = nodes

    @staticmethod
    def _owns(node: ValkeyServer) -> bool:
        with node.client() as client:
            slots = client.execute_command("CLUSTER", "SLOTS")
            return any(first <= SLOT <= last and primary[1] == node.port for first, last, primary, *_ in slots)

    def begin(self) -> None:
        self._setslot(self.target, "IMPORTING", self._id(self.source))
        self._setslot(self.source, "MIGRATING", self._id(self.target))

    def carry(self, *some: bytes) -> None:
        with self.source.client() as client:
            everything = some or client.execute_command("CLUSTER", "GETKEYSINSLOT", SLOT, 1_000)
            if everything:
                where = ("127.0.0.1", self.target.port, "", 0, 1_000)
                client.execute_command("MIGRATE", *where, "KEYS", *everything)

    def end(self) -> None:
        for node in (self.target, self.source, *self.nodes):
            self._setslot(node, "NODE", self._id(self.target))

    @staticmethod
    def _id(node: ValkeyServer) -> bytes:
        with node.client() as client:
            name: bytes = client.execute_command("CLUSTER", "MYID")
            return name

    @staticmethod
    def _setslot(node: ValkeyServer, *arguments: object) -> None:
        with node.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", SLOT, *arguments)


@pytest.fixture
def move(valkey_cluster: object) -> Iterator[SlotMove]:
    move = SlotMove(valkey_cluster.nodes)  # type: ignore[attr-defined]
    yield move
    move.end()


@pytest.fixture
async def cluster_store(valkey_cluster: object, anyio_backend: str) -> AsyncIterator[Store]:
    async with opened(valkey_cluster.url) as store:  # type: ignore[attr-defined]
        yield store


@pytest.mark.fault("C05")
async def test_cluster_moved_slot_is_followed(cluster_store: Store, move: SlotMove) -> None:
    """After a slot moved the next call finds it, once, with everything in it."""
    await cluster_store.commit(Commit("c-1", 0, record(1)), T)
    move.begin()
    move.carry()
    move.end()
    await cluster_store.commit(Commit("c-1", 1, record(2), decision=(decision_id("c-1"), b"f")), T)
    state = await cluster_store.read("c-1", decision_id("c-1"), T)
    assert (state.version, state.log, state.decision) == (2, EMPTY_LOG + record(1) + record(2), b"f")


@pytest.mark.fault("C06")
async def test_cluster_moving_slot_is_asked_for(cluster_store: Store, move: SlotMove) -> None:
    """While a slot is on its way, keys that have left are asked for where they went."""
    await cluster_store.commit(Commit("c-1", 0, record(1)), T)
    move.begin()
    move.carry()
    state = await cluster_store.read("c-1", None, T)
    assert (state.version, state.log) == (1, EMPTY_LOG + record(1))
    with move.source.client() as client:
        assert client.execute_command("CLUSTER", "COUNTKEYSINSLOT", SLOT) == 0


@pytest.mark.fault("C06")
async def test_cluster_split_customer_waits(cluster_store: Store, move: SlotMove) -> None:
    """While a customer's keys are half here and half there a call waits, and goes through when they are together."""
    await cluster_store.commit(Commit("c-1", 0, record(1)), T)
    move.begin()
    move.carry(keys.meta_key(PARTITION, "c-1"))
    with pytest.raises(StoreUnavailable):
        await cluster_store.read("c-1", None, 0.05)
    waiting = asyncio.create_task(cluster_store.commit(Commit("c-1", 1, record(2)), T))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    move.carry()
    move.end()
    assert await waiting == 2
    assert (await cluster_store.read("c-1", None, T)).log == EMPTY_LOG + record(1) + record(2)


@pytest.mark.fault("C05", "C06")
async def test_cluster_resharding_under_load_loses_nothing(cluster_store: Store, move: SlotMove) -> None:
    """Commits go on while their slot moves; each acknowledged one is there exactly once."""

    async def load() -> int:
        version = 0
        while not moved.is_set():
            version = await cluster_store.commit(Commit("c-1", version, record(version)), T)
        return version

    moved = asyncio.Event()
    task = asyncio.create_task(load())
    for step in (move.begin, move.carry, move.carry, move.end):
        await asyncio.to_thread(step)
        await asyncio.sleep(0.01)
    moved.set()
    version = await task
    state = await cluster_store.read("c-1", None, T)
    assert (state.version, state.log) == (version, EMPTY_LOG + b"".join(map(record, range(version))))


@pytest.mark.slow
@pytest.mark.fault("C09")
async def test_cluster_dead_node_takes_only_its_customers(cluster_private: object) -> None:
    """With a node down its customers are unavailable, others are served; when it is back all are, with their data."""
    nodes = cluster_private.nodes  # type: ignore[attr-defined]
    customers = [f"c-{n}" for n in range(30)]
    async with opened(cluster_private.url) as store:  # type: ignore[attr-defined]
        for customer in customers:
            await store.commit(Commit(customer, 0, record(1)), T)
        nodes[1].kill()
        replies = await asyncio.gather(*(store.read(c, None, 0.3) for c in customers), return_exceptions=True)
        failed = [reply for reply in replies if isinstance(reply, StoreUnavailable)]
        served = [reply for reply in replies if not isinstance(reply, BaseException)]
        assert failed
        assert served
        assert len(failed) + len(served) == len(customers)
        nodes[1].start()
        for customer in customers:
            assert (await eventually(store, customer)) == 1


async def eventually(store: Store, customer_id: str) -> int:
    for _ in range(500):
        with contextlib.suppress(StoreUnavailable):
            return (await store.read(customer_id, None, T)).version
        await asyncio.sleep(0.02)
    raise AssertionError("never came back")


@pytest.mark.fault("C05")
async def test_cluster_store_knows_one_node_and_finds_all(valkey_cluster: object) -> None:
    """Any one node is enough to start from, and a dead address beside it does no harm."""
    port = valkey_cluster.nodes[2].port  # type: ignore[attr-defined]
    async with opened(f"redis+cluster://127.0.0.1:1,127.0.0.1:{port}") as store:
        for number in range(30):
            await store.commit(Commit(f"c-{number}", 0), T)
        assert list(await store.check()) == []


async def test_cluster_without_its_slots_is_unavailable(valkey_private: ValkeyServer) -> None:
    """A server that is no cluster is unavailable under a cluster URL."""
    async with opened(f"redis+cluster://127.0.0.1:{valkey_private.port}") as store:
        with pytest.raises(StoreUnavailable):
            await store.read("c-1", None, T)

"""Profile `replicated`: nothing is told before a replica holds it, and what the profile wants is checked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from store_cases import T, decision_id, record

from decision_service.core.errors import NotReplicated, OutcomeUnknown, StoreUnavailable, VersionMoved
from decision_service.core.event import EMPTY_LOG
from decision_service.core.limits import PARTITIONS
from decision_service.store import Commit, Store, keys
from decision_service.store.open import open_store
from decision_service.store.replication import Replicas
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio
WAIT_MS = 1_000


class Pair:
    """A primary that wants a replica, and the replica."""

    def __init__(self, directory: Path) -> None:
        self.primary = ValkeyServer(directory / "primary", "--repl-timeout", "60")
        self.replica = ValkeyServer(directory / "replica", "--replicaof", "127.0.0.1", str(self.primary.port))

    def start(self) -> Pair:
        self.primary.start()
        self.replica.start()
        self.wait_linked()
        with self.primary.client() as client:
            client.config_set("min-replicas-to-write", 1)
        return self

    def wait_linked(self) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with self.primary.client() as client:
                told = client.info("replication")
                if told["connected_slaves"] == 1 and told["slave0"]["state"] == "online":
                    client.set("linked", 1)
                    assert client.execute_command("WAITAOF", 1, 1, 4_500)[1] == 1  # it writes a new file first
                    return
            time.sleep(0.02)
        raise AssertionError("the replica never linked up")

    def stop(self) -> None:
        self.replica.stop()
        self.primary.stop()

    def frame_at_replica(self, customer_id: str) -> bytes | None:
        partition = keys.partition_of(customer_id, PARTITIONS)
        with self.replica.client() as client:
            frame: bytes | None = client.get(keys.decision_key(partition, decision_id(customer_id)))
            return frame


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    try:
        yield pair.start()
    finally:
        pair.stop()


@contextlib.asynccontextmanager
async def replicated(pair: Pair, *, on_disk: bool = False) -> AsyncIterator[Store]:
    store = open_store(pair.primary.url, profile="replicated", replicas=Replicas(1, WAIT_MS, on_disk))
    try:
        yield store
    finally:
        await store.close()


def decided(customer_id: str, version: int = 0, frame: bytes = b"f") -> Commit:
    return Commit(customer_id, version, record(1), decision=(decision_id(customer_id), frame))


@pytest.mark.slow
@pytest.mark.parametrize("on_disk", [False, True])
async def test_replicated_commit_is_at_the_replica_when_it_is_told(pair: Pair, on_disk: bool) -> None:
    """Whatever is acknowledged, alone or among many at once, the replica holds already; they share few waits."""
    async with replicated(pair, on_disk=on_disk) as store:
        assert list(await store.check()) == []

        async def commit(number: int) -> None:
            await store.commit(decided(f"c-{number}"), T)
            if number % 20 == 0:
                assert pair.frame_at_replica(f"c-{number}") == b"f"

        await asyncio.gather(*(commit(number) for number in range(200)))
        with pytest.raises(VersionMoved):
            await store.commit(decided("c-1"), T)
        with pair.primary.client() as client:
            waits = client.info("commandstats")["cmdstat_waitaof" if on_disk else "cmdstat_wait"]["calls"]
        assert waits < 100


@pytest.mark.fault("B12")
async def test_replicated_short_of_replicas_is_unknown_and_so_is_the_replay(pair: Pair) -> None:
    """With the replica frozen a commit is told as not replicated, and so is the decision that it left, to everybody who
    asks; customers are still read; once the replica is back it is told, unchanged."""
    async with replicated(pair) as store, replicated(pair) as other:
        await store.commit(decided("c-0"), T)
        pair.replica.freeze()
        with pytest.raises(NotReplicated):
            await store.commit(decided("c-1"), T)
        with pytest.raises(OutcomeUnknown):
            await other.read("c-1", decision_id("c-1"), T)
        with pytest.raises(OutcomeUnknown):
            await other.read_decision(decision_id("c-1"), T)
        assert (await other.read("c-1", None, T)).version == 1
        pair.replica.thaw()
        for _ in range(300):
            with contextlib.suppress(OutcomeUnknown, StoreUnavailable):
                assert (await other.read("c-1", decision_id("c-1"), T)).decision == b"f"
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("never told")
        assert pair.frame_at_replica("c-1") == b"f"
        for number in range(300):
            with contextlib.suppress(OutcomeUnknown, StoreUnavailable):
                await store.commit(decided(f"c-again-{number}"), T)
                return
            await asyncio.sleep(0.02)
        raise AssertionError("commits never went through again")


@pytest.mark.slow
@pytest.mark.fault("B12")
async def test_replicated_waits_no_longer_than_the_caller(pair: Pair) -> None:
    """A caller with less time than the replicas are given learns in its own time that nothing is known."""
    async with replicated(pair) as store:
        await store.commit(decided("c-0"), T)
        pair.replica.freeze()
        began = asyncio.get_running_loop().time()
        with pytest.raises(OutcomeUnknown):
            await store.commit(decided("c-1"), 0.02)
        assert asyncio.get_running_loop().time() - began < T
        pair.replica.thaw()


@pytest.mark.slow
@pytest.mark.fault("B11")
async def test_replicated_lost_replica_refuses_writes_and_is_named(pair: Pair) -> None:
    """Without its replica the primary refuses commits, reads go on, the check says what is missing; with it back all is
    well."""
    async with replicated(pair) as store:
        await store.commit(decided("c-1"), T)
        pair.replica.kill()
        for _ in range(300):
            try:
                await store.commit(Commit("c-2", 0), T)
            except StoreUnavailable as error:
                refused = error.message
                break
            except OutcomeUnknown:
                pass
            await asyncio.sleep(0.02)
        assert "NOREPLICAS" in refused or "left alone" in refused
        assert (await store.read("c-1", None, T)).log == EMPTY_LOG + record(1)
        assert any("0 replicas are linked" in problem for problem in await store.check())
        pair.replica.start()
        pair.wait_linked()
        for number in range(300):
            with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
                await store.commit(Commit(f"c-{number + 3}", 0), T)
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("commits never went through again")
        assert list(await store.check()) == []


async def test_replicated_wants_a_primary_that_wants_replicas(valkey_private: ValkeyServer) -> None:
    """A server that would take writes alone is no store for this profile, and each lack is named."""
    store = open_store(valkey_private.url, profile="replicated", replicas=Replicas(2, WAIT_MS))
    try:
        problems = await store.check()
    finally:
        await store.close()
    assert any("0 replicas are linked" in problem for problem in problems)
    assert any("min-replicas-to-write is 0" in problem for problem in problems)

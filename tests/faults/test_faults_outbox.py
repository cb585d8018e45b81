"""The outbox and the links: nobody reads them, somebody deletes them, the store's clock steps back."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from decision_service.core.errors import StoreError
from decision_service.core.limits import PARTITIONS
from decision_service.store import Commit, Store, keys
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio

T = 5.0  # seconds; generous, no test measures time
CUSTOMER = "c-1"
PARTITION = keys.partition_of(CUSTOMER, PARTITIONS)
OUTBOX = keys.outbox_key(PARTITION)
FAR_MS = 9_999_999_999_999  # an instant that the store's clock does not reach in our lives


async def decided(store: Store, first: int, last: int) -> list[str]:
    """Commit decisions from `first` to before `last`; their ids."""
    ids = []
    for number in range(first, last):
        decision_id = keys.decision_id_of(CUSTOMER, f"r-{number}", PARTITIONS)
        state = await store.read(CUSTOMER, decision_id, T)
        await store.commit(Commit(CUSTOMER, state.version, decision=(decision_id, b"frame")), T)
        ids.append(decision_id)
    return ids


def told(server: ValkeyServer) -> list[str]:
    """The ids of decisions in the outbox, in its order."""
    with server.client() as client:
        return [entry[b"id"].decode() for _, entry in client.xrange(OUTBOX)]


@pytest.mark.fault("H11")
async def test_an_outbox_that_is_deleted_is_made_again(store: Store, valkey_server: ValkeyServer) -> None:
    """DEL of the stream under the service: the next commit makes it anew, and every decision is still there."""
    before = await decided(store, 0, 5)
    with valkey_server.client() as client:
        client.delete(OUTBOX)
    after = await decided(store, 5, 10)
    assert told(valkey_server) == after
    assert all([await store.read_decision(one, T) == b"frame" for one in before + after])


@pytest.mark.fault("H12", "H13")
async def test_an_outbox_that_nobody_reads_keeps_everything(store: Store, valkey_server: ValkeyServer) -> None:
    """However long nobody reads: nothing of ours trims the stream, and every decision stays in it once, in order."""
    ids = await decided(store, 0, 300)
    assert told(valkey_server) == ids


@pytest.mark.fault("H13")
async def test_an_outbox_that_fills_the_memory_stops_commits_and_keeps_what_it_has(
    valkey_private: ValkeyServer,
) -> None:
    """A backlog that takes all the memory: commits are refused whole, nothing is evicted, and room lets them go on."""
    store = open_store(valkey_private.url)
    try:
        ids = await decided(store, 0, 20)
        with valkey_private.client() as client:
            used = int(client.info("memory")["used_memory"])
            client.config_set("maxmemory", used + 200_000)
        with contextlib.suppress(StoreError):
            for number in range(20, 5_000):
                ids += await decided(store, number, number + 1)
        assert len(ids) < 5_000, "the memory is never full"
        assert told(valkey_private) == ids
        refused = len(ids)
        assert await store.read_decision(keys.decision_id_of(CUSTOMER, f"r-{refused}", PARTITIONS), T) is None
        with valkey_private.client() as client:
            client.config_set("maxmemory", 0)
        ids += await decided(store, refused, refused + 5)
        assert told(valkey_private) == ids
    finally:
        await store.close()


@pytest.mark.fault("H15")
async def test_a_clock_that_steps_back_refuses_no_entry(store: Store, valkey_server: ValkeyServer) -> None:
    """Behind an entry from the future, where a clock that was put right leaves its stream, ids go on rising."""
    first = await decided(store, 0, 1)
    with valkey_server.client() as client:
        client.xadd(OUTBOX, {"kind": "decision", "id": "future"}, id=f"{FAR_MS}-0")
    later = await decided(store, 1, 4)
    assert told(valkey_server) == [*first, "future", *later]
    with valkey_server.client() as client:
        ids = [tuple(map(int, entry_id.split(b"-"))) for entry_id, _ in client.xrange(OUTBOX)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.fault("H14")
async def test_a_decision_that_is_sent_again_is_told_once(store: Store, valkey_server: ValkeyServer) -> None:
    """The same commit again and again, also at once: one decision, one entry."""
    decision_id = keys.decision_id_of(CUSTOMER, "r-0", PARTITIONS)
    commit = Commit(CUSTOMER, 0, decision=(decision_id, b"frame"))
    results = await asyncio.gather(*(store.commit(commit, T) for _ in range(20)), return_exceptions=True)
    assert [one for one in results if not isinstance(one, Exception)] == [1]
    assert told(valkey_server) == [decision_id]

"""Entity logs that cannot be reached: the reader is told in time, and nobody else is held up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from fault_proxy import FaultProxy
from store_cases import T, record

from decision_service.core.errors import OutcomeUnknown, StoreUnavailable
from decision_service.core.event import EMPTY_LOG
from decision_service.core.limits import DAY_MS, PARTITIONS
from decision_service.core.links import entity_header, link_record, log_name
from decision_service.store import Commit, Store, keys
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio

PAYEE = log_name("payee", "m-1")
SOON = 0.05  # seconds a caller waits where no reply will come


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = open_store(url)
    try:
        yield store
    finally:
        await store.close()


def served_by(node: ValkeyServer, key: bytes) -> bool:
    with node.client() as client:
        slots = client.execute_command("CLUSTER", "SLOTS")
    return any(first <= keys.slot_of(key) <= last and primary[1] == node.port for first, last, primary, *_ in slots)


async def test_linkfaults_lost_replies_are_unread_logs(proxied_store: Store, proxy: FaultProxy) -> None:
    """A log whose reply never comes is unread after the time the reader gave, and raises nothing."""
    await proxied_store.append_links({PAYEE: link_record(record(1), 7)}, 8, DAY_MS, T)
    assert (await proxied_store.read_links([PAYEE], T).logs()).payee is not None
    proxy.lose_replies = True
    assert await proxied_store.read_links([PAYEE], SOON).logs() == (None, None, None)
    with pytest.raises(OutcomeUnknown):
        await proxied_store.append_links({PAYEE: link_record(record(2), 7)}, 8, DAY_MS, SOON)


async def test_linkfaults_no_server_is_unread_logs(valkey_private: ValkeyServer) -> None:
    """Without a server, before the first connection and after it, logs are unread."""
    async with opened(valkey_private.url) as store:
        valkey_private.stop()
        assert await store.read_links([PAYEE], T).logs() == (None, None, None)
        valkey_private.start()
        for _ in range(200):
            if (await store.read_links([PAYEE], T).logs()).payee == EMPTY_LOG:
                break
            await asyncio.sleep(0.02)
        valkey_private.kill()
        assert await store.read_links([PAYEE], T).logs() == (None, None, None)


@pytest.mark.fault("H14")
async def test_linkfaults_repeated_append_after_lost_reply_is_single(
    proxied_store: Store, proxy: FaultProxy, store: Store
) -> None:
    """Appending again what may have been appended changes nothing."""
    await proxied_store.append_links({PAYEE: link_record(record(1), 7)}, 8, DAY_MS, T)
    proxy.lose_replies = True
    with pytest.raises(OutcomeUnknown):
        await proxied_store.append_links({PAYEE: link_record(record(2), 7)}, 8, DAY_MS, SOON)
    assert (await store.append_links({PAYEE: link_record(record(2), 7)}, 8, DAY_MS, T)).duplicate == 1
    log = entity_header("payee") + link_record(record(1), 7) + link_record(record(2), 7)
    assert (await store.read_links([PAYEE], T).logs()).payee == log


async def test_linkfaults_frozen_node_holds_up_nobody_else(cluster_private: object) -> None:
    """While the node of an entity stands still, its log is unread and customers of other nodes are read and changed
    as ever, however many calls find the node silent."""
    frozen = cluster_private.nodes[0]  # type: ignore[attr-defined]
    names = (log_name("payee", f"m-{n}") for n in range(1_000))
    entity = next(name for name in names if served_by(frozen, keys.entity_key(name, PARTITIONS)))
    customers = [f"c-{n}" for n in range(60)]
    others = [
        customer for customer in customers
        if not served_by(frozen, keys.meta_key(keys.partition_of(customer, PARTITIONS), customer))
    ]  # fmt: skip
    assert 0 < len(others) < len(customers)
    async with opened(cluster_private.url) as store:  # type: ignore[attr-defined]
        for customer in others:
            await store.commit(Commit(customer, 0), T)
        frozen.freeze()
        try:
            for version, customer in enumerate(others * 3):
                reads = store.read_links([entity], 0.01)
                state = await store.read(customer, None, 0.5)
                await store.commit(Commit(customer, state.version), 0.5)
                assert state.version == 1 + version // len(others)
                assert await reads.logs() == (None, None, None)
        finally:
            frozen.thaw()
        for _ in range(500):
            if (await store.read_links([entity], T).logs()).payee == EMPTY_LOG:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the entity was never read again")


async def test_linkfaults_unavailable_appends_are_told(valkey_private: ValkeyServer) -> None:
    """Appending to a server that is gone, or forgetting there, is unavailable or unknown, never silent."""
    async with opened(valkey_private.url) as store:
        await store.append_links({PAYEE: link_record(record(1), 7)}, 8, DAY_MS, T)
        valkey_private.kill()
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            await store.append_links({PAYEE: link_record(record(2), 7)}, 8, DAY_MS, T)
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            await store.forget_links({0: [b"id"]}, T)

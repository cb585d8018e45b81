"""What a worker holds of customers and of entity logs changes nothing of what it reads: another worker, an operator and
a server that forgets are always seen."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic

import pytest

from decision_service.core.errors import StoreDamaged, StoreUnavailable
from decision_service.core.event import EMPTY_LOG, Event, event_key, header
from decision_service.core.facility import Attribute
from decision_service.core.limits import DAY_MS
from decision_service.core.links import link_record, log_name
from decision_service.core.state import CustomerState
from decision_service.store import Commit, Store, keys
from decision_service.store.commands import place_of
from decision_service.store.held_customers import STATE_BYTES, Held, HeldCustomers
from decision_service.store.held_logs import HELD_BYTES_MIN, HeldLogs
from decision_service.store.open import open_store
from decision_service.store.redis import RedisStore
from valkey_server import ValkeyServer

T = 5.0
AT = 1_764_000_000_000
PAYEE = log_name("payee", "m-1")
LONG = HELD_BYTES_MIN // 64


def record(number: int, at_ms: int = AT) -> bytes:
    return Event(event_key(str(number)), 1, 1, at_ms + number, 100).pack()


def entering(number: int, at_ms: int = AT) -> bytes:
    return link_record(record(number, at_ms), 7)


@pytest.fixture
async def other(store: Store, valkey_server: ValkeyServer) -> AsyncIterator[Store]:
    """Another worker of the same store."""
    opened = open_store(valkey_server.url)
    yield opened
    await opened.close()


async def payee(store: Store) -> bytes | None:
    return (await store.read_links([PAYEE], T).logs()).payee


async def link(store: Store, *records: bytes, most: int = 1_000) -> None:
    await store.append_links({PAYEE: b"".join(records)}, most, DAY_MS, T)


async def test_held_logs_are_read_as_whole_ones(store: Store, other: Store, valkey_server: ValkeyServer) -> None:
    """Whatever two workers append, trim and mark in turn, each reads at every moment what the server holds."""
    rng, number = random.Random(7), 0
    await link(store, *(entering(n) for n in range(-LONG, 0)))
    with valkey_server.client() as client:
        for _ in range(400):
            worker = rng.choice((store, other))
            if rng.random() < 0.6:
                again = [entering(rng.randrange(-LONG, number + 1)) for _ in range(rng.randrange(3))]
                await link(worker, *again, *(entering(number + n) for n in range(rng.randrange(1, 20))), most=80)
                number += 20
            elif rng.random() < 0.1:
                marks = {PAYEE: AT + number - 200}
                await worker.append_links({PAYEE: b""}, 80, DAY_MS, T, left_out_ms=marks)
            assert await payee(worker) == client.get(keys.entity_key(PAYEE, 256))


async def test_held_log_that_went_away_is_gone(store: Store, valkey_server: ValkeyServer) -> None:
    """A log that expired or was taken away is empty, and one that was begun anew is what it is now."""
    await link(store, *(entering(n) for n in range(LONG)))
    assert await payee(store) is not None
    with valkey_server.client() as client:
        client.delete(keys.entity_key(PAYEE, 256))
    assert await payee(store) == EMPTY_LOG
    await link(store, *(entering(n) for n in range(2 * LONG)))
    assert len(await payee(store) or b"") == 64 + 2 * LONG * 64


async def test_held_records_are_not_appended_again(store: Store, other: Store) -> None:
    """A record that stands in what is held, or behind it, is a duplicate; in the same call others are appended."""
    await link(store, *(entering(n) for n in range(LONG)))
    await payee(store)
    await link(other, entering(1_000))
    for known in (entering(3), entering(1_000)):
        counts = await store.append_links({PAYEE: known + entering(2_000)}, 1_000, DAY_MS, T)
        assert (counts.appended, counts.duplicate) in ((1, 1), (0, 2))
    assert len(await payee(store) or b"") == 64 * (1 + LONG + 2)


async def test_held_customers_are_read_as_whole_ones(store: Store, other: Store) -> None:
    """Whatever two workers commit in turn, each reads at every moment what a worker that holds nothing reads."""
    rng, version = random.Random(5), 0
    for step in range(200):
        worker = rng.choice((store, other))
        records = b"".join(record(10 * step + n) for n in range(rng.randrange(3)))
        attributes = {"a": Attribute(float(step), 1)} if rng.random() < 0.2 else {}
        trimmed = header(step) + record(9_000 + step) if rng.random() < 0.05 else None
        version = await worker.commit(Commit("c-1", version, records, trimmed, attributes=attributes), T)
        states = [await one.read("c-1", None, T) for one in (store, other)]
        states.append(await fresh_read(store))
        assert states[0] == states[1] == states[2]
        assert states[0].version == version


async def fresh_read(store: Store) -> CustomerState:
    """The state by the script, which knows nothing of what is held."""
    assert isinstance(store, RedisStore)
    return await store._read_at_once(place_of("c-1", 256), None, monotonic() + T)


async def test_held_customer_whose_keys_were_spoilt_is_damaged(store: Store, valkey_server: ValkeyServer) -> None:
    """What an operator or a fault writes into a held customer's keys, version or not, is found."""
    version = await store.commit(Commit("c-1", 0, record(1), attributes={"a": Attribute(1.0, 1)}), T)
    partition = keys.partition_of("c-1", 256)
    await store.read("c-1", None, T)
    with valkey_server.client() as client:
        client.append(keys.log_key(partition, "c-1"), b"torn")
        with pytest.raises(StoreDamaged):
            await store.read("c-1", None, T)
        client.setrange(keys.log_key(partition, "c-1"), 0, (header() + record(2))[:128])
        client.hset(keys.meta_key(partition, "c-1"), "a:a", "no JSON")
        with pytest.raises(StoreDamaged):
            await store.read("c-1", None, T)
        client.hdel(keys.meta_key(partition, "c-1"), "a:a")
        client.set(keys.log_key(partition, "c-1"), header() + record(2))
        state = await store.read("c-1", None, T)
        assert (state.version, state.log, state.attributes) == (version, header() + record(2), {})


async def test_held_is_let_go_with_a_connection(store: Store, valkey_server: ValkeyServer) -> None:
    """After a connection was lost nothing that was held before is trusted."""
    await store.commit(Commit("c-1", 0, record(1)), T)
    await link(store, *(entering(n) for n in range(LONG)))
    await store.read("c-1", None, T)
    await payee(store)
    assert isinstance(store, RedisStore)
    assert store._held.get(PAYEE) is not None
    assert store._customers.get("c-1") is not None
    with valkey_server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    while True:
        with suppress(StoreUnavailable):
            await store.read("c-2", None, T)
            break
    assert store._held.get(PAYEE) is None
    assert store._customers.get("c-1") is None


def test_held_memory_is_bounded() -> None:
    """What was read longest ago goes first; short logs and what was asked for before all was let go are not held."""
    logs = HeldLogs(bytes_max=10 * HELD_BYTES_MIN)
    for number in range(20):
        logs.keep(b"%d" % number, bytes(HELD_BYTES_MIN), 0)
        logs.keep(b"0", bytes(HELD_BYTES_MIN), 0)
    assert [n for n in range(20) if logs.get(b"%d" % n)] == [0, *range(11, 20)]
    logs.keep(b"short", bytes(64), 0)
    logs.forget_all()
    logs.keep(b"late", bytes(HELD_BYTES_MIN), 0)
    assert not any(logs.get(name) for name in (b"0", b"short", b"late"))
    customers = HeldCustomers(bytes_max=10 * (STATE_BYTES + 64))
    for number in range(20):
        customers.keep(str(number), Held([], header(), 1, {}, {}), 0)
    assert [n for n in range(20) if customers.get(str(n))] == list(range(10, 20))

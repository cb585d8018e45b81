"""States a server gets into: each is told for what it is, writes nothing or all, and ends when the server is well."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import threading
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import pytest
import redis
from store_cases import T, decision_id, record

from decision_service.bootstrap import refuse_evicting
from decision_service.core.errors import OutcomeUnknown, StoreDamaged, StoreUnavailable, StoreUnsafe
from decision_service.core.event import EMPTY_LOG
from decision_service.core.limits import EVENTS_PER_CUSTOMER_MAX, PARTITIONS
from decision_service.store import Commit, CustomerState, Store, keys
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio
PARTITION = keys.partition_of("c-1", PARTITIONS)
CUTS = 60


@contextlib.asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[Store]:
    store = open_store(url, **options)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.close()


async def settled(store: Store) -> CustomerState:
    """The state of c-1, once the store can be reached and written to again."""
    for _ in range(300):
        with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
            await store.publish_reload(T)
            return await store.read("c-1", None, T)
        await asyncio.sleep(0.02)
    raise AssertionError("the store never came back")


@pytest.mark.fault("B02")
async def test_states_eviction_is_noticed_at_start_and_while_running(valkey_private: ValkeyServer) -> None:
    """A server that may evict is not started on; one that is told to while it runs is named by the next check, and is
    well again when that is taken back."""
    async with opened(valkey_private.url) as store:
        await refuse_evicting(store)
        with valkey_private.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            assert any("evict" in problem for problem in await store.check())
            with pytest.raises(StoreUnsafe, match="evict"):
                await refuse_evicting(store)
            client.config_set("maxmemory-policy", "noeviction")
        await refuse_evicting(store)
        valkey_private.stop()
        await refuse_evicting(store)  # a store that is away may be right when it is back


@pytest.mark.fault("B06")
async def test_states_script_that_cannot_be_killed(valkey_private: ValkeyServer) -> None:
    """A foreign script that has written and does not end: everything is refused until the server is restarted, and then
    all that was acknowledged is there and nothing else."""
    async with opened(valkey_private.url) as store:
        await store.commit(Commit("c-1", 0, record(1)), T)
        with valkey_private.client() as client, valkey_private.client() as killer:
            client.config_set("busy-reply-threshold", 10)
            hog = threading.Thread(target=_hog, args=(client,))
            hog.start()
            await asyncio.sleep(0.1)
            with pytest.raises(StoreUnavailable):
                await store.commit(Commit("c-1", 1, record(2)), T)
            with pytest.raises(redis.ResponseError, match="UNKILLABLE"):
                killer.script_kill()
            valkey_private.kill()
            await asyncio.to_thread(hog.join)
        valkey_private.start()
        assert (await settled(store)).log == EMPTY_LOG + record(1)
        assert await store.commit(Commit("c-1", 1, record(2)), T) == 2
        with valkey_private.client() as client:
            assert not client.exists("hog")


def _hog(client: redis.Redis) -> None:
    with contextlib.suppress(redis.RedisError):
        client.eval("redis.call('set', KEYS[1], 1) while true do end", 1, "hog")


@pytest.mark.fault("B07")
async def test_states_loading_server_tells_nothing(tmp_path: Path) -> None:
    """A server that loads its data is unavailable, never empty: the first state that is told is the whole."""
    server = ValkeyServer(tmp_path / "valkey", "--key-load-delay", "1000").start()
    try:
        async with opened(server.url) as store:
            await asyncio.gather(*(store.commit(Commit(f"c-{n}", 0, record(n)), T) for n in range(300)))
            server.kill()
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            refused: list[str] = []
            for _ in range(3_000):
                try:
                    state = await store.read("c-1", None, T)
                    break
                except StoreUnavailable as error:
                    refused.append(error.message)
                    await asyncio.sleep(0.005)
            await starting
            assert state.log == EMPTY_LOG + record(1)
            assert refused
    finally:
        server.stop()


@pytest.mark.fault("A11")
async def test_states_rights_taken_away_are_refusals(valkey_private: ValkeyServer) -> None:
    """When our user may no longer read or run scripts, calls are refused as they come, with nothing written; given
    back, they work, without a restart."""
    with valkey_private.client() as client:
        client.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all"])
        async with opened(f"redis://app:pw@127.0.0.1:{valkey_private.port}/0") as store:
            await store.commit(Commit("c-1", 0, record(1)), T)
            client.acl_setuser("app", enabled=True, keys=["*"], commands=["-evalsha", "-eval", "-hgetall"])
            for call in (store.read("c-1", None, T), store.commit(Commit("c-1", 1, record(2)), T)):
                with pytest.raises(StoreUnavailable, match="NOPERM"):
                    await call
            client.acl_setuser("app", enabled=True, keys=["*"], commands=["+evalsha", "+eval", "+hgetall"])
            assert (await settled(store)).log == EMPTY_LOG + record(1)
            assert await store.commit(Commit("c-1", 1, record(2)), T) == 2


@pytest.mark.fault("B13")
async def test_states_damaged_customer_is_mended(store: Store, valkey_server: ValkeyServer) -> None:
    """A customer whose log became something else is damaged, for commits as well; put right, it is as before."""
    await store.commit(Commit("c-1", 0, record(1)), T)
    log = keys.log_key(PARTITION, "c-1")
    with valkey_server.client() as client:
        client.rename(log, "aside")
        client.sadd(log, "odd")
        with pytest.raises(StoreDamaged):
            await store.read("c-1", None, T)
        with pytest.raises(StoreDamaged):
            await store.commit(Commit("c-1", 1, record(2)), T)
        client.rename("aside", log)
    assert await store.commit(Commit("c-1", 1, record(2)), T) == 2
    assert (await store.read("c-1", None, T)).log == EMPTY_LOG + record(1) + record(2)


@pytest.mark.slow
@pytest.mark.fault("B14")
async def test_states_truncated_file_loads_whole_commits(valkey_private: ValkeyServer, tmp_path: Path) -> None:
    """An append-only file that ends anywhere loads, and of every commit in it log, frame and outbox are there together
    or not at all; what is there can be gone on with."""
    async with opened(valkey_private.url) as store:
        for number in range(20):
            for customer in ("c-1", "c-2", "c-3"):
                name = decision_id(customer, f"r-{number}")
                await store.commit(Commit(customer, number, record(number), decision=(name, b"f")), T)
    valkey_private.stop()
    rng = random.Random(14)
    written = _incremental(valkey_private.directory).stat().st_size
    for cut in sorted(rng.randrange(written) for _ in range(CUTS)):
        directory = tmp_path / f"cut-{cut}"
        shutil.copytree(valkey_private.directory, directory)
        with _incremental(directory).open("r+b") as file:
            file.truncate(cut)
        server = ValkeyServer(directory).start()
        try:
            with server.client() as client:
                for customer in ("c-1", "c-2", "c-3"):
                    _check_whole(client, customer)
            async with opened(server.url) as store:
                version = (await store.read("c-1", None, T)).version
                assert await store.commit(Commit("c-1", version, record(99)), T) == version + 1
        finally:
            server.stop()
            shutil.rmtree(directory)


def _incremental(directory: Path) -> Path:
    return next((directory / "appendonlydir").glob("*.incr.aof"))


def _check_whole(client: redis.Redis, customer: str) -> None:
    """Version, log, frames and outbox of a customer tell of the same commits."""
    partition = keys.partition_of(customer, PARTITIONS)
    version = int(client.hget(keys.meta_key(partition, customer), "v") or 0)
    log = client.get(keys.log_key(partition, customer)) or EMPTY_LOG
    assert log == EMPTY_LOG + b"".join(record(n) for n in range(version))
    ids = [decision_id(customer, f"r-{n}") for n in range(20)]
    there = [bool(client.exists(keys.decision_key(partition, name))) for name in ids]
    assert there == [n < version for n in range(20)]
    told = [fields[b"id"].decode() for _, fields in client.xrange(keys.outbox_key(partition))]
    assert [name for name in told if name in ids] == ids[:version]


@pytest.mark.fault("B18")
async def test_states_decisions_never_expire(store: Store, valkey_server: ValkeyServer) -> None:
    """What a retry is answered from has no time to live."""
    await store.commit(Commit("c-1", 0, record(1), decision=(decision_id("c-1"), b"f")), T)
    with valkey_server.client() as client:
        assert client.ttl(keys.decision_key(PARTITION, decision_id("c-1"))) == -1
        assert client.ttl(keys.log_key(PARTITION, "c-1")) == -1
        assert client.ttl(keys.meta_key(PARTITION, "c-1")) == -1


@pytest.mark.fault("B19")
async def test_states_customer_with_a_full_log_holds_up_nobody(store: Store) -> None:
    """Reads of a customer with a log as long as it may be, and of others, in one pipeline: each gets its own."""
    records = b"".join(record(n) for n in range(EVENTS_PER_CUSTOMER_MAX))
    await store.commit(Commit("c-1", 0, records), T)
    await store.commit(Commit("c-2", 0, record(2)), T)
    states = await asyncio.gather(*(store.read(c, None, T) for c in ("c-1", "c-2") * 20))
    assert [len(state.log) for state in states] == [64 + len(records), 128] * 20


@pytest.mark.fault("B20", "H15")
async def test_states_clock_of_the_server_jumps(store: Store, valkey_server: ValkeyServer) -> None:
    """No script looks at the server's clock; an outbox whose last id lies ahead of it goes on behind that id."""
    for script in files("decision_service.store.scripts").iterdir():
        if script.name.endswith(".lua"):
            assert "'TIME'" not in script.read_text().upper(), script.name
    outbox = keys.outbox_key(PARTITION)
    ahead = b"9999999999999-0"
    with valkey_server.client() as client:
        client.xadd(outbox, {"kind": "other"}, id=ahead)
        await store.commit(Commit("c-1", 0, record(1)), T)
        entries = client.xrange(outbox)
    assert [fields[b"kind"] for _, fields in entries] == [b"other", b"change"]
    assert entries[1][0] > ahead

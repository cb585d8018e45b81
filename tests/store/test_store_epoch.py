"""History: a store that was emptied, set back or exchanged is never taken for a new one, and can be accepted."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from store_cases import T, decision_id, record

from decision_service.core.errors import StoreDamaged, StoreUnavailable, StoreUnsafe, VersionMoved
from decision_service.core.event import EMPTY_LOG
from decision_service.core.limits import PARTITIONS
from decision_service.store import Commit, CustomerState, Store, keys
from decision_service.store.epoch import TAIL_BEATS, EpochMemory, Told, place_name
from decision_service.store.memory import MemoryStore
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio
PLACE = place_name("here")


@contextlib.asynccontextmanager
async def opened(url: str, data_dir: Path | None = None, **options: object) -> AsyncIterator[Store]:
    store = open_store(url, data_dir=data_dir, **options)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.close()


def told(epoch: str | None, beat: int = 0, *follows: str) -> Told:
    return Told(epoch, beat, frozenset(follows))


def test_epoch_table(tmp_path: Path) -> None:
    """Every line of the module's table."""
    memory = EpochMemory(tmp_path / "store.epoch", PLACE)
    assert memory.judge(told(None)) == ("", 0)
    assert memory.judge(told("e1", 7)) == ("", 0)
    memory.remember("e1", 100)
    assert "empt" in memory.judge(told(None)).problem
    assert memory.judge(told("e1", 100)) == ("", 0)
    assert memory.judge(told("e1", 100 - TAIL_BEATS)) == ("", TAIL_BEATS)
    assert "set back" in memory.judge(told("e1", 99 - TAIL_BEATS)).problem
    assert "another store" in memory.judge(told("e2")).problem
    assert memory.judge(told("e2", 0, "e1")) == ("", 0)


def test_epoch_memory_outlives_the_process_and_knows_a_restored_store_elsewhere(tmp_path: Path) -> None:
    """What one worker remembered another knows; a store set back is known by its epoch wherever it is now."""
    path = tmp_path / "store.epoch"
    EpochMemory(path, PLACE).remember("e1", 100)
    assert "empt" in EpochMemory(path, PLACE).judge(told(None)).problem
    elsewhere = EpochMemory(path, place_name("there"))
    assert "set back" in elsewhere.judge(told("e1", 5)).problem
    assert elsewhere.judge(told("e9", 5)) == ("", 0)
    EpochMemory(path, PLACE).remember("e1", 50)
    here = EpochMemory(path, PLACE).here
    assert here is not None
    assert here.beat == 100


def test_epoch_memory_that_cannot_be_read_or_written_is_none(tmp_path: Path) -> None:
    """A spoilt file is as good as none, and one that cannot be written stops nothing."""
    (tmp_path / "store.epoch").write_bytes(b"{")
    assert EpochMemory(tmp_path / "store.epoch", PLACE).judge(told(None)) == ("", 0)
    (tmp_path / "file").write_bytes(b"")
    EpochMemory(tmp_path / "file" / "store.epoch", PLACE).remember("e1", 1)


@pytest.mark.fault("B17")
async def test_epoch_emptied_store_takes_nobody_for_new(valkey_server: ValkeyServer, tmp_path: Path) -> None:
    """FLUSHALL under a running worker: from that moment unknown customers are refused, lists and policies go on; a
    restart changes nothing; once it is accepted every worker goes on."""
    url = valkey_server.url
    async with opened(url, tmp_path) as store, opened(url, tmp_path / "other") as other:
        version = await store.commit(Commit("c-1", 0, record(1), decision=(decision_id("c-1"), b"f")), T)
        assert (await other.read("c-1", None, T)).version == version
        assert list(await store.check()) == []
        with valkey_server.client() as client:
            client.flushall()
        for worker in (store, other):
            with pytest.raises(StoreUnsafe):
                await worker.read("c-1", None, T)
            with pytest.raises(StoreUnsafe):
                await worker.read("c-new", None, T)
            with pytest.raises((StoreUnsafe, VersionMoved)):
                await worker.commit(Commit("c-1", version), T)
            with pytest.raises(StoreUnsafe):
                await worker.commit(Commit("c-new", 0), T)
            with pytest.raises(StoreUnsafe):
                await worker.read_decision(decision_id("c-1"), T)
            with pytest.raises(StoreUnsafe):
                await worker.claim_facility("f-1", "c-1", T)
            assert any("lost its history" in problem for problem in await worker.check())
            assert await worker.change_list("block", "m-1", True, T) in (True, False)
        async with opened(url, tmp_path) as restarted:
            with pytest.raises(StoreUnsafe):
                await restarted.read("c-1", None, T)
        async with opened(url, tmp_path, reconciling=True) as repairing:
            await repairing.commit(Commit("c-1", 0, record(1)), T)
            with pytest.raises(StoreUnsafe):
                await store.read("c-1", None, T)
            await repairing.accept_history(T)
        for worker in (store, other):
            assert (await _settled(worker)).log == EMPTY_LOG + record(1)
            assert await worker.read("c-new", None, T) == CustomerState()
            assert list(await worker.check()) == []


async def _settled(store: Store) -> CustomerState:
    for _ in range(300):
        with contextlib.suppress(StoreUnsafe, StoreUnavailable):
            return await store.read("c-1", None, T)
        await asyncio.sleep(0.02)
    raise AssertionError("the store was never taken again")


@pytest.mark.fault("B17")
async def test_epoch_commit_decided_before_the_loss_is_refused(valkey_server: ValkeyServer) -> None:
    """A new customer's commit that was on its way when the store was emptied writes nothing."""
    async with opened(valkey_server.url) as store:
        assert await store.read("c-new", None, T) == CustomerState()
        with valkey_server.client() as client:
            client.flushall()
            with pytest.raises(StoreUnsafe):
                await store.commit(Commit("c-new", 0, record(1)), T)
            assert not client.exists(keys.log_key(keys.partition_of("c-new", PARTITIONS), "c-new"))


@pytest.mark.fault("B17")
async def test_epoch_lost_partition_is_named(valkey_server: ValkeyServer) -> None:
    """Where one partition lost its marker its new customers are refused, those known and those of others are not."""
    async with opened(valkey_server.url) as store:
        await store.commit(Commit("c-1", 0), T)
        with valkey_server.client() as client:
            client.delete(keys.marker_key(keys.partition_of("c-1", PARTITIONS)))
        lost = next(f"n-{n}" for n in range(10_000) if _same_partition(f"n-{n}", "c-1"))
        with pytest.raises(StoreUnsafe):
            await store.read(lost, None, T)
        assert (await store.read("c-1", None, T)).version == 1
        assert await store.read("c-2", None, T) == CustomerState()
        assert list(await store.check()) == [f"1 of {PARTITIONS} partitions lost their history"]


def _same_partition(one: str, other: str) -> bool:
    return keys.partition_of(one, PARTITIONS) == keys.partition_of(other, PARTITIONS)


async def test_epoch_old_store_is_adopted(valkey_server: ValkeyServer, tmp_path: Path) -> None:
    """A store from before there were epochs keeps its customers, and takes new ones."""
    async with opened(valkey_server.url) as store:
        await store.commit(Commit("c-1", 0, record(1)), T)
    with valkey_server.client() as client:
        client.delete(keys.META, *(keys.marker_key(n) for n in range(PARTITIONS)))
        client.hset(keys.META, "partitions", PARTITIONS)
    async with opened(valkey_server.url, tmp_path) as store:
        assert (await store.read("c-1", None, T)).log == EMPTY_LOG + record(1)
        assert await store.commit(Commit("c-new", 0), T) == 1
        assert list(await store.check()) == []


@pytest.mark.fault("H20")
async def test_epoch_older_backup_is_refused(valkey_private: ValkeyServer, tmp_path: Path) -> None:
    """A server that comes back with the data of an earlier day is refused, for customers it knows as well, by the
    worker that was running and by one that starts; accepted, it is used."""
    saved, data = tmp_path / "saved", valkey_private.directory
    async with opened(valkey_private.url, tmp_path) as store:
        version = await store.commit(Commit("c-1", 0, record(1)), T)
        valkey_private.stop()
        shutil.copytree(data, saved)
        valkey_private.start()
        assert (await _settled(store)).version == version
        await store.commit(Commit("c-1", version, record(2)), T)
        with valkey_private.client() as client:
            client.hincrby(keys.META, "beat", TAIL_BEATS + 10)  # seconds go by
        for _ in range(200):
            if (here := EpochMemory(tmp_path / "store.epoch", _place_of(tmp_path)).here) and here.beat >= 10:
                break
            await asyncio.sleep(0.05)
        valkey_private.stop()
        shutil.rmtree(data)
        shutil.copytree(saved, data)
        valkey_private.start()
        for _ in range(300):
            with contextlib.suppress(StoreUnavailable):
                with pytest.raises(StoreUnsafe, match="set back"):
                    await store.read("c-1", None, T)
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("never refused")
        async with opened(valkey_private.url, tmp_path) as restarted:
            with pytest.raises(StoreUnsafe, match="set back"):
                await restarted.read("c-1", None, T)
            await restarted.accept_history(T)
            assert (await restarted.read("c-1", None, T)).version == version
        assert (await _settled(store)).version == version


def _place_of(data_dir: Path) -> str:
    """The only place in the file there."""
    return str(orjson.loads((data_dir / "store.epoch").read_bytes())[0][2])


async def test_epoch_beat_is_counted_once_however_many_count(valkey_server: ValkeyServer) -> None:
    """Several workers together move the beat about once a second, not each for itself."""
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(valkey_server.url)) for _ in range(5)]
        for store in stores:
            await store.read("c-1", None, T)
        await asyncio.sleep(2.5)
        with valkey_server.client() as client:
            assert 1 <= int(client.hget(keys.META, "beat") or 0) <= 6


async def test_epoch_memory_store_plays_the_same() -> None:
    """The store in memory refuses and is accepted in the same way."""
    store = MemoryStore()
    await store.commit(Commit("c-1", 0), T)
    store.lose_history()
    for call in (
        store.read("c-1", None, T),
        store.commit(Commit("c-1", 0), T),
        store.read_decision(decision_id("c-1"), T),
        store.claim_facility("f-1", "c-1", T),
    ):
        with pytest.raises(StoreUnsafe):
            await call
    assert await store.check()
    await store.accept_history(T)
    assert await store.read("c-1", None, T) == CustomerState()
    assert list(await store.check()) == []


@pytest.mark.fault("B13")
@pytest.mark.parametrize(
    ("name", "value"),
    [(b"f:f-1", b"{"), (b"f:f-1", b"[1]"), (b"a:x", b"[]"), (b"v", b"many"), (b"f:\xff", b"[]")],
)
async def test_epoch_spoilt_fields_are_damage_of_one_customer(
    store: Store, valkey_server: ValkeyServer, name: bytes, value: bytes
) -> None:
    """A field that cannot be read is told as damage, for that customer alone, and is over once it is mended."""
    await store.commit(Commit("c-1", 0, record(1)), T)
    key = keys.meta_key(keys.partition_of("c-1", PARTITIONS), "c-1")
    with valkey_server.client() as client:
        before = client.hget(key, name)
        client.hset(key, name, value)
        with pytest.raises(StoreDamaged):
            await store.read("c-1", None, T)
        assert await store.read("c-2", None, T) == CustomerState()
        client.hdel(key, name)
        if before is not None:
            client.hset(key, name, before)
    assert (await store.read("c-1", None, T)).version == 1


@pytest.mark.fault("B13")
@pytest.mark.parametrize("log", [b"odd", EMPTY_LOG[:-1], b"x" * 128, EMPTY_LOG + b"y"])
async def test_epoch_torn_log_is_damage(store: Store, valkey_server: ValkeyServer, log: bytes) -> None:
    """A log that is none of ours is damage, and nothing is appended to one that is torn."""
    await store.commit(Commit("c-1", 0, record(1)), T)
    with valkey_server.client() as client:
        client.set(keys.log_key(keys.partition_of("c-1", PARTITIONS), "c-1"), log)
    with pytest.raises(StoreDamaged):
        await store.read("c-1", None, T)

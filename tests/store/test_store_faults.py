"""What callers of the store are told when the network or the server fails, and that nothing stays broken."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest
import redis
from fault_proxy import FaultProxy
from store_cases import T, decision_id, record

from decision_service.core.errors import OutcomeUnknown, StoreDamaged, StoreUnavailable, StoreUnsafe
from decision_service.core.event import EMPTY_LOG
from decision_service.store import Commit, CustomerState, Store, keys
from decision_service.store.lane import STALLED_S, WAITING_MAX
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops: the service runs on uvloop, tests and tools on asyncio's own."""
    return "asyncio", {"use_uvloop": request.param}


SOON = 0.05  # seconds a caller waits where no reply will come
PARTITION = keys.partition_of("c-1", 256)


@contextlib.asynccontextmanager
async def opened(url: str, **options: object) -> AsyncIterator[Store]:
    store = open_store(url, **options)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.close()


async def settled(store: Store) -> CustomerState:
    """The state of c-1, once the store can be reached again."""
    for _ in range(200):
        with contextlib.suppress(StoreUnavailable):
            return await store.read("c-1", decision_id("c-1"), T)
        await asyncio.sleep(0.02)
    raise AssertionError("the store never came back")


@pytest.mark.fault("B03", "B04")
async def test_faults_forgotten_script_runs_once(store: Store, valkey_server: ValkeyServer) -> None:
    """When the server forgets our scripts between any two calls, every call still has exactly one effect."""
    with valkey_server.client() as client:
        for number in range(20):
            client.script_flush()
            state = await store.read("c-1", None, T)
            client.script_flush()
            await store.commit(Commit("c-1", state.version, record(number)), T)
    state = await store.read("c-1", None, T)
    assert (state.version, len(state.log)) == (20, 21 * 64)


@pytest.mark.fault("A05")
async def test_faults_lost_reply_of_commit_is_unknown_and_single(proxied_store: Store, proxy: FaultProxy) -> None:
    """A commit whose reply is lost says so, has happened exactly once and is found again by its id."""
    await proxied_store.read("c-1", None, T)
    await proxied_store.commit(Commit("c-0", 0), T)
    proxy.lose_replies = True
    proxy.requests.clear()
    commit = Commit("c-1", 0, record(1), decision=(decision_id("c-1"), b"frame"))
    with pytest.raises(OutcomeUnknown):
        await proxied_store.commit(commit, SOON)
    assert proxy.requests.count(b"frame") == 1
    proxy.lose_replies = False
    proxy.cut()
    state = await settled(proxied_store)
    assert (state.version, state.log, state.decision) == (1, EMPTY_LOG + record(1), b"frame")


@pytest.mark.fault("A05")
async def test_faults_lost_reply_of_list_change_is_unknown(
    proxied_store: Store, proxy: FaultProxy, store: Store
) -> None:
    """A write outside the customer's state is just as unknown, and just as single."""
    await proxied_store.publish_reload(T)
    proxy.lose_replies = True
    with pytest.raises(OutcomeUnknown):
        await proxied_store.publish_reload(SOON)
    assert (await store.read_fleet(T)).reload == 2


@pytest.mark.fault("A06")
async def test_faults_lost_request_changes_nothing(proxied_store: Store, proxy: FaultProxy) -> None:
    """A commit lost on its way is unknown to the caller, has not happened, and may be made again."""
    await proxied_store.commit(Commit("c-0", 0), T)
    proxy.lose_requests = True
    with pytest.raises(OutcomeUnknown):
        await proxied_store.commit(Commit("c-1", 0, record(1)), SOON)
    proxy.lose_requests = False
    proxy.cut()
    assert await settled(proxied_store) == CustomerState()
    assert await proxied_store.commit(Commit("c-1", 0, record(1)), T) == 1


@pytest.mark.fault("A05")
async def test_faults_lost_reply_of_read_is_unavailable(proxied_store: Store, proxy: FaultProxy) -> None:
    """A read that gets no reply changed nothing, so the store is just unavailable."""
    await proxied_store.read("c-1", None, T)
    proxy.lose_replies = True
    with pytest.raises(StoreUnavailable):
        await proxied_store.read("c-1", None, SOON)


@pytest.mark.fault("A07")
async def test_faults_silent_connection_is_replaced(proxied_store: Store, proxy: FaultProxy) -> None:
    """A connection that swallows replies is given up for a new one, without anything closing it."""
    await proxied_store.read("c-1", None, T)
    before = proxy.accepted
    proxy.lose_replies = True
    for _ in range(int(2 * STALLED_S / SOON)):
        with contextlib.suppress(StoreUnavailable):
            await proxied_store.read("c-1", None, SOON)
        if proxy.accepted > before:
            break
        await asyncio.sleep(SOON)
    assert proxy.accepted > before
    proxy.lose_replies = False
    assert await settled(proxied_store) == CustomerState()


@pytest.mark.fault("A07")
async def test_faults_silence_from_the_start(proxied_store: Store, proxy: FaultProxy) -> None:
    """A server that accepts and never says a word is unavailable; closing the store leaves nothing open."""
    proxy.lose_replies = True
    with pytest.raises(StoreUnavailable):
        await proxied_store.read("c-1", None, SOON)
    with pytest.raises(StoreUnavailable):
        await proxied_store.read("c-1", None, T)
    with pytest.raises(StoreUnavailable):
        await proxied_store.commit(Commit("c-1", 0), SOON)


@pytest.mark.fault("A08")
async def test_faults_sliced_replies_are_put_together(proxied_store: Store, proxy: FaultProxy) -> None:
    """Replies that arrive byte by byte are the same replies."""
    records = b"".join(record(n) for n in range(16))
    await proxied_store.commit(Commit("c-1", 0, records), T)
    proxy.slice_bytes = 1
    states = await asyncio.gather(*(proxied_store.read(c, None, T) for c in ("c-1", "c-2", "c-1")))
    assert [state.log for state in states] == [EMPTY_LOG + records, EMPTY_LOG, EMPTY_LOG + records]


@pytest.mark.fault("A02", "A08")
async def test_faults_reset_connection_fails_calls_by_kind(proxied_store: Store, proxy: FaultProxy) -> None:
    """When a connection is reset under way, reads are unavailable, writes are unknown, and the next call works."""
    await proxied_store.read("c-1", None, T)
    await proxied_store.commit(Commit("c-0", 0), T)
    proxy.lose_replies = True
    calls = [proxied_store.read("c-1", None, T), proxied_store.commit(Commit("c-1", 0), T)]
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(SOON)
    proxy.lose_replies = False
    proxy.cut()
    read, commit = await asyncio.gather(*tasks, return_exceptions=True)
    assert (type(read), type(commit)) == (StoreUnavailable, OutcomeUnknown)
    assert (await settled(proxied_store)).version == 1


@pytest.mark.fault("A03", "A04")
async def test_faults_late_replies_reach_nobody(store: Store, valkey_server: ValkeyServer) -> None:
    """After time-outs and cancellations in the middle of a pipeline every caller still gets its own reply."""
    for number in range(30):
        await store.commit(Commit(f"c-{number}", 0, record(number)), T)
    with valkey_server.client() as client:
        client.client_pause(300, all=True)
    calls = [asyncio.create_task(store.read(f"c-{n}", None, SOON if n % 3 == 0 else T)) for n in range(30)]
    await asyncio.sleep(SOON)
    for call in calls[1::3]:
        call.cancel()
    replies = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(reply) for reply in replies[0::3]} == {StoreUnavailable}
    assert {type(reply) for reply in replies[1::3]} == {asyncio.CancelledError}
    assert [reply.log for reply in replies[2::3]] == [EMPTY_LOG + record(n) for n in range(2, 30, 3)]
    again = await asyncio.gather(*(store.read(f"c-{n}", None, T) for n in range(30)))
    assert [state.log for state in again] == [EMPTY_LOG + record(n) for n in range(30)]


@pytest.mark.fault("D19")
async def test_faults_cancelled_commit_is_whole_or_absent(store: Store) -> None:
    """A caller that goes away in the middle of a commit leaves all of it or none of it."""
    for number in range(20):
        customer = f"c-{number}"
        commit = Commit(customer, 0, record(1), decision=(decision_id(customer), b"f"))
        task = asyncio.create_task(store.commit(commit, T))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    for number in range(20):
        await store.commit(Commit("fence", number), T)
        state = await store.read(f"c-{number}", decision_id(f"c-{number}"), T)
        whole = (1, EMPTY_LOG + record(1), b"f")
        assert (state.version, state.log, state.decision) in (whole, (0, EMPTY_LOG, None))


@pytest.mark.fault("A03")
async def test_faults_frozen_server_and_thaw(valkey_private: ValkeyServer) -> None:
    """While the server is frozen a commit is unknown and a read unavailable; after the thaw the commit is there."""
    async with opened(valkey_private.url) as store:
        await store.commit(Commit("c-0", 0), T)
        await store.read("c-0", None, T)
        valkey_private.freeze()
        with pytest.raises(OutcomeUnknown):
            await store.commit(Commit("c-1", 0, decision=(decision_id("c-1"), b"frame")), SOON)
        with pytest.raises(StoreUnavailable):
            await store.read("c-1", None, SOON)
        valkey_private.thaw()
        await store.commit(Commit("c-0", 1), T)  # behind it on the same connection
        assert (await settled(store)).decision == b"frame"


@pytest.mark.fault("A09")
async def test_faults_too_many_waiting_calls_are_refused(valkey_private: ValkeyServer) -> None:
    """A server that takes commands and answers none fills a lane up to its bound and not beyond."""
    taken = WAITING_MAX  # a read is one call of the lane
    async with opened(valkey_private.url) as store:
        await store.commit(Commit("c-1", 0), T)
        known = await store.read("c-1", None, T)
        valkey_private.freeze()
        calls = [asyncio.create_task(store.read("c-1", None, 6 * T)) for _ in range(taken + 10)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = [call for call in calls if call.done()]
        assert len(refused) == 10
        assert all(isinstance(call.exception(), StoreUnavailable) for call in refused)
        valkey_private.thaw()
        replies = await asyncio.gather(*calls, return_exceptions=True)
        assert replies.count(known) == taken


@pytest.mark.fault("A01")
async def test_faults_server_down_at_the_start(valkey_private: ValkeyServer) -> None:
    """A store whose server is down is unavailable, and works as soon as the server is up."""
    valkey_private.stop()
    async with opened(valkey_private.url) as store:
        for call in (store.read("c-1", None, T), store.commit(Commit("c-1", 0), T), store.check()):
            with pytest.raises(StoreUnavailable):
                await call
        valkey_private.start()
        assert await settled(store) == CustomerState()


@pytest.mark.fault("A02")
async def test_faults_killed_server_keeps_what_it_acknowledged(valkey_private: ValkeyServer) -> None:
    """After kill -9 under load and a restart every acknowledged commit is there, whole, and none twice."""
    acknowledged: set[int] = set()
    enough = asyncio.Event()

    async def commit(store: Store, number: int) -> None:
        with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
            wanted = decision_id(f"c-{number}")
            await store.commit(Commit(f"c-{number}", 0, record(number), decision=(wanted, b"f")), T)
            acknowledged.add(number)

    async def load(store: Store) -> None:
        for first in range(0, 100_000, 20):
            if len(acknowledged) >= 200:
                enough.set()
            await asyncio.gather(*(commit(store, n) for n in range(first, first + 20)))

    async with opened(valkey_private.url) as store:
        task = asyncio.create_task(load(store))
        await enough.wait()
        valkey_private.kill()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        valkey_private.start()
        await settled(store)
        for number in acknowledged:
            state = await store.read(f"c-{number}", decision_id(f"c-{number}"), T)
            assert (state.version, state.log, state.decision) == (1, EMPTY_LOG + record(number), b"f")
        with valkey_private.client() as client:
            entries = [int(e[b"customer"][2:]) for k in client.keys("*:out") for _, e in client.xrange(k)]
        assert acknowledged <= set(entries)
        assert len(entries) == len(set(entries))


@pytest.mark.fault("B01")
async def test_faults_full_memory_refuses_writes_and_serves_reads(valkey_private: ValkeyServer) -> None:
    """Out of memory: reads go on, commits are refused and wrote nothing."""
    async with opened(valkey_private.url) as store:
        await store.commit(Commit("c-1", 0, record(1)), T)
        with valkey_private.client() as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(StoreUnavailable, match="OOM"):
                await store.commit(Commit("c-1", 1, record(2)), T)
            assert (await store.read("c-1", None, T)).log == EMPTY_LOG + record(1)
            client.config_set("maxmemory", 0)
        assert await store.commit(Commit("c-1", 1, record(2)), T) == 2


@pytest.mark.fault("B11")
async def test_faults_too_few_replicas_refuse_writes(valkey_private: ValkeyServer) -> None:
    """Without the replicas it must have, the server refuses commits and wrote nothing."""
    async with opened(valkey_private.url) as store:
        await store.commit(Commit("c-1", 0), T)
        with valkey_private.client() as client:
            client.config_set("min-replicas-to-write", 1)
            with pytest.raises(StoreUnavailable, match="NOREPLICAS"):
                await store.commit(Commit("c-1", 1), T)
        assert (await store.read("c-1", None, T)).version == 1


@pytest.mark.fault("B10")
async def test_faults_demoted_server_refuses_writes(valkey_private: ValkeyServer) -> None:
    """A server that became a replica refuses commits; promoted again it takes them."""
    async with opened(valkey_private.url) as store:
        await store.commit(Commit("c-1", 0), T)
        with valkey_private.client() as client:
            client.replicaof("127.0.0.1", 1)
            with pytest.raises(StoreUnavailable):
                await store.commit(Commit("c-1", 1), T)
            assert any("replica" in problem for problem in await store.check())
            client.replicaof("NO", "ONE")
        assert await store.commit(Commit("c-1", 1), T) == 2


@pytest.mark.fault("B05")
async def test_faults_busy_server_is_unavailable(valkey_private: ValkeyServer) -> None:
    """While somebody's script hogs the server every call is told BUSY, and works once the script is gone."""
    async with opened(valkey_private.url) as store:
        await store.commit(Commit("c-1", 0), T)
        await store.read("c-1", None, T)
        with valkey_private.client() as client, valkey_private.client() as killer:
            client.config_set("busy-reply-threshold", 10)
            hog = threading.Thread(target=_hog, args=(client,))
            hog.start()
            await asyncio.sleep(0.1)
            with pytest.raises(StoreUnavailable, match="BUSY"):
                await store.commit(Commit("c-1", 1), T)
            with pytest.raises(StoreUnavailable, match="BUSY"):
                await store.read("c-1", None, T)
            killer.script_kill()
            hog.join()
        assert await store.commit(Commit("c-1", 1), T) == 2


def _hog(client: redis.Redis) -> None:
    with contextlib.suppress(redis.ResponseError):
        client.eval("while true do end", 0)


@pytest.mark.fault("B13", "C12")
@pytest.mark.parametrize("key", ["meta", "log", "outbox"])
async def test_faults_wrong_type_changes_nothing(store: Store, valkey_server: ValkeyServer, key: str) -> None:
    """A key of another type than ours makes a commit unavailable, and no other key changes."""
    spoilt = {
        "meta": keys.meta_key(PARTITION, "c-1"),
        "log": keys.log_key(PARTITION, "c-1"),
        "outbox": keys.outbox_key(PARTITION),
    }[key]
    with valkey_server.client() as client:
        client.sadd(spoilt, "odd")
        await store.read_fleet(T)
        before = set(client.keys("*"))
        commit = Commit("c-1", 0, record(1), decision=(decision_id("c-1"), b"f"))
        with pytest.raises(StoreDamaged):
            await store.commit(commit, T)
        assert set(client.keys("*")) == before
        assert client.scard(spoilt) == 1


@pytest.mark.fault("B13", "C12")
async def test_faults_wrong_type_fails_only_its_reader(store: Store, valkey_server: ValkeyServer) -> None:
    """In a pipeline, a read that hits a spoilt key fails alone."""
    await store.commit(Commit("c-2", 0, record(2)), T)
    with valkey_server.client() as client:
        client.sadd(keys.log_key(PARTITION, "c-1"), "odd")
    bad, good = await asyncio.gather(store.read("c-1", None, T), store.read("c-2", None, T), return_exceptions=True)
    assert isinstance(bad, StoreDamaged)
    assert isinstance(good, CustomerState)
    assert good.log == EMPTY_LOG + record(2)


@pytest.mark.fault("A10")
async def test_faults_connections_exhausted(valkey_private: ValkeyServer) -> None:
    """A server that takes no more clients is unavailable, and is used again when it does."""
    with valkey_private.client() as client:
        client.config_set("maxclients", 1)
        async with opened(valkey_private.url) as store:
            with pytest.raises(StoreUnavailable):
                await store.read("c-1", None, T)
            client.config_set("maxclients", 100)
            assert await settled(store) == CustomerState()


@pytest.mark.fault("A11")
async def test_faults_wrong_password(valkey_private: ValkeyServer) -> None:
    """A wrong password is unavailable and not repeated in the error; the right one, percent-encoded, works."""
    with valkey_private.client() as client:
        client.config_set("requirepass", "s3cret/@:x")
    port = valkey_private.port
    async with opened(f"redis://:not-it@127.0.0.1:{port}/0") as store:
        with pytest.raises(StoreUnavailable) as caught:
            await store.read("c-1", None, T)
        assert "not-it" not in str(caught.value)
    async with opened(f"redis://:s3cret%2F%40%3Ax@127.0.0.1:{port}/2") as store:
        await store.commit(Commit("c-1", 0), T)
        assert (await store.read("c-1", None, T)).version == 1


async def test_faults_partitions_never_change(valkey: str) -> None:
    """A store keeps the partitions it was started with; another number is refused, naming both."""
    async with opened(valkey, partitions=16) as store:
        await store.commit(Commit("c-1", 0), T)
    async with opened(valkey, partitions=32) as store:
        with pytest.raises(StoreUnsafe, match=r"16 partitions.*32"):
            await store.read("c-1", None, T)
        assert any("16 partitions" in problem for problem in await store.check())
    async with opened(valkey, partitions=16) as store:
        assert (await store.read("c-1", None, T)).version == 1


@pytest.mark.fault("B02")
@pytest.mark.parametrize(
    ("setting", "value", "profile", "complaint"),
    [
        ("maxmemory-policy", "allkeys-lru", "safe", "evict"),
        ("appendonly", "no", "fast", "appendonly is off"),
        ("appendfsync", "everysec", "safe", "appendfsync is everysec"),
        ("appendfsync", "everysec", "fast", ""),
        ("appendfsync", "no", "fast", "appendfsync is no"),
    ],
)
async def test_faults_unsafe_configuration_is_named(
    valkey_private: ValkeyServer, setting: str, value: str, profile: str, complaint: str
) -> None:
    """A server that could evict or lose what it acknowledged is named as such, as the profile demands."""
    with valkey_private.client() as client:
        client.config_set(setting, value)
    async with opened(valkey_private.url, profile=profile) as store:
        problems = await store.check()
    assert [complaint in problem for problem in problems] == ([True] if complaint else [])


@pytest.mark.fault("B02")
async def test_faults_hidden_configuration_is_a_problem(valkey_private: ValkeyServer) -> None:
    """A server that does not show its configuration cannot be called safe."""
    with valkey_private.client() as client:
        client.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-config"])
    async with opened(f"redis://app:pw@127.0.0.1:{valkey_private.port}/0") as store:
        assert ["cannot see its configuration" in problem for problem in await store.check()] == [True]


@pytest.mark.fault("A11")
async def test_faults_rights_taken_away_are_a_problem(valkey_private: ValkeyServer) -> None:
    """A user who may no longer run scripts is told by `check` while it lasts, and calls are refused."""
    with valkey_private.client() as client:
        client.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all"])
        async with opened(f"redis://app:pw@127.0.0.1:{valkey_private.port}/0") as store:
            assert await store.commit(Commit("c-1", 0, record(1)), T) == 1
            assert await store.check() == ()
            client.execute_command("ACL", "SETUSER", "app", "-evalsha", "-eval")
            assert ["does not let this user run scripts" in problem for problem in await store.check()] == [True]
            with pytest.raises(StoreUnavailable, match="NOPERM"):
                await store.commit(Commit("c-1", 1, record(2)), T)
            client.execute_command("ACL", "SETUSER", "app", "+evalsha", "+eval")
            assert await store.check() == ()
            assert await store.commit(Commit("c-1", 1, record(2)), T) == 2

"""Networks that part, replicas that lag, sentinels that are out of date: nobody writes where it would be lost, and
what an asynchronous replica never received is found and put back."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest_service import Run, Started, decide
from reconcile_cases import PARTITIONS, kept, question, reconcile
from sentinel_stub import SentinelStub
from store_cases import T, record
from tcp_proxy import TcpProxy

from decision_service.answer import Answer
from decision_service.core.errors import StoreUnavailable
from decision_service.core.event import EMPTY_LOG
from decision_service.store import Commit, Store
from decision_service.store.open import open_store
from topology_servers import SentinelServers, Servers, linked, role_of, started, until
from valkey_server import ValkeyServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ONE_REPLICA = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1", "--repl-timeout", "3")


@contextlib.contextmanager
def parted(directory: Path, *settings: str) -> Iterator[tuple[SentinelServers, TcpProxy]]:
    """Sentinel, and a proxy by which everybody but the holder of its own address reaches the first primary."""
    servers = SentinelServers(directory, *settings)
    with TcpProxy(servers.nodes[0].port) as proxy:
        servers.reach(proxy.port)
        try:
            servers.start()
            yield servers, proxy
        finally:
            servers.stop()


@contextlib.asynccontextmanager
async def opened(url: str, partitions: int = 256) -> AsyncIterator[Store]:
    """A store, closed at the end."""
    store = open_store(url, partitions=partitions)
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.fault("C03", "B11")
async def test_an_old_primary_behind_a_partition_stops_and_comes_back_as_a_replica(tmp_path: Path) -> None:
    """Who is on its side of the partition gets refusals once no replica acknowledges: no split brain. After healing it
    follows the new primary, and what only it had acknowledged meanwhile is gone and can be named."""
    with parted(tmp_path, *ONE_REPLICA) as (servers, proxy):
        old = servers.nodes[0]
        async with opened(old.url) as near, opened(servers.url) as far:
            version = await far.commit(Commit("c-1", 0, record(0)), T)
            proxy.hurt(black_hole=True)
            proxy.cut()
            only_near = []
            with contextlib.suppress(StoreUnavailable):
                for number in range(1, 10_000):
                    version = await near.commit(Commit("c-1", version, record(number)), T)
                    only_near.append(number)
                    await asyncio.sleep(0.02)
            assert len(only_near) < 9_000, "the old primary never stopped"
            await asyncio.to_thread(servers.wait_promoted, old)
            assert await written(far, record(20_000)) == 2
            with pytest.raises(StoreUnavailable):
                await near.commit(Commit("c-1", version, record(30_000)), T)
            proxy.heal()
            proxy.cut()
            await asyncio.to_thread(until, lambda: role_of(old) == "slave", "the old primary follows")
            with pytest.raises(StoreUnavailable):  # READONLY
                await near.commit(Commit("c-1", version, record(40_000)), T)
            state = await far.read("c-1", None, T)
            assert state.log == EMPTY_LOG + record(0) + record(20_000)


async def written(store: Store, records: bytes) -> int:
    """The version after appending records to c-1, once the store can."""
    async with asyncio.timeout(30):
        while True:
            try:
                state = await store.read("c-1", None, T)
                return await store.commit(Commit("c-1", state.version, records), T)
            except StoreUnavailable:
                await asyncio.sleep(0.05)


@pytest.mark.fault("C02", "C04")
def test_answers_that_a_fail_over_lost_are_found_and_put_back_before_more_is_lent(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replicas are cut off, the primary acknowledges five draws and dies: the replica that leads now knows of none.
    `reconcile` names all five and puts them back; retries get what was told; the line has room for the rest only."""
    monkeypatch.setenv("DECISION_SERVICE_PARTITIONS", str(PARTITIONS))
    with parted(tmp_path / "servers") as (servers, proxy):
        old = servers.nodes[0]
        before = answers(run, servers.url, *range(2))
        until(lambda: caught_up(servers), "replicas that have both")
        proxy.hurt(black_hole=True)
        proxy.cut()
        lost = answers(run, old.url, *range(2, 7))
        assert [one["decision"] for one in lost] == ["approve"] * 5
        servers.kill(old)
        servers.wait_promoted(old)
        listed = kept(tmp_path / "told.jsonl", [*before, *lost])
        status, told = reconcile(capsys, servers.url, listed)
        assert (status, told["lost"], told["agreed"]) == (1, 5, 2)
        status, told = reconcile(capsys, servers.url, listed, "--repair")
        assert told["repaired"]["lost"] == 5
        assert reconcile(capsys, servers.url, listed, "--since", "2026-01-01", "--verify")[0] == 0
        again = answers(run, servers.url, *range(2, 12))
        assert [(a["decision"], a["approved_amount"]) for a in again[:5]] == [("approve", 100.0)] * 5
        assert [a["decision"] for a in again[5:]] == ["approve"] * 3 + ["hold"] * 2  # of 1,000


def caught_up(servers: SentinelServers) -> bool:
    """Whether both replicas have all that the primary sent."""
    with servers.nodes[0].client() as client:
        told = client.info("replication")
    return all(told[f"slave{n}"]["offset"] >= told["master_repl_offset"] for n in range(2))


def answers(run: Run, url: str, *numbers: int) -> list[dict[str, Any]]:
    """What the service on a store answers to draws of 100."""

    async def go(service: Started) -> list[Answer]:
        return [await decide(service, question(number)) for number in numbers]

    return [orjson.loads(answer.body) for answer in run(go, open_store(url, partitions=PARTITIONS))]


@pytest.mark.fault("C04")
@pytest.mark.parametrize("topology", ["sentinel", "cluster"], indirect=True)
async def test_replicas_are_never_read(topology: Servers) -> None:
    """While replicas lag, every read sees what was just committed; replicas are asked for nothing."""
    leaders = {topology.leader(f"c-{n}").port for n in range(20)}
    replicas = [node for node in topology.nodes if role_of(node) == "slave"]
    assert not leaders & {node.port for node in replicas}
    for replica in replicas:
        with replica.client() as client:
            client.config_resetstat()
        replica.freeze()
    try:
        async with opened(topology.url) as store:
            for number in range(20):
                await store.commit(Commit(f"c-{number}", 0, record(number)), T)
                assert (await store.read(f"c-{number}", None, T)).log == EMPTY_LOG + record(number)
    finally:
        for replica in replicas:
            replica.thaw()
    for replica in replicas:
        with replica.client() as client:
            asked = set(client.info("commandstats"))
        assert not asked & {"cmdstat_evalsha", "cmdstat_eval", "cmdstat_get", "cmdstat_hgetall", "cmdstat_mget"}


@pytest.mark.fault("C11")
@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_a_sentinel_that_names_a_replica_is_not_believed(topology: SentinelServers) -> None:
    """With only such a sentinel the store is unavailable, and nothing is written anywhere; once it is put right the
    store goes on by itself."""
    replica = next(node for node in topology.nodes if role_of(node) == "slave")
    with SentinelStub(replica.port) as stub:
        async with opened(f"redis+sentinel://127.0.0.1:{stub.port}/lines/0") as store:
            with pytest.raises(StoreUnavailable):
                await store.commit(Commit("c-1", 0, record(1)), T)
            assert stub.asked
            stub.primary = topology.leader("c-1").port
            assert await written(store, record(2)) == 1


@pytest.mark.fault("C11")
@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_one_sentinel_out_of_date_among_others_does_no_harm(topology: SentinelServers) -> None:
    """Named first in the URL or last, one that names a replica, or a server that is gone, is outvoted."""
    others = [f"127.0.0.1:{sentinel.port}" for sentinel in topology.sentinels[:2]]
    replica = next(node for node in topology.nodes if role_of(node) == "slave")
    version = 0
    for named in (replica.port, 1):
        with SentinelStub(named) as stub:
            stale = f"127.0.0.1:{stub.port}"
            for hosts in ([stale, *others], [*others, stale], [stale, others[0]]):
                async with opened(f"redis+sentinel://{','.join(hosts)}/lines/0") as store:
                    version = await store.commit(Commit("c-1", version, record(version)), T)
    assert version == 6


@pytest.mark.fault("C10")
@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
async def test_replicas_that_have_not_everything_yet_are_not_counted_on(kind: str, tmp_path: Path) -> None:
    """A replica that starts empty is one by name only until it has been sent everything: a fail-over would lose all.
    In profile `replicated` the store says so and is not ready; when the replica has caught up it is."""
    with started(kind, tmp_path, "--min-replicas-to-write", "1") as servers:
        leader = servers.leader("c-1")
        followers = [node for node in servers.nodes if role_of(node) == "slave" and follows(node, leader)]
        store = open_store(servers.url, profile="replicated")
        try:
            await ready(store)
            assert await written(store, record(1)) == 1
            with leader.client() as client:
                client.config_set("repl-diskless-sync-delay", 12)
            for follower in followers:
                follower.kill()
                shutil.rmtree(follower.directory / "appendonlydir")
                follower.start()
                if kind == "sentinel":
                    with follower.client() as client:
                        client.replicaof("127.0.0.1", leader.port)
            problems = await store.check()
            assert any("replica" in problem for problem in problems), problems
            await asyncio.to_thread(until, lambda: all(map(linked, followers)), "replicas that caught up")
            await ready(store)
            assert await written(store, record(2)) == 2
        finally:
            await store.close()


async def ready(store: Store) -> None:
    """Wait until nothing is wrong with a store."""
    async with asyncio.timeout(20):
        while await store.check():  # noqa: ASYNC110
            await asyncio.sleep(0.2)


def follows(node: ValkeyServer, leader: ValkeyServer) -> bool:
    """Whether a replica is that of a primary."""
    with node.client() as client:
        return bool(client.info("replication")["master_port"] == leader.port)

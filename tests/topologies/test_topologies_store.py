"""What the store does when its servers change under it, on every topology: one effect or none, and back to normal."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot
from store_cases import T, decision_id, record
from store_racer import CREDIT
from topology_load import Draws

from decision_service.core.errors import StoreDamaged, StoreUnavailable, VersionMoved
from decision_service.core.event import EMPTY_LOG
from decision_service.core.limits import PARTITIONS
from decision_service.core.links import LINK_GRAINS, log_names
from decision_service.store import Commit, Store, keys, scripts
from decision_service.store.open import open_store
from topology_servers import (
    PRIMARY_NAME,
    ClusterServers,
    SentinelServers,
    Servers,
    SlotMove,
    role_of,
    slot_of_customer,
    started,
    until,
)

pytestmark = pytest.mark.anyio

STORE_TESTS = Path(__file__).parent.parent / "store"
IDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=128)


# --- several processes on one customer --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault("D05")
def test_two_hundred_draws_of_four_processes_grant_exactly_the_credit(topology: Servers) -> None:
    """I2 on every topology: processes that share nothing but the store never lend a limit twice."""
    racers = [
        subprocess.Popen(
            [sys.executable, str(STORE_TESTS / "store_racer.py"), topology.url, str(n * 50), "50"],
            stdout=subprocess.PIPE, text=True,
        )
        for n in range(4)
    ]  # fmt: skip
    told = [racer.communicate(timeout=120)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert sum(map(int, told)) > 0, "nobody ever lost a race: they did not race"

    async def look() -> tuple[int, int, list[bytes | None]]:
        store = open_store(topology.url)
        state = await store.read("c-1", None, T)
        frames = [await store.read_decision(decision_id("c-1", f"r-{n}"), T) for n in range(200)]
        await store.close()
        return state.version, len(state.log) // 64 - 1, frames

    version, granted, frames = asyncio.run(look())
    assert (version, granted) == (200, CREDIT)
    assert (frames.count(b"approve"), frames.count(b"hold")) == (CREDIT, 200 - CREDIT)


async def test_draws_of_one_process_race_too(any_store: Store) -> None:
    """Forty draws at once on a credit of ten: ten are granted."""

    async def draw(number: int) -> bool:
        while True:
            state = await any_store.read("c-1", None, T)
            granted = len(state.log) // 64 - 1 < CREDIT
            commit = Commit(
                "c-1", state.version, record(number) if granted else b"",
                decision=(decision_id("c-1", f"r-{number}"), b"f"),
            )  # fmt: skip
            with contextlib.suppress(VersionMoved):
                await any_store.commit(commit, T)
                return granted

    assert sum(await asyncio.gather(*map(draw, range(40)))) == CREDIT


# --- scripts and keys -------------------------------------------------------------------------------------------


@pytest.mark.fault("B03", "B04", "C05")
async def test_forgotten_scripts_under_load(any_store: Store, topology: Servers) -> None:
    """Every server forgets its scripts again and again: nobody notices, every draw happens once."""
    async with Draws(any_store) as draws:
        for _ in range(10):
            for node in topology.nodes:
                with node.client() as client:
                    client.script_flush()
            await draws.more(2)
    assert not draws.errors
    await draws.check(topology)


@pytest.mark.fault("C07", "E12")
@given(customer=IDS, request_id=IDS, facility=IDS)
def test_keys_of_one_script_share_a_slot_whatever_the_ids(customer: str, request_id: str, facility: str) -> None:
    """CROSSSLOT is impossible by construction: the slot is that of the partition, which no id can reach."""
    partition = keys.partition_of(customer, PARTITIONS)
    decision = keys.decision_id_of(customer, request_id, PARTITIONS)
    of_customer = [
        keys.meta_key(partition, customer), keys.log_key(partition, customer), keys.outbox_key(partition),
        keys.waiting_key(partition), keys.customer_decision_key(partition, decision),
        keys.shadow_key(partition, decision),
    ]  # fmt: skip
    assert {key_slot(key) for key in of_customer} == {keys.slot_of(keys.outbox_key(partition))}
    assert len(set(of_customer)) == len(of_customer)
    owner = keys.owner_key(facility, PARTITIONS)
    assert key_slot(owner) == keys.slot_of(keys.outbox_key(keys.partition_of(facility, PARTITIONS)))
    for name in log_names(customer, request_id, None):
        assert LINK_GRAINS[name[0]]
        entity = keys.entity_key(name, PARTITIONS)
        of_entity = keys.partition_of_entity(name, PARTITIONS)
        assert key_slot(entity) == keys.slot_of(keys.outbox_key(of_entity))


SCRIPTS = sorted(Path(scripts.__file__).parent.glob("*.lua"))
_CALL = re.compile(
    r"redis\.p?call\(\s*'(?P<command>[A-Z]+)'\s*(?:,\s*'(?:GROUPS|STREAM|CREATE|SETID)')?(?:,\s*(?P<key>[^,)]+))?"
)
_NAMED = re.compile(r"local ([\w, ]+) = (.+)")


def _names_of_keys(source: str) -> Iterator[str]:
    """Names that stand for declared keys."""
    for names, values in _NAMED.findall(source):
        for name, value in zip(names.split(", "), values.split(", "), strict=False):
            if value.startswith("KEYS["):
                yield name
    for name in re.findall(r"for \w+, (\w+) in ipairs\(KEYS\)", source):
        yield name


@pytest.mark.fault("C08")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_touch_declared_keys_only(path: Path) -> None:
    """Every command of a script names a key of KEYS, in the open: on a cluster any other is refused half-way."""
    source = "\n".join(line.partition("--")[0] for line in path.read_text().splitlines())
    known = set(_names_of_keys(source))
    assert _CALL.search(source)
    for call in _CALL.finditer(source):
        key = (call["key"] or "").strip()
        declared = key.startswith("KEYS[") or key in known
        assert declared, f"{path.name}: {call[0]} of a key that is not declared"


@pytest.mark.fault("C12", "B13")
async def test_one_command_of_many_fails_alone(any_store: Store, topology: Servers) -> None:
    """Of commands that travel together the one on a damaged customer fails; the others have their replies in order."""
    customers = [f"c-{n}" for n in range(20)]
    for number, customer in enumerate(customers):
        await any_store.commit(Commit(customer, 0, record(number)), T)
    damaged = keys.log_key(keys.partition_of("c-7", PARTITIONS), "c-7")
    with topology.leader("c-7").client() as client:
        log = client.getdel(damaged)
        client.hset(damaged, "no", "log")
    reads = await asyncio.gather(*(any_store.read(one, None, T) for one in customers), return_exceptions=True)
    commits = await asyncio.gather(
        *(any_store.commit(Commit(one, 1, record(100)), T) for one in customers), return_exceptions=True
    )
    for number, (read, version) in enumerate(zip(reads, commits, strict=True)):
        if number == 7:
            assert isinstance(read, StoreDamaged)
            assert isinstance(version, StoreDamaged), "nothing was written, and it is known"
        else:
            assert read.log == EMPTY_LOG + record(number)  # type: ignore[union-attr]
            assert version == 2
    with topology.leader("c-7").client() as client:
        client.delete(damaged)
        client.set(damaged, log)
    assert await any_store.commit(Commit("c-7", 1, record(100)), T) == 2


# --- slots that move --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
@pytest.mark.fault("C05", "C06")
async def test_resharding_under_load_with_replicas(any_store: Store, topology: ClusterServers) -> None:
    """A slot moves to another primary and back, key by key, while its customers draw: nothing lost, nothing twice."""
    slot = slot_of_customer("c-1")
    async with Draws(any_store) as draws:
        for _ in range(2):
            move = SlotMove(topology, slot)
            await draws.more(3)
            await asyncio.to_thread(move.begin)
            await asyncio.sleep(0.1)  # a draw now has keys that are there and keys that are not: TRYAGAIN until the end
            await asyncio.to_thread(move.carry, 1)
            await asyncio.to_thread(move.end)
            await draws.more(3)
    assert set(draws.errors) <= {"store-unavailable", "version-moved"}
    await draws.check(topology)


# --- primaries that change --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault("C01", "C13", "A02", "B07")
async def test_killed_under_load_every_draw_is_whole_or_not_there(topology_private: Servers) -> None:
    """kill -9 of the leader while scripts run, another takes over: each draw is there whole and once, or not at all;
    what an asynchronous replica had not received by then is at most the last of a customer; drawing goes on."""
    store = open_store(topology_private.url)
    try:
        async with Draws(store) as draws:
            await draws.more(20)
            await asyncio.to_thread(topology_private.fail_over, "c-1")
            await draws.more(20)
            await asyncio.to_thread(topology_private.heal)
            await draws.more(5)
        assert draws.errors
        await draws.check(topology_private, lost_max=0 if topology_private.kind == "standalone" else 1)
    finally:
        await store.close()


@pytest.mark.slow
@pytest.mark.fault("B10", "C01")
@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
async def test_demoted_while_it_lives(kind: str, tmp_path: Path) -> None:
    """An operator moves the lead to a replica: the old primary answers READONLY or MOVED, the draws follow, each is
    there once. A cluster's replica catches up before it takes over. Sentinel lets the old primary go on for some
    seconds: only `min-replicas-to-write` as large as the number of replicas stops it when the first turns away."""
    settings = ("--min-replicas-to-write", "2", "--min-replicas-max-lag", "2") if kind == "sentinel" else ()
    with started(kind, tmp_path, *settings) as servers:
        store = open_store(servers.url)
        try:
            async with Draws(store) as draws:
                await draws.more(20)
                old = servers.leader("c-1")
                await asyncio.to_thread(hand_over, servers, old)
                await draws.more(20)
            assert role_of(old) == "slave"
            await draws.check(servers, lost_max=1 if kind == "sentinel" else 0)
        finally:
            await store.close()


def hand_over(servers: Servers, old: object) -> None:
    """A graceful failover, and wait for its end."""
    if isinstance(servers, ClusterServers):
        with servers.replica_of(servers.leader("c-1")).client() as client:
            client.execute_command("CLUSTER", "FAILOVER")
        until(lambda: servers.leader("c-1") is not old, "another leader")
        return
    assert isinstance(servers, SentinelServers)
    with servers.sentinels[0].client() as client:
        client.execute_command("SENTINEL", "FAILOVER", PRIMARY_NAME)
    until(lambda: role_of(servers.nodes[0]) == "slave", "a demoted primary")
    until(lambda: servers.leader("") is not servers.nodes[0], "sentinels that noticed")


@pytest.mark.slow
@pytest.mark.fault("C09")
@pytest.mark.parametrize("topology_private", ["cluster"], indirect=True)
async def test_slots_without_a_server_hold_their_customers_only(topology_private: ClusterServers) -> None:
    """Primary and replica dead: their customers are told so at once, all others are served; when the servers are back
    so are the customers, with all they had."""
    store = open_store(topology_private.url)
    customers = [f"c-{n}" for n in range(30)]
    try:
        for customer in customers:
            await store.commit(Commit(customer, 0, record(1)), T)
        first = topology_private.leader("c-1")
        hit = {c for c in customers if topology_private.leader(c) is first}
        topology_private.kill(topology_private.replica_of(first))
        topology_private.kill(first)
        await asyncio.sleep(3.0)  # until it is known to be dead
        replies = await asyncio.gather(*(store.read(c, None, 0.5) for c in customers), return_exceptions=True)
        failed = {c for c, reply in zip(customers, replies, strict=True) if isinstance(reply, StoreUnavailable)}
        assert failed == hit
        await asyncio.to_thread(topology_private.heal)
        async with asyncio.timeout(20):
            for customer in customers:
                while True:
                    try:
                        assert (await store.read(customer, None, T)).version == 1
                        break
                    except StoreUnavailable:
                        await asyncio.sleep(0.05)
    finally:
        await store.close()

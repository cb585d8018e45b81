"""The store's server in states that are no network's doing: its name moves, its file is torn, a script holds it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tcp_proxy import TcpProxy

from decision_service.core.errors import StoreError, StoreUnavailable
from decision_service.core.event import DRAWDOWN, EMPTY_LOG, Event
from decision_service.core.limits import PARTITIONS
from decision_service.store import Commit, Store
from decision_service.store import scripts as scripts_module
from decision_service.store.keys import decision_id_of
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

T = 2.0
COMMITS = 60
CUTS = 12


def record(number: int) -> bytes:
    """A packed event that `number` tells from others."""
    return Event(key=number + 1, kind=DRAWDOWN, status=1, occurred_at_ms=1_700_000_000_000, amount_minor=1).pack()


async def settled(store: Store, customer: str) -> Any:
    """A customer, once the store can be reached again."""
    for _ in range(400):
        with contextlib.suppress(StoreUnavailable):
            return await store.read(customer, decision_id_of(customer, "r", PARTITIONS), T)
        await asyncio.sleep(0.02)
    raise AssertionError("the store never came back")


async def failing(call: Callable[[], Awaitable[Any]]) -> None:
    """Make the call until it fails as the store fails."""
    for _ in range(200):
        try:
            await call()
        except StoreError:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never failed")


async def problems(store: Store) -> list[str]:
    """What `check` finds wrong, or why it cannot look."""
    try:
        return list(await store.check())
    except StoreError as error:
        return [error.message]


# --- A13: the name moves ----------------------------------------------------------------------------------------------


class NamedLoop(asyncio.SelectorEventLoop):
    """An event loop with one name that leads where `address` says."""

    address = "127.0.0.1"

    async def getaddrinfo(self, host: Any, port: Any, **more: Any) -> Any:
        return await super().getaddrinfo(self.address if host == "store.test" else host, port, **more)


@pytest.fixture
def named_loop() -> Iterator[NamedLoop]:
    loop = NamedLoop()
    yield loop
    loop.close()


@pytest.mark.fault("A13")
def test_a_name_that_moves_is_followed(valkey_server: ValkeyServer, named_loop: NamedLoop) -> None:
    """The store's name leads to another address and the old one is dead: the next connection asks for the name again;
    while it leads nowhere the store is unavailable."""

    async def go() -> None:
        with TcpProxy(valkey_server.port) as first:
            store = open_store(f"redis://store.test:{first.port}/0")
            await store.commit(Commit("c-1", 0, record(1)), T)
            with TcpProxy(valkey_server.port, first.port, host="127.0.0.2") as second:
                first.stop()
                named_loop.address = "127.0.0.3"  # nobody is there
                await failing(lambda: store.read("c-1", None, 0.05))
                named_loop.address = "127.0.0.2"
                assert (await settled(store, "c-1")).version == 1
                assert await store.commit(Commit("c-1", 1, record(2)), T) == 2
                assert second.accepted > 0
            await store.close()

    named_loop.run_until_complete(go())


# --- B06: a script that cannot be killed ------------------------------------------------------------------------------

WRITES_FOR_EVER = "redis.call('SET', 'x', 1) while true do end"


@pytest.mark.anyio
@pytest.mark.fault("B06")
async def test_a_script_that_cannot_be_killed_costs_nothing_that_was_acknowledged(valkey_private: ValkeyServer) -> None:
    """It has written, so SCRIPT KILL is refused: every call fails in its time, `check` cannot say that all is well, and
    after the server was killed and started what had been acknowledged is there."""
    store = open_store(valkey_private.url)
    try:
        await store.commit(Commit("c-1", 0, record(1)), T)
        with valkey_private.client() as client, valkey_private.client() as killer:
            client.config_set("busy-reply-threshold", 10)
            hog = threading.Thread(target=_hog, args=(client,))
            hog.start()
            until = time.monotonic() + 10
            while True:
                try:
                    killer.script_kill()
                except redis.ResponseError as error:
                    if "UNKILLABLE" in str(error):
                        break
                assert time.monotonic() < until
                await asyncio.sleep(0.02)
            for call in (store.commit(Commit("c-1", 1), 0.2), store.read("c-1", None, 0.2)):
                with pytest.raises(StoreError):
                    await call
            assert await problems(store)
            valkey_private.kill()
            hog.join(10)
        valkey_private.start()
        state = await settled(store, "c-1")
        assert (state.version, state.log) == (1, EMPTY_LOG + record(1))
        assert await store.commit(Commit("c-1", 1, record(2)), T) == 2
    finally:
        await store.close()


def _hog(client: redis.Redis) -> None:
    with contextlib.suppress(redis.RedisError):
        client.eval(WRITES_FOR_EVER, 0)


# --- B14: a torn tail of the append-only file -------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.fault("B14", "C13")
async def test_a_torn_append_only_file_holds_whole_commits_only(tmp_path: Path) -> None:
    """Cut at random bytes the file always loads, and each customer has all of a commit or nothing of it: record,
    decision, version and outbox agree."""
    server = ValkeyServer(tmp_path / "valkey", "--auto-aof-rewrite-percentage", "0").start()
    rng = random.Random(14)
    try:
        store = open_store(server.url)
        for number in range(COMMITS):
            customer = f"c-{number}"
            decision = (decision_id_of(customer, "r", PARTITIONS), b"frame")
            commit = Commit(customer, 0, record(number), decision=decision)
            await store.commit(commit, T)
        await store.close()
        server.stop()
        file = next((tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof"))
        whole = file.read_bytes()
        for _ in range(CUTS):
            file.write_bytes(whole[: rng.randrange(len(whole) // 2, len(whole))])
            server.start()
            with server.client() as client:
                frames, metas, logs, entries = (
                    _count(client, pattern) for pattern in ("ds:*:d:*", "ds:*:m:*", "ds:*:l:*", "ds:*:out")
                )
                assert len(frames) == len(metas) == len(logs)
                assert sum(client.xlen(name) for name in entries) == len(frames)
                for name in logs:
                    assert client.strlen(name) == 2 * 64
                for name in metas:
                    assert client.hget(name, "v") == b"1"
            server.kill()
    finally:
        server.stop()


def _count(client: redis.Redis, pattern: str) -> list[bytes]:
    return list(client.scan_iter(pattern, count=1_000))


# --- B20: the clock of the store's host -------------------------------------------------------------------------------


@pytest.mark.fault("B20")
def test_no_script_asks_the_server_for_the_time() -> None:
    """Every instant is the service's: no script reads a clock, so a step of the server's host changes no decision."""
    scripts = sorted(Path(scripts_module.__file__).parent.glob("*.lua"))
    assert len(scripts) >= 10
    for script in scripts:
        assert re.search(r"call\(\s*['\"]TIME['\"]|os\.(time|clock)", script.read_text("utf-8")) is None, script.name

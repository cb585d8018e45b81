"""A server that does not answer is left alone after a few calls, probed by one command at a time, and used again as
soon as it answers; what is sent again is bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from fault_proxy import FaultProxy
from store_cases import T, record

from decision_service.core.errors import OutcomeUnknown, StoreUnavailable
from decision_service.core.event import EMPTY_LOG
from decision_service.store import Commit, CustomerState, Store
from decision_service.store.lane import HURRIED_S, PATIENCE_S, SILENT_CALLS
from decision_service.store.noticed import READS, WRITES
from decision_service.store.open import open_store
from decision_service.store.resends import RESENDS_KEPT_MAX, RESENDS_SHARE, Resends
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio
BUDGET_S = 0.02
HURRY_S = 0.6 * PATIENCE_S
ROUNDS = 400


class Listening:
    """Remembers what the store noticed of itself."""

    def __init__(self) -> None:
        self.breakers: list[tuple[int, int, bool]] = []
        self.resends: list[bool] = []

    def store_breaker(self, server: int, way: int, is_open: bool) -> None:
        """See `Noticed`."""
        self.breakers.append((server, way, is_open))

    def store_resend(self, granted: bool) -> None:
        """See `Noticed`."""
        self.resends.append(granted)

    def store_history(self, lost: bool, forgotten_beats: int) -> None:
        """See `Noticed`."""


@contextlib.asynccontextmanager
async def opened(url: str, noticed: Listening) -> AsyncIterator[Store]:
    store = open_store(url, noticed=noticed)
    try:
        yield store
    finally:
        await store.close()


async def settled(store: Store) -> None:
    """Return once both ways are open."""
    for _ in range(300):
        with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
            await store.read_fleet(T)
            await store.publish_reload(T)
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the store never came back")


def calls_of(server: ValkeyServer, command: str) -> int:
    """How often the server ran a command."""
    with server.client() as client:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


@pytest.mark.fault("A03", "A14")
async def test_breaker_frozen_server_meets_no_storm_when_it_thaws(valkey_private: ValkeyServer) -> None:
    """Fifty callers ask a frozen server again and again: it gets a few of their commands and one probe at a time;
    thawed, it is asked as usual, and every caller gets its own state."""
    noticed = Listening()
    async with opened(valkey_private.url, noticed) as store:
        for number in range(50):
            await store.commit(Commit(f"c-{number}", 0, record(number)), T)
            await store.read(f"c-{number}", None, T)
        before = calls_of(valkey_private, "evalsha")
        valkey_private.freeze()
        refused = 0

        async def caller(number: int) -> None:
            nonlocal refused
            for _ in range(ROUNDS):
                with contextlib.suppress(StoreUnavailable):
                    await store.read(f"c-{number}", None, BUDGET_S)
                    return
                refused += 1
                await asyncio.sleep(0.001)

        await asyncio.gather(*(caller(number) for number in range(50)))
        assert refused == 50 * ROUNDS
        assert (0, READS, True) in noticed.breakers
        valkey_private.thaw()
        await settled(store)
        assert calls_of(valkey_private, "evalsha") - before < refused / 20
        assert calls_of(valkey_private, "ping") < 20
        states = await asyncio.gather(*(store.read(f"c-{n}", None, T) for n in range(50)))
        assert [state.log for state in states] == [EMPTY_LOG + record(n) for n in range(50)]
        reads = [is_open for _, way, is_open in noticed.breakers if way == READS]
        assert reads == [True, False] * (len(reads) // 2), "one probe at a time: it opens and closes in turn"


@pytest.mark.fault("A03")
async def test_breaker_is_opened_by_callers_in_a_hurry_too(valkey_private: ValkeyServer) -> None:
    """Callers that all give a frozen server less time than any could need are still told apart from one that is merely
    slow for them: nothing at all comes back."""
    noticed = Listening()
    async with opened(valkey_private.url, noticed) as store:
        await store.read("c-1", None, T)
        valkey_private.freeze()
        for _ in range(5_000):
            with contextlib.suppress(StoreUnavailable):
                await store.read("c-1", None, HURRY_S)
            if noticed.breakers:
                break
            await asyncio.sleep(0.001)
        assert noticed.breakers == [(0, READS, True)]
        valkey_private.thaw()
        await settled(store)


@pytest.mark.fault("A03")
async def test_breaker_writes_that_hang_are_refused_before_they_are_sent(valkey_private: ValkeyServer) -> None:
    """Where only writes hang, a few commits are unknown and then none are sent, so that they are known not to have
    happened; reads go on; when writes go through again, so do commits."""
    noticed = Listening()
    async with opened(valkey_private.url, noticed) as store:
        await store.commit(Commit("c-0", 0), T)
        with valkey_private.client() as client:
            client.client_pause(60_000, all=False)
        outcomes: list[type[Exception]] = []
        for number in range(60):
            try:
                await store.commit(Commit(f"c-{number + 1}", 0, record(1)), BUDGET_S)
            except (StoreUnavailable, OutcomeUnknown) as error:
                outcomes.append(type(error))
            if outcomes[-3:] == [StoreUnavailable] * 3:
                break
        assert outcomes[:SILENT_CALLS] == [OutcomeUnknown] * SILENT_CALLS
        assert outcomes[-1] is StoreUnavailable
        await store.read_fleet(T)
        assert [(way, is_open) for _, way, is_open in noticed.breakers] == [(WRITES, True)]
        with valkey_private.client() as client:
            client.client_unpause()
        await settled(store)
        refused = f"c-{len(outcomes)}"
        assert (await store.read("c-0", None, T)).version == 1
        assert await store.read(refused, None, T) == CustomerState(), "what was refused was never sent"
        assert noticed.breakers[-1] == (0, WRITES, False)


async def test_breaker_impatience_is_no_silence(valkey_private: ValkeyServer) -> None:
    """Callers with hardly any time left turn nobody else away at once."""
    noticed = Listening()
    async with opened(valkey_private.url, noticed) as store:
        await store.read("c-1", None, T)
        valkey_private.freeze()
        until = asyncio.get_running_loop().time() + HURRIED_S / 2
        for _ in range(20):
            if asyncio.get_running_loop().time() < until:
                with pytest.raises(StoreUnavailable):
                    await store.read("c-1", None, HURRY_S)
        valkey_private.thaw()
        assert await store.read("c-1", None, T) == CustomerState()
        assert not noticed.breakers


@pytest.mark.fault("A02", "A14")
async def test_breaker_dead_server_is_probed_alone(valkey_private: ValkeyServer) -> None:
    """A thousand calls to a dead server end at once; one connection at a time is tried, and the first that succeeds
    ends it."""
    noticed = Listening()
    async with opened(valkey_private.url, noticed) as store:
        await store.commit(Commit("c-1", 0, record(1)), T)
        valkey_private.kill()
        failed = 0
        for _ in range(200):
            calls = (store.read("c-1", None, T) for _ in range(5))
            failed += sum(isinstance(r, StoreUnavailable) for r in await asyncio.gather(*calls, return_exceptions=True))
            await asyncio.sleep(0.001)
        assert failed == 1_000
        valkey_private.start()
        await settled(store)
        assert (await store.read("c-1", None, T)).log == EMPTY_LOG + record(1)
        assert noticed.breakers[-1][2] is False


@pytest.mark.fault("A07", "A09")
async def test_breaker_black_hole_is_left_and_not_poisoned(proxy: FaultProxy) -> None:
    """A connection that says nothing any more fails calls at once after the first few, is replaced, and works again."""
    noticed = Listening()
    async with opened(proxy.url, noticed) as store:
        await settled(store)
        proxy.lose_requests = proxy.lose_replies = True
        at_once = 0
        for _ in range(50):
            began = asyncio.get_running_loop().time()
            with pytest.raises(StoreUnavailable):
                await store.read("c-1", None, BUDGET_S)
            at_once += asyncio.get_running_loop().time() - began < BUDGET_S / 2
        assert at_once > 20
        accepted = proxy.accepted
        proxy.lose_requests = proxy.lose_replies = False
        await settled(store)
        assert proxy.accepted > accepted, "the silent connection was given up"
        assert await store.read("c-1", None, T) == CustomerState()


@pytest.mark.fault("A08")
async def test_breaker_connection_reset_in_the_middle_of_a_reply(proxy: FaultProxy, store: Store) -> None:
    """A reply that breaks off is nobody's reply: the connection is given up, and the next one tells the whole."""
    records = b"".join(record(n) for n in range(64))
    await store.commit(Commit("c-1", 0, records), T)
    async with opened(proxy.url, Listening()) as proxied:
        await settled(proxied)
        proxy.slice_bytes = 1
        calls = [asyncio.create_task(proxied.read("c-1", None, T)) for _ in range(4)]
        await asyncio.sleep(0.02)
        proxy.cut()
        proxy.slice_bytes = 0
        for reply in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(reply, StoreUnavailable) or reply.log == EMPTY_LOG + records  # type: ignore[union-attr]
        await settled(proxied)
        assert (await proxied.read("c-1", None, T)).log == EMPTY_LOG + records


@pytest.mark.fault("A14")
def test_breaker_resends_are_a_tenth() -> None:
    """What is saved up may be spent at once; after that, one in ten commands may be sent again."""
    noticed = Listening()
    resends = Resends(noticed)
    for _ in range(int(RESENDS_KEPT_MAX)):
        resends.take()
    with pytest.raises(StoreUnavailable):
        resends.take()
    granted = 0
    for _ in range(1_000):
        resends.earned += RESENDS_SHARE
        with contextlib.suppress(StoreUnavailable):
            resends.take()
            granted += 1
    assert 99 <= granted <= 100
    resends.earned += 1e9
    resends.take()
    assert resends.earned == RESENDS_KEPT_MAX - 1
    assert noticed.resends.count(True) == RESENDS_KEPT_MAX + granted + 1

"""Static answers on a real store that is killed, frozen, cut off or loses replies: told once, kept, delivered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from conftest_service import LINE, ask
from static_cases import BUDGET_MS, PARTITIONS, Host, clean, delivered, said, start_host
from tcp_proxy import TcpProxy

from decision_service import static_answers
from decision_service.core.errors import OutcomeUnknown, RequestIdReused, StoreUnavailable
from decision_service.core.event import words_of
from decision_service.journal.memory import MemoryJournal
from decision_service.static_answers import StaticAnswers
from decision_service.store import Store, scripts
from decision_service.store.open import open_store
from valkey_server import ValkeyServer

Test = Callable[[Host], Awaitable[Any]]
COMMIT = scripts.COMMIT.by_sha.decode("latin-1").split("\r\n")[3]  # the digest that every commit names


def on(url: str, folder: Path, test: Test) -> None:
    """Run a test with a service on a store."""

    async def go() -> None:
        store = open_store(url, partitions=PARTITIONS)
        host, end = await start_host(folder, store)
        try:
            await host.customers.put_facility(LINE)
            await test(host)
        finally:
            await end()
            await store.close()

    asyncio.run(go())


@pytest.fixture
def proxy(valkey_private: ValkeyServer) -> Any:
    """A proxy before a server of the test's own."""
    with TcpProxy(valkey_private.port) as proxy:
        yield proxy


@pytest.mark.fault("A02", "A06")
def test_a_killed_store_is_answered_for_and_told_later(
    valkey_private: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While the store is dead a drawdown is held by the fallback; the same request gets the same bytes meanwhile,
    while it is delivered and ever after, and the log then holds it. Operators are told of begin and end, once."""
    monkeypatch.setattr(static_answers, "CALM_S", 0.0)

    async def test(host: Host) -> None:
        before = await host.decide(ask("r-0"))
        valkey_private.kill()
        first = await host.decide(ask("r-1"))
        assert said(first)["rung"] == "static"
        assert said(first)["hold"]["kind"] == "review"
        assert [reason["code"] for reason in said(first)["reasons"]] == ["RC90"]
        assert said(first)["reasons"][0]["source"] == "fallback:static"
        again = await host.decide(ask("r-1"))
        assert (again.body, again.replayed) == (first.body, True)
        with pytest.raises(RequestIdReused):
            await host.decide(ask("r-1", 100_01))
        with pytest.raises(OutcomeUnknown):  # it was decided, and that answer cannot be read
            await host.decide(ask("r-0"))
        valkey_private.start()
        await delivered(host)
        after = await host.decide(ask("r-1"))
        assert (after.body, after.replayed) == (first.body, True)
        assert (await host.decide(ask("r-0"))).body == before.body
        assert said(await host.decide(ask("r-2")))["rung"] == "full"
        assert len(words_of((await host.store.read("c-1", None, 1)).log)) == 1 + 3
        assert host.counted("delivered") == 1

    on(valkey_private.url, tmp_path, test)
    assert [line.getMessage() for line in caplog.records if line.name == "decision_service.service"] == [
        "decisions are answered without the store: store-unavailable",
        "decisions come from the store again, after 1 static answers",
    ]


@pytest.mark.fault("A03")
def test_a_frozen_store_is_answered_for_in_time(valkey_private: ValkeyServer, tmp_path: Path) -> None:
    """A store that stands still is answered for inside the deadline; thawed, it takes what was told."""

    async def test(host: Host) -> None:
        await host.decide(ask("r-0"))
        valkey_private.freeze()
        loop = asyncio.get_running_loop()
        began = loop.time()
        answers = await asyncio.gather(*(host.decide(ask(f"r-{n}", customer_id=f"c-{n}")) for n in range(1, 20)))
        assert loop.time() - began < 10 * BUDGET_MS / 1000
        assert {said(answer)["rung"] for answer in answers} == {"static"}
        valkey_private.thaw()
        await delivered(host)
        again = await asyncio.gather(*(host.decide(ask(f"r-{n}", customer_id=f"c-{n}")) for n in range(1, 20)))
        assert [a.body for a in again] == [a.body for a in answers]

    on(valkey_private.url, tmp_path, test)


@pytest.mark.fault("A05", "D07")
def test_a_lost_reply_is_never_answered_for(proxy: TcpProxy, tmp_path: Path) -> None:
    """A commit that was sent may have happened: no static answer is made up, and a retry gets what was decided."""

    async def test(host: Host) -> None:
        await host.decide(ask("r-0"))
        proxy.hurt(lose_replies_of=COMMIT)
        with pytest.raises(OutcomeUnknown):
            await host.decide(ask("r-1"), 400)
        assert host.journal.pending == 0
        proxy.hurt(black_hole=True)
        proxy.cut()
        with pytest.raises(OutcomeUnknown):
            await host.decide(ask("r-1"), 400)
        assert host.journal.pending == 0
        proxy.heal()
        proxy.cut()
        answer = await patiently(host, ask("r-1"))
        assert said(answer)["rung"] == "full"
        assert len(words_of((await host.store.read("c-1", None, 1)).log)) == 1 + 2

    on(proxy_url(proxy), tmp_path, test)


@pytest.mark.fault("A06", "A07")
def test_a_black_hole_is_answered_for(proxy: TcpProxy, tmp_path: Path) -> None:
    """Connections that swallow everything: reads fail, so the answer is static, and it is delivered once they heal."""

    async def test(host: Host) -> None:
        await host.decide(ask("r-0"))
        proxy.hurt(black_hole=True)
        first = await host.decide(ask("r-1"), 400)
        assert said(first)["rung"] == "static"
        proxy.heal()
        proxy.cut()
        await delivered(host)
        assert (await patiently(host, ask("r-1"))).body == first.body

    on(proxy_url(proxy), tmp_path, test)


def test_one_small_amount_is_paid_and_seen_by_what_comes_next(valkey_private: ValkeyServer, tmp_path: Path) -> None:
    """A clean snapshot gets a small amount paid, once a customer while it is not delivered; then the log reserves it,
    and the first decision of the customer sees it even if it is the one that delivers it."""

    async def test(host: Host) -> None:
        assert said(await host.decide(ask("r-0", 1_001_00)))["decision"] == "hold"
        valkey_private.kill()
        answers = await asyncio.gather(*(host.decide(clean(f"r-{n}", 500_00)) for n in range(1, 5)))
        approved = [said(a)["approved_amount"] for a in answers]
        assert sorted(approved) == [0, 0, 0, 500]
        assert said(await host.decide(clean("r-5", 500_01, customer_id="c-2")))["decision"] == "hold"
        valkey_private.start()
        await reached(host.store)
        assert (await judged(host, 501_00))["decision"] == "hold", "500 are left of the line"
        assert (await judged(host, 500_00))["approved_amount"] == 500
        valkey_private.kill()
        assert said(await host.decide(clean("r-8", 1_00)))["decision"] == "hold", "the snapshot does not show the rest"

    on(valkey_private.url, tmp_path, test)


async def reached(store: Store) -> None:
    """Return once the store answers and takes writes: until a probe has found that, every answer is static."""
    for _ in range(200):
        with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
            await store.read_fleet(1.0)
            await store.publish_reload(1.0)
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the store never came back")


def proxy_url(proxy: TcpProxy) -> str:
    """The store's URL through a proxy."""
    return f"redis://127.0.0.1:{proxy.port}/0"


async def judged(host: Host, amount: int) -> dict[str, Any]:
    """The answer to a drawdown that was judged by rules: asked for under new ids until the machine is quick enough."""
    for n in range(100):
        answer = said(await host.decide(ask(f"judged-{amount}-{n}", amount)))
        if answer["rung"] == "full":
            return answer
    raise AssertionError("no answer from the store")


async def patiently(host: Host, request: Any) -> Any:
    """The answer, asked for until the store is there again."""
    for _ in range(100):
        try:
            answer = await host.decide(request)
        except (OutcomeUnknown, StoreUnavailable):
            pass
        else:
            if said(answer)["rung"] != "static" or answer.replayed:
                return answer
        await asyncio.sleep(0.05)
    raise AssertionError("no answer from the store")


@pytest.mark.parametrize(
    ("write_s", "kept_s"), [(0.001, 0.025), (0.04, 0.04), (0.08, 0.05), (0.2, 0.025), (float("inf"), 0.0)]
)
def test_the_time_that_is_kept_free_for_the_journal(write_s: float, kept_s: float) -> None:
    """What a write takes, between a quarter and a half of 100 ms; a disk that takes longer than all of it, or does not
    work, is no reason to give up the store early."""
    journal = MemoryJournal()
    journal.write_s = write_s
    unused: Any = None
    answers = StaticAnswers(journal, unused, unused, unused, unused, unused, unused)
    assert answers.needs_s(0.1) == pytest.approx(kept_s)

"""Section A, end to end: a real service and a real store with a network between them that fails in every way.

Every test says the same three things. While it lasts, each request is answered by its deadline: with the decision, with
a static answer that approves nothing, or with a 503 that says to ask again. Afterwards the service is back by itself.
And then `judge` finds that nothing was told twice differently, lost, or lent twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from bank import Bank, Said
from network import USER, Network


def judged(network: Network, hurt: Callable[[Bank], Awaitable[None]], **more: int) -> None:
    """Open lines, decide once, run the fault, heal, recover and judge."""

    async def go() -> None:
        async with network.bank(**more) as bank:
            await bank.open_lines()
            assert (await bank.draw(f"{bank.name}before", deadline_ms=2_000)).rung == "full"
            try:
                await hurt(bank)
            finally:
                await asyncio.to_thread(network.heal)
            await bank.recovered(f"{bank.name}after")
            await bank.judge()

    asyncio.run(go())


def rungs(answers: list[Said]) -> set[str]:
    """On which rungs they were given; what was no answer is its code."""
    return {said.rung or said.code for said in answers}


def static_or_not_now(answers: list[Said]) -> None:
    """At least one static answer, and none that looked at the store."""
    assert "static" in rungs(answers)
    assert "full" not in rungs(answers)


@pytest.mark.fault("A02")
def test_a_store_that_dies_under_traffic_is_answered_for(network: Network) -> None:
    """kill -9 of the store under load: static answers until it is back, and few attempts to reach it meanwhile."""

    async def hurt(bank: Bank) -> None:
        load = asyncio.create_task(bank.draws(f"{bank.name}load", 40, deadline_ms=1_000))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(network.server.kill)
        await load
        accepted = network.proxy.accepted
        answers = [await bank.draw(f"{bank.name}dead-{n}", deadline_ms=300) for n in range(60)]
        static_or_not_now(answers)
        assert rungs(answers[-20:]) == {"static"}
        assert network.proxy.accepted - accepted < 40, "a storm of attempts to connect"
        await asyncio.to_thread(network.server.start)
        network.grant()

    judged(network, hurt)


@pytest.mark.fault("A03")
def test_a_frozen_store_is_answered_for_and_asked_after_the_thaw(network: Network) -> None:
    """SIGSTOP: requests in flight and new ones are answered in time; after SIGCONT each has one answer."""

    async def hurt(bank: Bank) -> None:
        load = asyncio.create_task(bank.draws(f"{bank.name}load", 20))
        await asyncio.sleep(0.02)
        network.server.freeze()
        await load
        static_or_not_now(await bank.draws(f"{bank.name}frozen", 20, deadline_ms=300))
        network.server.thaw()

    judged(network, hurt)


@pytest.mark.slow
@pytest.mark.fault("A03", "H04")
def test_a_frozen_service_answers_and_owes_nothing_afterwards(network: Network) -> None:
    """SIGSTOP of the worker itself under load: whoever asked is answered after it, once, and nothing is lent twice."""

    async def hurt(bank: Bank) -> None:
        load = asyncio.create_task(bank.draws(f"{bank.name}load", 20))
        await asyncio.sleep(0.02)
        network.stop_service()
        await asyncio.sleep(0.5)
        network.continue_service()
        await load

    judged(network, hurt)


@pytest.mark.slow
@pytest.mark.fault("A04")
def test_a_slow_store_is_waited_for_no_longer_than_there_is_time(network: Network) -> None:
    """5 ms still leave time for a full answer, 1,000 ms for none."""

    async def hurt(bank: Bank) -> None:
        seen = {}
        for delay_ms in (5, 50, 150, 1_000):
            network.proxy.hurt(delay_ms=delay_ms, jitter_ms=delay_ms / 10)
            answers = [await bank.draw(f"{bank.name}{delay_ms}-{n}", deadline_ms=500) for n in range(4)]
            seen[delay_ms] = rungs(answers)
        assert seen[5] == {"full"}
        assert "full" not in seen[1_000]

    judged(network, hurt)


@pytest.mark.fault("A05")
def test_a_lost_reply_is_asked_for_by_id_within_the_deadline(network: Network) -> None:
    """The reply of one commit never comes: the caller gets the stored decision all the same, and it ran once."""

    async def hurt(bank: Bank) -> None:
        lost = f"{bank.name}lost"
        network.proxy.hurt(lose_replies_of=f'"request_id":"{lost}"')
        said = await bank.draw(lost, deadline_ms=1_000)
        assert said.rung == "full" or said.code == "outcome-unknown"
        assert network.commits(lost) == 1

    judged(network, hurt)


@pytest.mark.fault("A05")
def test_an_outcome_that_stays_unknown_is_never_decided_again(network: Network) -> None:
    """Every reply is lost from the commit on: 503 `outcome-unknown` at the deadline and no static answer, for the
    decision is there; a retry finds it."""

    async def hurt(bank: Bank) -> None:
        lost = f"{bank.name}lost"
        network.proxy.hurt(lose_replies_of=f'"request_id":"{lost}"')
        asking = asyncio.create_task(bank.draw(lost, deadline_ms=700))
        until = time.monotonic() + 5
        while not network.commits(lost):
            assert time.monotonic() < until
            await asyncio.sleep(0.001)
        network.proxy.hurt(lose_replies=True)
        said = await asking
        assert said.code == "outcome-unknown" or said.rung == "full", "a commit that was sent has no static answer"
        static = await bank.again(lost, deadline_ms=100)
        assert static.rung != "static"
        network.proxy.heal()
        network.proxy.cut()
        await bank.recovered(f"{bank.name}healed")
        found = await bank.again(lost)
        assert (found.rung, found.replayed) == ("full", True)

    judged(network, hurt)


@pytest.mark.fault("A06")
def test_requests_that_never_arrive_are_held_or_made_again(network: Network) -> None:
    """Nothing reaches the store: static answers. One commit does not: it was never done, and a retry decides once."""

    async def hurt(bank: Bank) -> None:
        network.proxy.hurt(lose_requests=True)
        static_or_not_now(await bank.draws(f"{bank.name}lost", 5))
        network.proxy.heal()
        network.proxy.cut()
        await bank.recovered(f"{bank.name}between")
        alone = f"{bank.name}alone"
        network.proxy.hurt(lose_requests_of=f'"request_id":"{alone}"')
        said = await bank.draw(alone)
        assert (said.status, said.code) in {(503, "outcome-unknown"), (503, "deadline-exceeded")}
        assert (await bank.position())["reserved"] == sum(
            100 for body in bank.told.values() if b'"decision":"approve"' in body
        )

    judged(network, hurt)


@pytest.mark.fault("A07")
def test_a_black_hole_is_left_without_anybody_closing_it(network: Network) -> None:
    """The network swallows everything and closes nothing: static answers, and new connections by itself."""

    async def hurt(bank: Bank) -> None:
        network.proxy.hurt(black_hole=True)
        for round_ in range(4):
            static_or_not_now(await bank.draws(f"{bank.name}hole-{round_}", 10, deadline_ms=300))

    judged(network, hurt)


@pytest.mark.slow
@pytest.mark.fault("A08")
def test_sliced_replies_are_whole_and_torn_ones_are_none(network: Network) -> None:
    """Replies byte by byte are the same replies; a connection reset inside one answers nothing."""

    async def hurt(bank: Bank) -> None:
        network.proxy.hurt(slice_bytes=1)
        assert rungs(await bank.draws(f"{bank.name}sliced", 5, deadline_ms=3_000)) == {"full"}
        for after in (0, 1, 7, 60):
            network.proxy.hurt(reset_after_bytes=after)
            await bank.draws(f"{bank.name}torn-{after}", 3)
            network.proxy.heal()
        network.proxy.hurt(silent_after_bytes=10)
        await bank.draws(f"{bank.name}silent", 3)

    judged(network, hurt)


@pytest.mark.slow
@pytest.mark.fault("A09")
def test_a_crowd_before_a_frozen_store_is_answered_in_time(network: Network) -> None:
    """Two hundred at once while nothing moves: all are answered, and afterwards it is as if they had not been."""

    async def hurt(bank: Bank) -> None:
        network.server.freeze()
        answers = await bank.draws(f"{bank.name}crowd", 200, deadline_ms=500)
        assert "full" not in rungs(answers)
        network.server.thaw()

    judged(network, hurt)


@pytest.mark.slow
@pytest.mark.fault("A10")
def test_a_store_that_accepts_nobody_is_answered_for(network: Network) -> None:
    """`maxclients` reached and every connection reset: static answers until there is room."""

    async def hurt(bank: Bank) -> None:
        with network.server.client() as client:
            client.config_set("maxclients", 1)
            network.proxy.cut()
            answers = [await bank.draw(f"{bank.name}full-{n}", deadline_ms=300) for n in range(10)]
            static_or_not_now(answers)
            client.config_set("maxclients", 1_000)

    judged(network, hurt)


@pytest.mark.slow
@pytest.mark.fault("A11")
@pytest.mark.parametrize("change", ["rights", "password"])
def test_rights_taken_away_are_told_and_come_back(network: Network, change: str) -> None:
    """The store's user may no longer run scripts, or has another password: static, not ready and why; no crash."""

    async def hurt(bank: Bank) -> None:
        if change == "rights":
            with network.server.client() as client:
                client.execute_command("ACL", "SETUSER", USER, "-evalsha", "-eval")
        else:
            network.grant("another")
            network.proxy.cut()
        static_or_not_now([await bank.draw(f"{bank.name}denied-{n}", deadline_ms=300) for n in range(10)])
        until = time.monotonic() + 20
        while (told := await bank.ready())[0]:
            assert time.monotonic() < until, "ready without rights"
            await asyncio.sleep(0.1)
        assert "not-ready" in told[1]

    judged(network, hurt)


@pytest.mark.slow
@pytest.mark.fault("A14")
def test_a_healed_store_is_not_stormed(network: Network) -> None:
    """Fifty callers all the while: while nothing answers few connections are tried, and once it does each request is
    committed once."""

    async def hurt(bank: Bank) -> None:
        network.proxy.hurt(refuse=True)
        network.proxy.cut()
        accepted, began = network.proxy.accepted, time.monotonic()
        for round_ in range(8):
            static_or_not_now(await bank.draws(f"{bank.name}storm-{round_}", 50, deadline_ms=250))
        took_s = time.monotonic() - began
        assert network.proxy.accepted - accepted < 30 + 10 * took_s, "attempts back off"
        network.proxy.heal()
        await bank.recovered(f"{bank.name}back")
        assert rungs(await bank.draws(f"{bank.name}calm", 50, deadline_ms=3_000)) <= {"full", "too-busy"}
        for n in range(50):
            assert (await bank.again(f"{bank.name}calm-{n}")).rung == "full"
        assert [network.commits(f"{bank.name}calm-{n}") for n in range(50)] == [1] * 50

    judged(network, hurt, customers=50)


@pytest.mark.fault("D02")
def test_one_request_fifty_times_at_once_has_one_answer(network: Network) -> None:
    """Fifty calls: one decision, the same bytes for all, one reservation; with the store away as well."""

    async def hurt(bank: Bank) -> None:
        once = f"{bank.name}once"
        answers = await asyncio.gather(*(bank.draw(once, deadline_ms=5_000) for _ in range(50)))
        assert rungs(answers) <= {"full", "too-busy"}
        assert sum(said.rung == "full" and not said.replayed for said in answers) == 1
        assert (await bank.position())["reserved"] == 200
        network.proxy.hurt(black_hole=True)
        away = f"{bank.name}away"
        static_or_not_now(await asyncio.gather(*(bank.draw(away, deadline_ms=500) for _ in range(50))))

    judged(network, hurt)


async def sent(network: Network, request_id: str) -> None:
    """Wait until the commit of a request is on its way."""
    until = time.monotonic() + 10
    while not network.commits(request_id):
        assert time.monotonic() < until
        await asyncio.sleep(0.001)


@pytest.mark.slow
@pytest.mark.fault("D07", "H01")
@pytest.mark.parametrize(
    "point",
    [
        "reserved",
        "not reserved",
        "static",
        "static in the making",
    ],
)
def test_a_service_killed_at_the_worst_moment_answers_once(network: Network, point: str) -> None:
    """kill -9 of the whole service between the commit and its reply, before it, and around a static answer: after the
    start on the same directory a retry gets the one decision."""

    async def hurt(bank: Bank) -> None:
        victim = f"{bank.name}victim"
        if point.startswith("static"):
            network.proxy.hurt(black_hole=True)
        elif point == "reserved":
            network.proxy.hurt(lose_replies_of=f'"request_id":"{victim}"')
        else:
            network.proxy.hurt(lose_requests_of=f'"request_id":"{victim}"')
        asking = asyncio.create_task(bank.draw(victim, deadline_ms=1_000))
        if point == "static":
            assert (await asking).rung == "static"
        elif point == "static in the making":
            await asyncio.sleep(0.3)
        else:
            await sent(network, victim)
        await asyncio.to_thread(network.service.kill)
        await asyncio.gather(asking, return_exceptions=True)
        network.proxy.heal()
        await asyncio.to_thread(network.service.start)
        again = await bank.again(victim)
        if point == "reserved":
            assert (again.rung, again.replayed) == ("full", True)

    judged(network, hurt)


@pytest.mark.slow
@pytest.mark.fault("D08")
def test_a_caller_that_hung_up_cancels_once(network: Network) -> None:
    """The caller gives up while the store is slow, learns the decision by asking again, and cancels five times."""

    async def hurt(bank: Bank) -> None:
        gone = f"{bank.name}gone"
        network.proxy.hurt(delay_ms=200)
        asking = asyncio.create_task(bank.draw(gone, deadline_ms=3_000))
        await asyncio.sleep(0.3)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        network.proxy.heal()
        said = await bank.again(gone)
        assert said.answer["decision"] == "approve"
        told = [await bank.event(f"{gone}-cancel", "cancelled", said.answer["decision_id"]) for _ in range(5)]
        assert sorted(told) == ["accepted"] + ["duplicate"] * 4
        assert (await bank.position())["reserved"] == 100  # of the draw before
        bank.undone.add(gone)

    judged(network, hurt)

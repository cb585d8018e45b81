"""What became of a drawdown may be told late, twice and in any order: the position is the same, money counts once."""

from __future__ import annotations

import asyncio
import itertools

import orjson
import pytest
from conftest_service import LINE, T0_MS, Clock, Run, Started, ask, decide

from decision_service.core.event import (
    BOOKED,
    CANCELLED,
    DRAWDOWN,
    FAILED,
    REPAYMENT,
    Event,
    drawdown_key,
    event_key,
    facility_key,
)
from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS
from decision_service.core.request import PostedEvent
from decision_service.core.state import CustomerState
from decision_service.store import Commit
from decision_service.store.memory import MemoryStore


def settles(event_id: str, decision_id: str, status: int, after_ms: int = 1) -> PostedEvent:
    """A settlement of a decision."""
    event = Event(event_key(event_id), DRAWDOWN, status, T0_MS + after_ms, settles=drawdown_key(decision_id))
    return PostedEvent(0, event_id, "c-1", decision_id, event, b"{}")


def repays(event_id: str, amount_minor: int, after_ms: int = 1) -> PostedEvent:
    """A repayment on the line."""
    event = Event(
        event_key(event_id), REPAYMENT, BOOKED, T0_MS + after_ms, amount_minor=amount_minor,
        facility=facility_key("f-1"),
    )  # fmt: skip
    return PostedEvent(0, event_id, "c-1", None, event, b"{}", currency="CNY")


async def told(service: Started, event: PostedEvent) -> str:
    """What became of one event that is told alone."""
    return (await service.customers.record_events([event]))[0].status


@pytest.mark.fault("D08")
def test_cancelling_releases_once_however_often_it_is_said(run: Run) -> None:
    """The same word five times, and other words for the same: what was reserved is free, and not more than that."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        answer = await decide(service, ask("r-1", 400_00))
        said = [await told(service, settles("s-1", answer.decision_id, CANCELLED)) for _ in range(5)]
        assert said == ["accepted"] + ["duplicate"] * 4
        await asyncio.gather(*(told(service, settles(f"s-{n}", answer.decision_id, CANCELLED, n)) for n in range(2, 8)))
        position = (await service.customers.facility("f-1")).position
        assert (position.reserved_minor, position.outstanding_minor, position.available_minor) == (0, 0, 1_000_00)
        assert (await decide(service, ask("r-1", 400_00))).body == answer.body

    run(test)


@pytest.mark.fault("D08", "D19")
def test_a_caller_that_gives_up_and_cancels_leaves_nothing_reserved(run: Run, clock: Clock) -> None:
    """The commit goes on though its caller is gone; the caller asks again, learns the id and cancels."""
    gate = asyncio.Event()

    class Slow(MemoryStore):
        async def commit(self, commit: Commit, timeout_s: float) -> int:
            done = await super().commit(commit, timeout_s)
            if commit.decision is not None and not gate.is_set():
                await gate.wait()
            return done

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        asking = asyncio.create_task(decide(service, ask("r-1", 400_00)))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        gate.set()
        answer = await decide(service, ask("r-1", 400_00))
        assert answer.replayed
        for _ in range(2):
            await told(service, settles("s-1", answer.decision_id, CANCELLED))
        assert (await service.customers.facility("f-1")).position.available_minor == 1_000_00

    run(test, Slow(partitions=16))


@pytest.mark.fault("D09", "D11", "D12")
def test_every_order_of_the_same_news_ends_in_the_same_position(run: Run, clock: Clock) -> None:
    """Two draws, one booked (said twice) and partly repaid, one booked and then failed: 720 orders, one position."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        kept, undone = [await decide(service, ask(f"r-{n}", 300_00)) for n in range(2)]
        news = [
            settles("s-1", kept.decision_id, BOOKED, 10),
            settles("s-1", kept.decision_id, BOOKED, 10),
            settles("s-2", kept.decision_id, BOOKED, 11),
            settles("s-3", undone.decision_id, BOOKED, 20),
            settles("s-4", undone.decision_id, FAILED, 30),
            repays("p-1", 100_00, 40),
        ]
        start = await service.store.read("c-1", None, 1)
        positions = set()
        for order in itertools.permutations(news):
            await restore(service, start)
            for event in order:
                assert await told(service, event) in ("accepted", "duplicate")
            positions.add((await service.customers.facility("f-1")).position)
        assert len(positions) == 1
        position = positions.pop()
        assert (position.outstanding_minor, position.reserved_minor) == (200_00, 0)

    run(test)


async def restore(service: Started, start: CustomerState) -> None:
    """The log as it was, under a new version: what no commit can do."""
    now = await service.store.read("c-1", None, 1)
    service.store._customers["c-1"] = now._replace(log=start.log, version=now.version + 1)  # type: ignore[attr-defined]


@pytest.mark.fault("D09")
def test_a_word_that_is_lost_frees_the_reservation_in_the_end(run: Run, clock: Clock) -> None:
    """Nobody ever says what became of a draw: it reserves until the time-out and owes nothing; a late word still
    counts, once."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        answer = await decide(service, ask("r-1", 900_00))
        clock.ms += 24 * HOUR_MS - 1
        assert (await service.customers.facility("f-1")).position.available_minor == 100_00
        clock.ms += 1
        assert (await service.customers.facility("f-1")).position.available_minor == 1_000_00
        for _ in range(3):
            await told(service, settles("s-1", answer.decision_id, BOOKED, 5))
        position = (await service.customers.facility("f-1")).position
        assert (position.outstanding_minor, position.reserved_minor) == (900_00, 0)

    run(test)


@pytest.mark.fault("D10")
def test_an_event_days_late_counts_where_it_belongs_and_changes_no_answer(run: Run, clock: Clock) -> None:
    """A repayment of two days ago is told now: the position has it, and what was answered before stays as it was."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        clock.ms += 3 * DAY_MS
        first = await decide(service, ask("r-1", 900_00))
        await told(service, settles("s-1", first.decision_id, BOOKED, 3 * DAY_MS + MINUTE_MS))
        held = await decide(service, ask("r-2", 300_00))
        assert orjson.loads(held.body)["decision"] == "hold"
        assert await told(service, repays("p-1", 500_00, DAY_MS)) == "accepted"
        assert await told(service, repays("p-1", 500_00, DAY_MS)) == "duplicate"
        assert (await service.customers.facility("f-1")).position.available_minor == 600_00
        assert [(await decide(service, ask(f"r-{n}", a))).body for n, a in ((1, 900_00), (2, 300_00))] == [
            first.body, held.body,
        ]  # fmt: skip
        assert orjson.loads((await decide(service, ask("r-3", 300_00))).body)["decision"] == "approve"

    run(test)

"""Afterwards: decisions are handed on after their answers, and nothing that happens there reaches an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from conftest_service import LINE, Run, Started, ask, decide

from decision_service import afterwards as module
from decision_service.afterwards import BATCH_MAX, QUEUE_MAX, Afterwards, Done
from decision_service.telemetry import Meters
from decision_service.telemetry.exposition import render


class Kept:
    """A consumer that keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[list[Done]] = []
        self.came = asyncio.Event()

    async def take(self, batch: Sequence[Done]) -> None:
        """Keep it."""
        await asyncio.sleep(0)
        self.batches.append(list(batch))
        self.came.set()

    @property
    def ids(self) -> list[str]:
        """The ids of all decisions, in order."""
        return [done.decision.decision_id for batch in self.batches for done in batch]


async def broken(batch: Sequence[Done]) -> None:
    """Fails in one way."""
    raise ValueError(f"cannot take {len(batch)}")


async def waits_for_what_is_cancelled(batch: Sequence[Done]) -> None:
    """Waits for something that somebody else ends."""
    other = asyncio.get_running_loop().create_future()
    other.cancel()
    await other


async def hangs(batch: Sequence[Done]) -> None:
    """Waits for ever."""
    await asyncio.Event().wait()


def page(meters: Meters) -> list[str]:
    """The lines of the metrics page about what is done afterwards."""
    return [line.removeprefix("decision_service_") for line in render(meters).decode().splitlines() if "_after" in line]


async def some_done(service: Started, number: int) -> list[Done]:
    """Decisions that were made."""
    kept: list[Done] = []

    async def keep(batch: Sequence[Done]) -> None:
        kept.extend(batch)

    await service.customers.put_facility(LINE)
    service.decisions._afterwards.register("drift", keep)
    for i in range(number):
        await decide(service, ask(f"d-{i}"))
    await service.decisions._afterwards.flush()
    return kept


def with_queue(run: Run, tmp_path: Path, test: Callable[[Afterwards, Meters, Done], Awaitable[None]]) -> None:
    """Run a test with a queue and a decision to put into it."""
    (tmp_path / "own").mkdir()
    meters = Meters(tmp_path / "own")

    async def go(service: Started) -> None:
        done = (await some_done(service, 1))[0]
        queue = Afterwards(meters)
        try:
            await test(queue, meters, done)
        finally:
            await queue.close()

    run(go)
    meters.close()


def test_a_committed_decision_is_handed_on_with_its_numbers_and_policy(run: Run) -> None:
    """What a consumer gets is what was decided, once; a replay and a preview hand on nothing."""

    async def test(service: Started) -> None:
        kept = Kept()
        await service.customers.put_facility(LINE)
        service.decisions._afterwards.register("shadows", kept.take)
        answer = await decide(service, ask("a"))
        await decide(service, ask("a"))
        await service.decisions.preview(ask("b"), 0.0)
        await service.decisions._afterwards.flush()
        assert kept.ids == [answer.decision_id]
        done = kept.batches[0][0]
        scene = done.policy.scenes[done.scene]
        assert done.policy is service.active.current
        assert len(done.numbers) == 8 * len(scene.number_names)

    run(test)


def test_consumers_run_after_the_caller_has_gone_on(run: Run, tmp_path: Path) -> None:
    """Putting hands nothing on by itself: the consumers' turn comes after whatever runs now and in the next turns."""

    async def test(queue: Afterwards, meters: Meters, done: Done) -> None:
        kept = Kept()
        queue.register("shadows", kept.take)
        queue.start()
        queue.put(done)
        for _ in range(10):
            await asyncio.sleep(0)
            assert not kept.batches
        await kept.came.wait()
        assert kept.ids == [done.decision.decision_id]

    with_queue(run, tmp_path, test)


def test_without_consumers_nothing_is_kept(run: Run, tmp_path: Path) -> None:
    """A queue that nobody listens to stays empty."""

    async def test(queue: Afterwards, meters: Meters, done: Done) -> None:
        queue.put(done)
        kept = Kept()
        queue.register("drift", kept.take)
        await queue.flush()
        assert not kept.batches

    with_queue(run, tmp_path, test)


def test_batches_are_bounded_and_keep_the_order(run: Run, tmp_path: Path) -> None:
    """Many decisions come in batches, oldest first, each consumer getting all of them."""

    async def test(queue: Afterwards, meters: Meters, done: Done) -> None:
        one, other = Kept(), Kept()
        queue.register("shadows", one.take)
        queue.register("drift", other.take)
        for i in range(2 * BATCH_MAX + 3):
            queue.put(done._replace(scene=str(i)))
        await queue.flush()
        for kept in (one, other):
            assert [len(batch) for batch in kept.batches] == [BATCH_MAX, BATCH_MAX, 3]
            assert [int(done.scene) for batch in kept.batches for done in batch] == list(range(2 * BATCH_MAX + 3))

    with_queue(run, tmp_path, test)


def test_an_overflow_drops_the_newest_and_counts_it(run: Run, tmp_path: Path) -> None:
    """A full queue takes nothing more, and says how much it did not take."""

    async def test(queue: Afterwards, meters: Meters, done: Done) -> None:
        kept = Kept()
        queue.register("drift", kept.take)
        for i in range(QUEUE_MAX + 5):
            queue.put(done._replace(scene=str(i)))
        await queue.flush()
        assert [int(done.scene) for batch in kept.batches for done in batch] == list(range(QUEUE_MAX))
        assert 'afterwards_total{consumer="drift",result="dropped"} 5.0' in page(meters)
        assert f'afterwards_total{{consumer="drift",result="taken"}} {QUEUE_MAX}.0' in page(meters)

    with_queue(run, tmp_path, test)


def test_a_consumer_that_fails_is_told_once_a_kind_and_harms_nobody(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The other consumer gets everything, the failures are counted, and the log has each kind of error once."""

    async def test(queue: Afterwards, meters: Meters, done: Done) -> None:
        kept = Kept()
        queue.register("shadows", broken)
        queue.register("drift", kept.take)
        for _ in range(3):
            queue.put(done)
            await queue.flush()
        assert len(kept.ids) == 3
        assert 'afterwards_total{consumer="shadows",result="failed"} 3.0' in page(meters)

    with caplog.at_level(logging.ERROR, "decision_service.afterwards"):
        with_queue(run, tmp_path, test)
    assert [record.getMessage() for record in caplog.records] == [
        "shadows failed after decisions were made; told once for ValueError"
    ]


def test_a_consumer_whose_work_is_cancelled_does_not_end_the_handing_on(run: Run, tmp_path: Path) -> None:
    """It is one that failed: the other consumer gets this batch and those that follow."""

    async def test(queue: Afterwards, meters: Meters, done: Done) -> None:
        kept = Kept()
        queue.register("shadows", waits_for_what_is_cancelled)
        queue.register("drift", kept.take)
        queue.start()
        for i in range(3):
            queue.put(done)
            async with asyncio.timeout(5):
                await kept.came.wait()
            kept.came.clear()
            assert len(kept.ids) == i + 1
        await queue.flush()
        assert 'afterwards_total{consumer="shadows",result="failed"} 3.0' in page(meters)

    with_queue(run, tmp_path, test)


def test_a_consumer_that_hangs_keeps_nothing_from_another(run: Run, tmp_path: Path) -> None:
    """The other one gets every batch while the first is still waited for."""

    async def test(queue: Afterwards, meters: Meters, done: Done) -> None:
        kept = Kept()
        queue.register("shadows", hangs)
        queue.register("drift", kept.take)
        queue.start()
        for i in range(2 * BATCH_MAX):
            queue.put(done._replace(scene=str(i)))
        async with asyncio.timeout(module.TAKE_S / 2):
            while len(kept.ids) < 2 * BATCH_MAX:
                await kept.came.wait()
                kept.came.clear()
        assert f'afterwards_total{{consumer="drift",result="taken"}} {2 * BATCH_MAX}.0' in page(meters)
        assert 'afterwards_total{consumer="shadows",result="failed"} 0.0' in page(meters)

    with_queue(run, tmp_path, test)


def test_answers_come_while_a_consumer_fails_or_hangs(run: Run) -> None:
    """Decisions are made and answered as if there were no consumers."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        queue = service.decisions._afterwards
        queue.register("shadows", hangs)
        queue.register("drift", broken)
        queue.start()
        answers = [await decide(service, ask(f"r-{i}", 1_00)) for i in range(5)]
        await asyncio.sleep(2 * module.ROUND_S)
        answers.append(await decide(service, ask("last", 1_00)))
        assert {answer.outcome for answer in answers} == {"approve"}
        queue._queues["shadows"].task.cancel()  # type: ignore[union-attr]  # not to wait for the one that hangs

    run(test)


def test_the_end_of_a_worker_empties_the_queue(run: Run, tmp_path: Path) -> None:
    """Closing hands on what is in the queue."""

    async def test(queue: Afterwards, meters: Meters, done: Done) -> None:
        kept = Kept()
        queue.register("drift", kept.take)
        queue.start()
        for _ in range(BATCH_MAX + 1):
            queue.put(done)
        await queue.close()
        assert len(kept.ids) == BATCH_MAX + 1
        queue.put(done)
        assert 'afterwards_total{consumer="drift",result="dropped"} 0.0' in page(meters)

    with_queue(run, tmp_path, test)


def test_the_end_of_a_worker_waits_for_a_hanging_consumer_no_longer_than_allowed(run: Run, tmp_path: Path) -> None:
    """What is left after CLOSE_S is dropped and counted, as is what the consumer had in hand."""

    async def test(queue: Afterwards, meters: Meters, done: Done) -> None:
        queue.register("drift", hangs)
        queue.start()
        for _ in range(BATCH_MAX + 7):
            queue.put(done)
        async with asyncio.timeout(module.CLOSE_S + 5):
            await queue.close()
        assert 'afterwards_total{consumer="drift",result="dropped"} 7.0' in page(meters)
        assert f'afterwards_total{{consumer="drift",result="failed"}} {BATCH_MAX}.0' in page(meters)

    with_queue(run, tmp_path, test)

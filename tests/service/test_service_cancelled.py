"""A caller that hangs up at any moment leaves a whole decision or none, and the next one finds the way free."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from conftest_service import LINE, Run, Started, ask, decide

from decision_service.core.event import words_of
from decision_service.core.state import CustomerState
from decision_service.store import Commit
from decision_service.store.memory import MemoryStore

STEPS = 24  # turns of the event loop that a decision takes, and more


class ManyAwaits(MemoryStore):
    """Gives way before and after everything, as a server does."""

    async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
        await asyncio.sleep(0)
        state = await super().read(customer_id, decision_id, timeout_s)
        await asyncio.sleep(0)
        return state

    async def commit(self, commit: Commit, timeout_s: float) -> int:
        await asyncio.sleep(0)
        version = await super().commit(commit, timeout_s)
        for _ in range(3):
            await asyncio.sleep(0)
        return version


@pytest.mark.fault("D19")
def test_a_call_cancelled_at_any_await_is_whole_or_absent(run: Run) -> None:
    """Cancelled after each number of steps: log and stored decision agree, and a retry gets that very decision."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        for step in range(STEPS):
            request = ask(f"r-{step}", 1_00)
            before = len(words_of((await service.store.read("c-1", None, 1)).log))
            call = asyncio.create_task(decide(service, request))
            for _ in range(step):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            again = await decide(service, request)
            assert again.rung == "full"
            state = await service.store.read("c-1", again.decision_id, 1)
            assert len(words_of(state.log)) == before + 1
            assert state.decision is not None
            assert again.body in state.decision
        assert (await service.customers.facility("f-1")).position.reserved_minor == STEPS * 1_00

    run(test, ManyAwaits(partitions=16))


@pytest.mark.fault("D19")
def test_waiting_callers_are_served_whoever_before_them_hangs_up(run: Run) -> None:
    """Of thirty callers for one customer every third hangs up at another moment: the others get their answers."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        calls = [asyncio.create_task(decide(service, ask(f"r-{n}", 1_00))) for n in range(30)]
        for n in range(0, 30, 3):
            for _ in range(n):
                await asyncio.sleep(0)
            calls[n].cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        kept = [a for n, a in enumerate(answers) if n % 3]
        assert [orjson.loads(a.body)["decision"] for a in kept] == ["approve"] * 20  # type: ignore[union-attr]
        for n in range(30):
            await decide(service, ask(f"r-{n}", 1_00))
        assert (await service.customers.facility("f-1")).position.reserved_minor == 30_00

    run(test, ManyAwaits(partitions=16))

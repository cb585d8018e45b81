"""Clocks that jump: deadlines are measured on one that cannot, and a wall clock that went back lends nothing twice."""

from __future__ import annotations

import orjson
import pytest
from conftest_service import LINE, Clock, Run, Started, ask, decide

from decision_service.core.errors import Conflict
from decision_service.core.event import words_of
from decision_service.core.limits import DAY_MS, HOUR_MS, MINUTE_MS
from decision_service.core.state import CustomerState
from decision_service.store.memory import MemoryStore


@pytest.mark.fault("D14")
@pytest.mark.parametrize("back_ms", [1, MINUTE_MS, HOUR_MS, DAY_MS, 400 * DAY_MS])
def test_a_clock_that_went_back_lends_nothing_twice(run: Run, clock: Clock, back_ms: int) -> None:
    """What was approved "later" still reserves, and a repeat gets the stored answer."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        first = await decide(service, ask("r-1", 900_00))
        clock.ms -= back_ms
        assert orjson.loads((await decide(service, ask("r-2", 900_00))).body)["decision"] == "hold"
        assert (await decide(service, ask("r-1", 900_00))).body == first.body
        clock.ms += back_ms
        assert orjson.loads((await decide(service, ask("r-3", 900_00))).body)["decision"] == "hold"
        assert (await service.customers.facility("f-1")).position.reserved_minor == 900_00

    run(test)


@pytest.mark.fault("D14")
@pytest.mark.parametrize("step_ms", [-DAY_MS, HOUR_MS])
def test_a_clock_that_jumps_inside_a_request_moves_no_deadline(run: Run, clock: Clock, step_ms: int) -> None:
    """The wall clock steps while the customer is read; the decision is made in its time all the same."""

    class Steps(MemoryStore):
        async def read(self, customer_id: str, decision_id: str | None, timeout_s: float) -> CustomerState:
            if decision_id is not None:
                clock.ms += step_ms
            return await super().read(customer_id, decision_id, timeout_s)

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        answer = orjson.loads((await decide(service, ask("r-1"))).body)
        assert (answer["decision"], answer["rung"]) == ("approve", "full")

    run(test, Steps(partitions=16))


@pytest.mark.fault("D17", "B18")
def test_a_request_whose_answer_is_no_longer_kept_is_old_and_not_decided_again(run: Run, clock: Clock) -> None:
    """A month later the stored answer is told; if it is gone, the log still knows the drawdown: 409, nothing new."""

    class Forgets(MemoryStore):
        def forget(self) -> None:
            self._decisions.clear()

    store = Forgets(partitions=16)

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        first = await decide(service, ask("r-1", 900_00))
        clock.ms += 31 * DAY_MS
        assert (await decide(service, ask("r-1", 900_00))).body == first.body
        store.forget()
        records = len(words_of((await store.read("c-1", None, 1)).log))
        for _ in range(3):
            with pytest.raises(Conflict, match="decided long ago"):
                await decide(service, ask("r-1", 900_00))
        assert len(words_of((await store.read("c-1", None, 1)).log)) == records
        assert orjson.loads((await decide(service, ask("r-2", 100_00))).body)["decision"] == "approve"

    run(test, store)


@pytest.mark.fault("D15")
@pytest.mark.parametrize(
    "midnight_ms",
    [
        pytest.param(1_798_761_600_000, id="year in UTC"),
        pytest.param(1_798_732_800_000, id="year in the zone"),
        pytest.param(1_835_366_400_000, id="into a leap day"),
        pytest.param(1_835_452_800_000, id="out of a leap day"),
        pytest.param(1_483_228_800_000, id="leap second"),
    ],
)
def test_a_rollover_neither_loses_nor_doubles_a_draw(run: Run, clock: Clock, midnight_ms: int) -> None:
    """Draws a millisecond before, at and after the boundary are each there once in the window that follows them."""

    async def test(service: Started) -> None:
        await service.customers.put_facility(LINE)
        seen = []
        for n, at_ms in enumerate((midnight_ms - 1, midnight_ms, midnight_ms + 1)):
            clock.ms = at_ms
            answer = await decide(service, ask(f"r-{n}", 100_00))
            told = orjson.loads(await service.decisions.decision(answer.decision_id))
            seen.append(told["trace"]["features"]["vel_prior_10m"]["value"])
        assert seen == [0, 1, 2]
        assert (await service.customers.facility("f-1")).position.reserved_minor == 300_00

    run(test)

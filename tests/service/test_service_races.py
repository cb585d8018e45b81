"""Draws, limit changes, bookings, cancellations and repayments in any order and at once, against a dict.

`Line` is the model: what is approved and not settled reserves, what is booked and not repaid is owed. One thing at a
time the service must answer exactly as the model does. Several at once must end as *some* order of them would (serial
equivalence); which one is the service's affair.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import orjson
import pytest
from conftest_service import LINE, Clock, Run, Started, ask, decide
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from decision_service.core.event import (
    BOOKED,
    CANCELLED,
    DRAWDOWN,
    REPAYMENT,
    Event,
    drawdown_key,
    event_key,
    facility_key,
)
from decision_service.core.request import PostedEvent
from decision_service.store.keys import decision_id_of

T = TypeVar("T")
PARTITIONS = 16  # of the store of `run`


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that is done to a line. `name` is new with each deed; `much` is an amount or a limit."""

    what: str  # draw, limit, repay, book, cancel
    name: str
    much: int = 0
    order: int = 0  # of limits: the later snapshot holds, whichever comes first
    draw: str = ""  # which draw is booked or cancelled


@dataclass
class Line:
    """The model: one credit line, by hand. Whole yuan."""

    limit: int = 1_000
    order: int = 0
    repaid: int = 0
    draws: dict[str, tuple[str, int]] = field(default_factory=dict)  # name -> status, amount

    def sum_of(self, status: str) -> int:
        return sum(amount for is_, amount in self.draws.values() if is_ == status)

    @property
    def owed(self) -> int:
        return max(0, self.sum_of("booked") - self.repaid)

    @property
    def position(self) -> tuple[int, int, int]:
        return self.limit, self.owed, self.sum_of("approved")

    def copy(self) -> Line:
        return Line(self.limit, self.order, self.repaid, dict(self.draws))

    def do(self, deed: Deed) -> str:
        """One deed; what a draw is answered, nothing for the others."""
        if deed.what == "draw":
            enough = deed.much <= self.limit - self.owed - self.sum_of("approved")
            self.draws[deed.name] = ("approved" if enough else "held", deed.much)
            return "approve" if enough else "hold"
        if deed.what == "limit" and deed.order > self.order:
            self.limit, self.order = deed.much, deed.order
        elif deed.what == "repay":
            self.repaid += deed.much
        elif deed.draw:
            self.draws[deed.draw] = ("booked" if deed.what == "book" else "cancelled", self.draws[deed.draw][1])
        return ""


class Live:
    """A service that runs in a thread of its own, for tests that are no coroutines."""

    def __init__(self, run: Run, clock: Clock) -> None:
        self.clock = clock
        self._ready = threading.Event()
        self._thread = threading.Thread(target=run, args=(self._serve,))
        self._thread.start()
        assert self._ready.wait(60)

    async def _serve(self, service: Started) -> None:
        self.service = service
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._ready.set()
        await self._end.wait()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of a coroutine of the service."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(60)


@pytest.fixture
def live(run: Run, clock: Clock) -> Iterator[Live]:
    made = Live(run, clock)
    yield made
    made.close()


def machine_of(live: Live, customers: Iterator[int]) -> Callable[[], RuleBasedStateMachine]:
    """State machines, each on a customer of its own."""
    amounts = st.integers(1, 1_200)

    class Lending(RuleBasedStateMachine):
        @initialize()
        def open(self) -> None:
            n = next(customers)
            self.customer, self.facility = f"c-{n}", f"f-{n}"
            self.names = itertools.count()
            self.model = Line()
            self.bodies: dict[str, bytes] = {}
            line = replace(LINE, customer_id=self.customer, facility_id=self.facility)
            self.line = replace(line, limit_minor=1_000_00)
            live.do(live.service.customers.put_facility(self.line))

        def deed(self, what: str, much: int, which: int = 0) -> Deed:
            name = f"{self.customer}-{next(self.names)}"
            draws = list(self.model.draws)
            draw = draws[which % len(draws)] if draws and what in ("book", "cancel") else ""
            return Deed(what, name, much, int(name.rpartition("-")[2]) + 1, draw)

        async def service_does(self, deed: Deed) -> str:
            """The same to the service."""
            if deed.what == "draw":
                return await self.draws(deed.name, deed.much)
            if deed.what == "limit":
                as_of_ms = LINE.as_of_ms + deed.order
                await live.service.customers.put_facility(
                    replace(self.line, limit_minor=deed.much * 100, as_of_ms=as_of_ms)
                )
            elif deed.what == "repay":
                repaid = Event(
                    event_key(deed.name), REPAYMENT, BOOKED, live.clock(), amount_minor=deed.much * 100,
                    facility=facility_key(self.facility),
                )  # fmt: skip
                await self.tell(PostedEvent(0, deed.name, self.customer, None, repaid, b"{}", currency="CNY"))
            elif deed.draw:
                decision_id = decision_id_of(self.customer, deed.draw, PARTITIONS)
                status = BOOKED if deed.what == "book" else CANCELLED
                settled = Event(event_key(deed.name), DRAWDOWN, status, live.clock(), settles=drawdown_key(decision_id))
                await self.tell(PostedEvent(0, deed.name, self.customer, decision_id, settled, b"{}"))
            return ""

        async def draws(self, name: str, much: int) -> str:
            request = ask(name, much * 100, customer_id=self.customer, facility_id=self.facility)
            answer = await decide(live.service, request)
            assert self.bodies.setdefault(name, answer.body) == answer.body
            return str(orjson.loads(answer.body)["decision"])

        async def tell(self, event: PostedEvent) -> None:
            assert (await live.service.customers.record_events([event]))[0].status == "accepted"

        def does(self, deeds: list[Deed]) -> None:
            """All at once, and the model in an order that explains what came of it."""
            live.clock.ms += 1_000

            async def together() -> list[str]:
                return await asyncio.gather(*(self.service_does(deed) for deed in deeds))

            answers = dict(zip((deed.name for deed in deeds), live.do(together()), strict=True))
            position = self.position()
            for order in itertools.permutations(deeds):
                model = self.model.copy()
                if all(model.do(deed) == answers[deed.name] for deed in order) and model.position == position:
                    self.model = model
                    return
            raise AssertionError(f"no order of {deeds} gives {answers} and {position} from {self.model}")

        def position(self) -> tuple[int, int, int]:
            view = live.do(live.service.customers.facility(self.facility))
            told = view.position
            return view.facility.limit_minor // 100, told.outstanding_minor // 100, told.reserved_minor // 100

        @rule(much=amounts)
        def draw(self, much: int) -> None:
            self.does([self.deed("draw", much)])

        @rule(much=st.integers(0, 2_000))
        def limit(self, much: int) -> None:
            self.does([self.deed("limit", much)])

        @rule(much=amounts)
        def repay(self, much: int) -> None:
            self.does([self.deed("repay", much)])

        @precondition(lambda self: self.model.draws)
        @rule(what=st.sampled_from(["book", "cancel"]), which=st.integers(0, 20))
        def settle(self, what: str, which: int) -> None:
            self.does([self.deed(what, 0, which)])

        @precondition(lambda self: self.model.draws)
        @rule(which=st.integers(0, 20))
        def ask_again(self, which: int) -> None:
            name = list(self.model.draws)[which % len(self.model.draws)]
            much = self.model.draws[name][1]
            live.do(self.draws(name, much))

        @rule(
            deeds=st.lists(
                st.tuples(st.sampled_from(["draw", "draw", "limit", "repay", "book", "cancel"]), amounts),
                min_size=2, max_size=4,
            )
        )  # fmt: skip
        def at_once(self, deeds: list[tuple[str, int]]) -> None:
            self.does([self.deed(what, much, much) for what, much in deeds])

        @invariant()
        def the_same(self) -> None:
            assert self.position() == self.model.position

    return Lending


@pytest.mark.fault("D06", "D05")
@pytest.mark.parametrize("examples", [40, pytest.param(1_000, marks=pytest.mark.slow)])
def test_whatever_is_done_at_once_is_some_order_of_it(live: Live, examples: int) -> None:
    """Random sequences of single deeds and of up to four at once; position and answers are the model's after each."""
    run_state_machine_as_test(
        machine_of(live, itertools.count()),
        settings=settings(
            max_examples=examples, stateful_step_count=20, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip

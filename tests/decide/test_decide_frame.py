"""The decision log's frame, and the turns of one customer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from decision_service.core.decision import Decision, Score, Trace
from decision_service.core.errors import DeadlineExceeded
from decision_service.core.request import DecisionRequest
from decision_service.decision_log import CRC_BYTES, MAGIC_WITHOUT_CRC, answer_in, decode, encode, fingerprint_of
from decision_service.turns import Turns

REQUEST = DecisionRequest(
    "r-1", "c-1", "f-1", 100, "CNY", None, None, None, None, None, None, None, None, b"f" * 16, b'{"request_id":"r-1"}'
)
TRACE = Trace(b"\0" * 16, ("c-1", None), b"\1\0\2", ("m:C/0.5",), 41, 7)
DECISION = Decision(
    "d0", "r-1", "c-1", "f-1", "approve", 100, "CNY", None, None, None, None, (), (), (), (),
    {"behaviour": Score(None, None, None, "1", "all features null")}, "p", "label", "no_score", (), 0,
)  # fmt: skip


def test_a_frame_gives_back_every_section() -> None:
    """What is encoded is decoded, and the two short cuts read the same bytes."""
    frame = encode(DECISION, TRACE, REQUEST, b'{"decision":"approve"}', {"features": 12})
    taken = decode(frame)
    assert (taken.answer, taken.request, taken.numbers, taken.verdicts) == (
        b'{"decision":"approve"}', REQUEST.body, TRACE.numbers, TRACE.verdicts,
    )  # fmt: skip
    assert taken.rest["scorecards"] == {"behaviour": ["1", "all features null", "champion"]}
    assert (taken.rest["seq"], taken.rest["strings"], taken.rest["cells"]) == (41, ["c-1", None], ["m:C/0.5"])
    assert answer_in(frame) == taken.answer
    assert fingerprint_of(frame) == REQUEST.fingerprint


@pytest.mark.parametrize("damage", [lambda f: f[:-1], lambda f: b"X" + f[1:], lambda f: f[:10], lambda f: f + b"\0"])
def test_a_torn_frame_is_refused(damage: object) -> None:
    """Cut, prolonged or foreign bytes are an error and never half an answer."""
    frame = encode(DECISION, TRACE, REQUEST, b"{}", {})
    with pytest.raises(ValueError, match="frame"):
        decode(damage(frame))  # type: ignore[operator]


@pytest.mark.fault("B15")
def test_a_frame_of_which_one_byte_changed_is_refused() -> None:
    """Whichever byte of a stored frame changes, that is noticed."""
    frame = encode(DECISION, TRACE, REQUEST, b'{"approved_amount":100}', {})
    for at in range(len(frame)):
        changed = bytearray(frame)
        changed[at] ^= 0x01
        with pytest.raises(ValueError, match="frame"):
            decode(bytes(changed))


def test_a_frame_from_before_there_was_a_checksum_is_read() -> None:
    """What older workers wrote, and write beside newer ones, stays readable."""
    frame = encode(DECISION, TRACE, REQUEST, b"{}", {})
    older = MAGIC_WITHOUT_CRC + frame[4:-CRC_BYTES]
    assert decode(older) == decode(frame)
    assert answer_in(older) == b"{}"


@asynccontextmanager
async def turn(turns: Turns, customer_id: str, deadline: float) -> AsyncIterator[None]:
    """A turn as the service takes it."""
    if not turns.take(customer_id):
        await turns.wait(customer_id, deadline)
    try:
        yield
    finally:
        turns.leave(customer_id)


def test_requests_of_one_customer_are_served_one_after_the_other_in_order() -> None:
    """Three turns of one customer never overlap and keep their order; another customer's goes on meanwhile."""

    async def run() -> list[str]:
        turns, told = Turns(), []

        async def serve(customer: str, name: str) -> None:
            async with turn(turns, customer, asyncio.get_running_loop().time() + 5):
                told.append(f"{name} in")
                await asyncio.sleep(0.01)
                told.append(f"{name} out")

        await asyncio.gather(serve("c-1", "a"), serve("c-1", "b"), serve("c-2", "x"), serve("c-1", "c"))
        return [line for line in told if not line.startswith("x")]

    assert asyncio.run(run()) == ["a in", "a out", "b in", "b out", "c in", "c out"]


def test_a_turn_that_does_not_come_by_the_deadline_is_given_up_and_blocks_nobody() -> None:
    """The one who waited too long gets DeadlineExceeded, the next still gets a turn, and nothing is kept."""

    async def run() -> list[str]:
        turns, told = Turns(), []
        now = asyncio.get_running_loop().time()

        async def serve(name: str, wait_s: float) -> None:
            try:
                async with turn(turns, "c-1", now + wait_s):
                    await asyncio.sleep(0.05)
                    told.append(name)
            except DeadlineExceeded:
                told.append(f"{name} late")

        await asyncio.gather(serve("a", 1), serve("b", 0.01), serve("c", 1))
        assert not turns._waiting
        return told

    assert asyncio.run(run()) == ["b late", "a", "c"]


def test_a_cancelled_waiter_loses_its_place_and_not_the_turn_of_the_next() -> None:
    """Cancelling a request that waits passes the turn on."""

    async def run() -> bool:
        turns = Turns()
        until = asyncio.get_running_loop().time() + 5
        entered = asyncio.Event()

        async def serve(hold_s: float) -> None:
            async with turn(turns, "c-1", until):
                entered.set()
                await asyncio.sleep(hold_s)

        first = asyncio.create_task(serve(0.03))
        await entered.wait()
        second = asyncio.create_task(serve(0))
        third = asyncio.create_task(serve(0))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(first, second, third, return_exceptions=True)
        return second.cancelled() and not third.cancelled() and not turns._waiting

    assert asyncio.run(run())

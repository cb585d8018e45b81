"""Turns of one customer: none is lost, whoever gives up at whatever moment."""

from __future__ import annotations

import asyncio

import pytest

from decision_service.core.errors import DeadlineExceeded
from decision_service.turns import Turns


@pytest.mark.fault("D19")
def test_a_turn_that_comes_as_its_caller_gives_up_is_passed_on() -> None:
    """The turn and the cancellation arrive in the same moment: the one behind is served, and the next after them."""

    async def go() -> None:
        turns = Turns()
        deadline = asyncio.get_running_loop().time() + 30
        assert turns.take("c-1")
        gone = asyncio.create_task(turns.wait("c-1", deadline))
        behind = asyncio.create_task(turns.wait("c-1", deadline))
        await asyncio.sleep(0)
        turns.leave("c-1")
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        async with asyncio.timeout(5):
            await behind
        turns.leave("c-1")
        assert turns.take("c-1")

    asyncio.run(go())


@pytest.mark.fault("D16")
def test_a_turn_is_not_waited_for_beyond_the_deadline() -> None:
    """Whoever waits too long is told so, and is no longer in the way."""

    async def go() -> None:
        turns = Turns()
        assert turns.take("c-1")
        with pytest.raises(DeadlineExceeded):
            await turns.wait("c-1", asyncio.get_running_loop().time() + 0.01)
        turns.leave("c-1")
        assert turns.take("c-1")

    asyncio.run(go())

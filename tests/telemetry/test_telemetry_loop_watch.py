"""The watch over the event loop: a synchronous call is found, counted and named; ordinary waiting is not."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from decision_service.telemetry import Meters, exposition
from decision_service.telemetry.loop_watch import BEAT_S, BLOCK_S, watched_loop

pytestmark = [pytest.mark.anyio, pytest.mark.fault("H04")]


def a_synchronous_call(seconds: float) -> None:
    """What nobody should do on a loop."""
    time.sleep(seconds)


async def watched(act: Callable[[], None]) -> list[float]:
    """The blocks that are found while `act` runs on the loop, after some beats and before others."""
    blocks: list[float] = []
    beats: list[float] = []
    with watched_loop(lambda lag_s, _: beats.append(lag_s), blocks.append):
        for before in (0, 2):
            for _ in range(500):
                if len(beats) > before:
                    break
                await asyncio.sleep(BEAT_S / 4)
            if not before:
                act()
        after = len(beats)
        for _ in range(500):
            if len(beats) > after + 1:
                break
            await asyncio.sleep(BEAT_S / 4)
    return blocks


async def test_a_synchronous_call_is_found_and_named(caplog: pytest.LogCaptureFixture) -> None:
    """Counted with its length; the line in the log says in which function, and is the only one of a second."""
    with caplog.at_level(logging.WARNING, "decision_service.loop"):
        logging.getLogger("decision_service").propagate = True
        blocks = await watched(lambda: a_synchronous_call(0.4))
    assert max(blocks) > 0.4 - 2 * BEAT_S
    lines = [record.getMessage() for record in caplog.records if "blocked for" in record.getMessage()]
    assert any("a_synchronous_call" in line and "test_telemetry_loop_watch.py" in line for line in lines)


async def test_two_in_a_second_are_both_counted_and_one_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that is blocked all the time does not fill the log."""
    with caplog.at_level(logging.WARNING, "decision_service.loop"):
        logging.getLogger("decision_service").propagate = True
        first = await watched(lambda: a_synchronous_call(2 * BLOCK_S))
    assert first
    assert len([r for r in caplog.records if "blocked for" in r.getMessage()]) <= len(first)


def test_blocks_and_lag_are_on_the_page(tmp_path: Path) -> None:
    """Counters of blocks and their seconds; gauges of lag and cost."""
    meters = Meters(tmp_path)
    meters.count_loop_block(0.25)
    meters.set_load(0.003, 0.0004)
    page = exposition.render(meters).decode()
    assert "decision_service_loop_blocks_total 1.0" in page
    assert "decision_service_loop_blocked_seconds_total 0.25" in page
    assert "decision_service_loop_lag_seconds 0.003" in page
    assert "decision_service_request_cost_seconds 0.0004" in page
    meters.close()

"""Work beside the event loop: the interpreter's settings change for its time, and only then."""

from __future__ import annotations

import gc
import sys
from threading import Barrier, Thread

import pytest

from decision_service.interpreter import SWITCH_S, beside_the_loop


def test_settings_change_inside_and_come_back_after() -> None:
    """No collection and a short switch interval inside; what was before, after, also when the block raises."""
    before = sys.getswitchinterval()
    seen = []

    def fail() -> None:
        with beside_the_loop():
            seen.append((gc.isenabled(), sys.getswitchinterval()))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [(False, pytest.approx(SWITCH_S))]
    assert (gc.isenabled(), sys.getswitchinterval()) == (True, before)


def test_the_last_of_several_threads_puts_the_settings_back() -> None:
    """Two threads inside at once: the first to leave changes nothing."""
    both_in, one_out = Barrier(2), Barrier(2)
    seen: list[bool] = []

    def first() -> None:
        with beside_the_loop():
            both_in.wait(5)
        one_out.wait(5)

    def second() -> None:
        with beside_the_loop():
            both_in.wait(5)
            one_out.wait(5)
            seen.append(gc.isenabled())

    threads = [Thread(target=first), Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [False]
    assert gc.isenabled()


def test_collection_that_was_off_stays_off() -> None:
    """Who runs without a collector gets none afterwards."""
    gc.disable()
    try:
        with beside_the_loop(), beside_the_loop():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()

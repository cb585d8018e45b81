"""Work beside the event loop: the interpreter's settings change for its time, and only then."""

from __future__ import annotations

import gc
import sys
from threading import Barrier, Thread
from weakref import ref

import pytest

from decision_service.interpreter import SWITCH_S, YOUNG_OBJECTS, beside_the_loop


def test_settings_change_inside_and_come_back_after() -> None:
    """Only young objects are collected and the switch interval is short inside; after, all is as before."""
    before = gc.get_threshold(), sys.getswitchinterval()
    seen = []

    def fail() -> None:
        with beside_the_loop():
            seen.append((gc.isenabled(), gc.get_threshold()[0], sys.getswitchinterval()))
            assert min(gc.get_threshold()[1:]) > YOUNG_OBJECTS
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [(True, YOUNG_OBJECTS, pytest.approx(SWITCH_S))]
    assert (gc.get_threshold(), sys.getswitchinterval()) == before


def test_the_last_of_several_threads_puts_the_settings_back() -> None:
    """Two threads inside at once: the first to leave changes nothing."""
    both_in, one_out = Barrier(2), Barrier(2)
    seen: list[int] = []
    before = gc.get_threshold()

    def first() -> None:
        with beside_the_loop():
            both_in.wait(5)
        one_out.wait(5)

    def second() -> None:
        with beside_the_loop():
            both_in.wait(5)
            one_out.wait(5)
            seen.append(gc.get_threshold()[0])

    threads = [Thread(target=first), Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [YOUNG_OBJECTS]
    assert gc.get_threshold() == before


def test_litter_made_inside_is_still_collected() -> None:
    """Requests that run beside the work leave cycles, and those do not pile up until it is done."""

    class Litter:
        def __init__(self) -> None:
            self.itself = self

    with beside_the_loop():
        first = ref(Litter())
        kept = [[] for _ in range(2 * YOUNG_OBJECTS)]
        assert first() is None
        assert kept


def test_what_stays_is_set_aside_and_freed_by_its_reference_count() -> None:
    """The collector never again looks at what was made inside; dropping it frees it without a collection."""

    class Made:
        pass

    frozen = gc.get_freeze_count()
    with beside_the_loop():
        made = [Made() for _ in range(1_000)]
    assert gc.get_freeze_count() >= frozen + 1_000
    first = ref(made[0])
    gc.disable()
    try:
        del made
        assert first() is None
    finally:
        gc.enable()


def test_collection_that_was_off_stays_off() -> None:
    """Who runs without a collector gets none afterwards."""
    gc.disable()
    try:
        with beside_the_loop(), beside_the_loop():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()

"""The supervisor of many workers lets them start: it asks whether they are ready now and then, not all the time."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any, cast

from decision_service import server


class Starting:
    """A worker that says at once that it is not ready, until it was asked or has lived long enough."""

    def __init__(self, ready_after_s: float) -> None:
        self.asked = 0
        self.exitcode = None
        self.process = SimpleNamespace(is_alive=lambda: True)
        self._ready_at = time.monotonic() + ready_after_s

    def is_ready(self, timeout: float) -> bool:
        """As uvicorn's: the worker's answer to a ping."""
        del timeout
        self.asked += 1
        return time.monotonic() >= self._ready_at


def test_a_worker_that_starts_is_not_asked_without_a_pause() -> None:
    """uvicorn's `is_ready` returns at once where the worker answers: without a pause both would only ping each other,
    and on one core the trial of a scorecard did not come to run in 30 s."""
    workers = [Starting(0.5), Starting(0.5)]
    supervisor = SimpleNamespace(should_exit=threading.Event(), processes=workers, handle_signals=lambda: None)
    assert server._all_ready(cast(Any, supervisor))
    assert all(1 <= worker.asked <= 2 + 0.5 / server.READY_PAUSE_S for worker in workers)


def test_a_signal_ends_the_wait() -> None:
    """While workers start, a stop is obeyed at once."""
    supervisor = SimpleNamespace(should_exit=threading.Event(), processes=[Starting(60)], handle_signals=lambda: None)
    threading.Timer(0.2, supervisor.should_exit.set).start()
    assert not server._all_ready(cast(Any, supervisor))

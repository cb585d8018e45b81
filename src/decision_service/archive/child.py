"""The consumer beside a service: `archive run` in a process of its own, kept alive by the process that serves.

In a thread of a worker it would take the interpreter from decisions for up to 5 ms at a time; as a process of lower
priority it takes what they leave. It ends by itself when its parent is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from decision_service.settings import Settings

LOG = logging.getLogger("decision_service.archive")
PARENT_VARIABLE: Final = "DS_PARENT_PID"
NEEDED: Final = ("pyarrow", "fsspec")
PAUSE_S: Final = (1.0, 60.0)  # first and longest wait before one that ended is started again
STOP_S: Final = 15.0


@contextmanager
def consumer_beside(settings: Settings) -> Iterator[None]:
    """Keep a consumer running during the block, with these settings."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        LOG.warning("nothing is archived: %s is not installed (pip install decision-service[offline])", missing[0])
        yield
        return
    child = _Child(settings)
    child.start()
    try:
        yield
    finally:
        child.stop()


class _Child:
    """One process, and the thread that starts it again."""

    def __init__(self, settings: Settings) -> None:
        self._environment = {**os.environ, **settings.environment(), PARENT_VARIABLE: str(os.getpid())}
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="archive", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _keep(self) -> None:
        pause_s, longest_s = PAUSE_S
        while True:
            with self._lock:
                if self._stopping.is_set():
                    return
                command = [sys.executable, "-m", "decision_service", "archive", "run", "--beside"]
                process = self._process = subprocess.Popen(
                    command, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
                )
            status = process.wait()
            if self._stopping.is_set():
                return
            LOG.error("the archive's consumer ended with status %d; it is started again in %.0f s", status, pause_s)
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, longest_s)

    def stop(self) -> None:
        """End the process: it finishes the segments under way."""
        with self._lock:
            self._stopping.set()
            process = self._process
        if process is not None:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._thread.join(STOP_S)

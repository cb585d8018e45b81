"""A service that starts where another would have given up: without its store, with few files, with nobody reading what
it says."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import httpx

from service_process import READY_S, ServiceProcess, kernel_on_disk

CALL_TIMEOUT_S = 30.0


class HardProcess(ServiceProcess):
    """`start` waits until it is alive; whether it is ready is the test's business."""

    def __init__(
        self, directory: Path, *, files_max: int | None = None, stderr: int | IO[bytes] | None = None,
        environment: dict[str, str] | None = None, **values: Any,
    ) -> None:  # fmt: skip
        (directory / "models").mkdir(parents=True, exist_ok=True)
        super().__init__(directory, **{"models": directory / "models", **values})
        self._files_max = files_max
        self._stderr = stderr
        self._environment |= environment or {}

    def start(self) -> HardProcess:
        """Start and wait until it is alive."""
        kernel_on_disk()

        def limit() -> None:
            if self._files_max is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self._files_max, self._files_max))

        with (self.directory / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "decision_service", *self._arguments], stdout=subprocess.DEVNULL,
                stderr=self._stderr or log, env={**os.environ, **self._environment}, start_new_session=True,
                preexec_fn=limit,
            )  # fmt: skip
        self.until(lambda: self.status("/livez") == 200)
        return self

    def until(self, true: Callable[[], bool]) -> None:
        """Wait until it is true, while the service lives."""
        end = time.monotonic() + READY_S
        while not true():
            assert self.process is not None
            assert self.process.poll() is None, f"the service ended: {self.log()}"
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)

    def status(self, path: str) -> int:
        """The status of a GET; 0 if there is no answer."""
        try:
            return httpx.get(self.url + path, timeout=CALL_TIMEOUT_S).status_code
        except httpx.HTTPError:
            return 0

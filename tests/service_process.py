"""The real service for tests: `decision-service serve` in a process of its own, on a free loopback port.

A fresh machine compiles the kernel, which takes minutes on a busy one: the session does so once before its first
service starts, and every service finds it on disk.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from decision_service.core.limits import DAY_MS
from decision_service.policies.loading import load_policy
from decision_service.scorecards.files import load_scorecards
from decision_service.warm import warm
from valkey_server import free_port

ROOT = Path(__file__).parent.parent
READY_S = 60.0
STOP_S = 30.0


@functools.cache
def kernel_on_disk() -> None:
    """Compile the kernel into Numba's cache beside the sources, unless it is there."""
    policy, _ = load_policy(ROOT / "benchmarks" / "policies" / "replay", ROOT / "no-models", "Asia/Shanghai", DAY_MS)
    warm(policy)
    load_scorecards(ROOT / "models")  # warms what walks their trees


def _parent_of(process: Path) -> int:
    """The parent of a process by its /proc folder; 0 if it is gone."""
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _command_of(process: Path) -> bytes:
    """The command line of a process; empty if it is gone."""
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


class ServiceProcess:
    """One `serve`; `start` again after `kill` continues on the same port and data."""

    def __init__(
        self, directory: Path, *, store_url: str | None = None, workers: int = 1, rules: Path | None = None,
        models: Path | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._arguments = [
            "serve", "--host", "127.0.0.1", "--port", str(self.port), "--workers", str(workers),
            "--data-dir", str(directory / "data"), "--rules", str(rules or ROOT / "rules"),
            "--models", str(models or ROOT / "models"),
            *([] if store_url is None else ["--redis-url", store_url]),
        ]  # fmt: skip
        settings = {"archive_in_service": False, **settings}  # a process more, which most tests have no use for
        self._environment = {f"DECISION_SERVICE_{name.upper()}": str(value) for name, value in settings.items()}
        self._starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ServiceProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> ServiceProcess:
        """Start and wait until it is ready."""
        kernel_on_disk()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._starts += 1
        with (self.directory / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "decision_service", *self._arguments], stdout=log, stderr=log,
                env={**os.environ, **self._environment}, start_new_session=True,
            )  # fmt: skip
        self.wait_ready()
        self._wait_complete(starts=self._starts)
        return self

    def _wait_complete(self, starts: int) -> None:
        """Wait until it tells its address, which it does when every worker serves."""
        until = time.monotonic() + READY_S
        while (self.directory / "service.log").read_text(errors="replace").count("serving on") < starts:
            assert time.monotonic() < until, f"not every worker came up: {self.log()}"
            time.sleep(0.05)

    def wait_ready(self) -> None:
        """Wait until /readyz says so. AssertionError with the log if the process ends or never gets there."""
        until = time.monotonic() + READY_S
        said = "nothing"
        while time.monotonic() < until:
            assert self.process is not None
            assert self.process.poll() is None, f"the service ended: {self.log()}"
            try:
                reply = httpx.get(f"{self.url}/readyz", timeout=2)
                if reply.status_code == 200:
                    return
                said = reply.text
            except httpx.HTTPError as error:
                said = repr(error)
            time.sleep(0.05)
        raise AssertionError(f"not ready: {said}\n{self.log()}")

    def log(self) -> str:
        """The end of what it said."""
        return (self.directory / "service.log").read_text(errors="replace")[-3_000:]

    def worker_pids(self) -> list[int]:
        """Process ids that answer requests: the children, or the process itself with one worker."""
        assert self.process is not None
        found = [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and _parent_of(folder) == self.process.pid and b"spawn_main" in _command_of(folder)
        ]
        return sorted(found) or [self.process.pid]

    def kill(self) -> None:
        """kill -9 of the whole process group that this object started."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_S)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        if self.process is None or self.process.poll() is not None:
            return 0 if self.process is None else self.process.returncode
        self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

"""The whole service for fault benchmarks: `decision-service serve` with its workers and its own store, and ways to hurt
it. Everything listens on the loopback range, lives in one directory, and only what was started here is ever signalled.

    service = WholeService(directory, workers=4)
    service.start()                    # parent, embedded Valkey, workers
    service.worker_pids()              # that the parent keeps alive
    service.store_pid()                # that the parent keeps alive, too
    service.kill_everything()          # as if the machine had lost its power, but for what the kernel still writes
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from decision_service.store.embedded import server_binary

READY_S = 300.0  # a first start compiles the kernels
STOP_S = 30.0

FEATURES = """
segments:
  draw: kind == "drawdown"
features:
  vel_prior: {agg: count, of: draw, windows: [10m], null: Z, unit: n, en: "requests", zh: "请求数"}
"""
RULES = """
rule_set: drawdown
scene: drawdown
rules:
  - id: over_limit
    when: request.amount > facility.available
    on_null: hold
    then: {hold: block}
    reason: RC04
  - id: otherwise
    when: vel_prior_10m >= 0
    on_null: hold
    then: approve
fallback: {static: {hold: review, reason: RC90}}
"""
"""A policy that starts quickly: it lends up to the limit, nothing else."""


def write_small_policy(folder: Path) -> None:
    """Write `FEATURES` and `RULES` below `folder`/rules, and an empty `folder`/models."""
    (folder / "rules" / "features").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    (folder / "rules" / "features" / "velocity.yaml").write_text(FEATURES, encoding="utf-8")
    (folder / "rules" / "drawdown.yaml").write_text(RULES, encoding="utf-8")
    (folder / "rules" / "policy.yaml").write_text('label: "faults"\nlists: [block]\n', encoding="utf-8")


class WholeService:
    """One `serve` on a directory; `start` again after `kill_everything` continues on the same port and data."""

    def __init__(
        self, directory: Path, *, workers: int = 1, store_url: str | None = None, rules: Path | None = None,
        models: Path | None = None, cores: set[int] | None = None, environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:  # fmt: skip
        """Without `rules` the small policy. `settings` by their field names; `environment` as it is."""
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._cores = cores
        self._embedded = store_url is None
        directory.mkdir(parents=True, exist_ok=True)
        write_small_policy(directory)
        named = {
            "host": "127.0.0.1", "port": self.port, "workers": workers, "data_dir": self.data, "redis_url": store_url,
            "rules": rules or directory / "rules", "models": models or directory / "models", "rate_limit_per_s": 0,
            "log_level": "warning", **settings,
        }  # fmt: skip
        self._environment = dict(environment or {}) | {
            f"DECISION_SERVICE_{name.upper()}": str(value) for name, value in named.items() if value is not None
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> WholeService:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The parent: with one worker the worker itself."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> WholeService:
        """Start, and wait until it is ready and every worker serves."""
        log = self.directory / "service.log"
        mark = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "decision_service", "serve"], stdout=output, stderr=output,
                env=os.environ | self._environment, start_new_session=True,
            )  # fmt: skip
        if self._cores is not None:
            os.sched_setaffinity(self._process.pid, self._cores)  # long before it starts a child or a thread
        self.wait_ready()
        until = time.monotonic() + READY_S
        while b"serving on" not in log.read_bytes()[mark:]:
            if time.monotonic() > until:
                sys.exit(f"not every worker came up: {self.log()}")
            time.sleep(0.05)
        return self

    def wait_ready(self, timeout_s: float = READY_S) -> float:
        """Wait until /readyz says so; the seconds it took."""
        began = time.monotonic()
        said = "nothing"
        while time.monotonic() < began + timeout_s:
            if self._process is None or self._process.poll() is not None:
                sys.exit(f"the service ended: {self.log()}")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2):
                    return time.monotonic() - began
            except urllib.error.HTTPError as error:
                said = error.read().decode(errors="replace")
            except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
                said = repr(error)
            time.sleep(0.05)
        sys.exit(f"not ready in {timeout_s:.0f} s: {said}\n{self.log()}")

    def log(self) -> str:
        """The end of what it said."""
        return (self.directory / "service.log").read_text(errors="replace")[-3_000:]

    def metrics(self) -> str:
        """What /metrics says."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as reply:
            found: bytes = reply.read()
        return found.decode()

    def worker_pids(self) -> list[int]:
        """The workers that live now, oldest first; the service itself with one worker."""
        found = []
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in task.read_text().split() if b"spawn_main" in _command_of(int(child))]
        return sorted(found, key=age_s, reverse=True) or [self.pid]

    def store_pid(self) -> int | None:
        """The embedded store's server, if one lives now."""
        try:
            _, pid, _ = (self.data / "embedded.lock").read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if _parent_of(int(pid)) == self.pid else None

    def store(self) -> redis.Redis:
        """A plain client of the embedded store, that never retries."""
        _, _, folder = (self.data / "embedded.lock").read_text().split()
        return redis.Redis(unix_socket_path=f"{folder}/s", retry=Retry(NoBackoff(), 0), socket_timeout=30)

    def kill_everything(self) -> None:
        """kill -9 of the store, the workers and the parent. All are stopped first, so that none sees another die."""
        assert self._process is not None
        store = self.store_pid() if self._embedded else None
        pids = [self.pid, *self.worker_pids(), *([] if store is None else [store])]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self._process.wait(STOP_S)
        for pid in pids:
            wait_gone(pid)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        if self._process is None or self._process.poll() is not None:
            return 0 if self._process is None else self._process.returncode
        self._process.terminate()
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill_everything()
            raise


class PlainStore:
    """A Valkey of its own with every write fsynced before it is answered; `start` again continues on the same data."""

    def __init__(self, directory: Path, cores: set[int] | None = None) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._cores = cores
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PlainStore:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> PlainStore:
        """Start, and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "store.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(server_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                    "--dir", str(self.directory), "--appendonly", "yes", "--appendfsync", "always",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        if self._cores is not None:
            os.sched_setaffinity(self._process.pid, self._cores)
        until = time.monotonic() + READY_S
        with self.client() as client:
            while time.monotonic() < until and self._process.poll() is None:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    return self
                time.sleep(0.02)
        sys.exit(f"the store does not start: {(self.directory / 'store.log').read_text()[-2_000:]}")

    def client(self) -> redis.Redis:
        """A plain client that never retries."""
        return redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=30)

    def freeze(self, frozen: bool) -> None:
        """Let it stand still, or go on."""
        os.kill(self.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def kill(self) -> None:
        """kill -9; does nothing to one that is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_S)


def halves_of_machine() -> tuple[set[int], set[int]] | tuple[None, None]:
    """Cores for the service, and for everything else; nothing is pinned where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return (set(cores[:1]), set(cores[1:])) if len(cores) > 1 else (None, None)


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _command_of(pid: int) -> bytes:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _parent_of(pid: int) -> int:
    """The parent of a process; 0 if it is gone or waits to be reaped."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state == "Z" else int(parent)


def age_s(pid: int) -> float:
    """How long ago a process was started; 0 if it is gone."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def wait_gone(pid: int, timeout_s: float = STOP_S) -> None:
    """Wait until a killed process is gone (or only waits to be reaped)."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.005)
    raise TimeoutError(f"process {pid} does not end")

"""Real Valkey servers for tests: one process each, on an ephemeral loopback port, in a directory of their own."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from decision_service.store.embedded import server_binary

READY_S = 20.0


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ValkeyServer:
    """One server. `start` again after `kill` or `stop` continues on the same port and data."""

    def __init__(self, directory: Path, *arguments: str, safe: bool = True) -> None:
        self.directory = directory
        self.port = free_port()
        self.bus_port = 0
        durable = ("--appendonly", "yes", "--appendfsync", "always") if safe else ()
        self._arguments = (*durable, *arguments)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> ValkeyServer:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(server_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                    "--dir", str(self.directory), "--repl-diskless-sync-delay", "0",
                    "--enable-debug-command", "local", *self._arguments,
                ],
                stdout=log, stderr=log,
                restore_signals=False,  # a write beyond `limit_files` fails as on a full disk, and ends nothing
            )  # fmt: skip
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until it answers PING."""
        until = time.monotonic() + READY_S
        with self.client() as client:
            while time.monotonic() < until:
                with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                    client.ping()
                    return
                time.sleep(0.01)
        raise AssertionError(f"not ready: {(self.directory / 'server.log').read_text()[-2000:]}")

    def client(self) -> redis.Redis:
        """A plain synchronous client that never retries."""
        return redis.Redis(host="127.0.0.1", port=self.port, retry=Retry(NoBackoff(), 0), socket_timeout=5)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def limit_files(self, size: int | None) -> None:
        """Let no file that it writes grow beyond so many bytes; None lifts that."""
        hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def freeze(self) -> None:
        """Stop answering, without closing anything."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on as if nothing had been."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power switch would end the process."""
        self._signal(signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """End it, frozen or not."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)
            self._wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _wait(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

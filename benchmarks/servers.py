"""Processes a benchmark starts, each on the core it is given, and stops again: Valkey, and anything that
serves HTTP.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from decision_service.store.embedded import server_binary

READY_S = 300.0  # a first start compiles the kernels


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class NotReady(SystemExit):
    """A process did not come up; what it said. Ends a benchmark that does not catch it."""


class Server:
    """A running process and the port it serves."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, ready_s: float) -> None:
        self.process, self.port, self.ready_s = process, port, ready_s

    @property
    def url(self) -> str:
        """Where it is called."""
        return f"http://127.0.0.1:{self.port}"

    def family(self) -> list[int]:
        """The process and all its descendants."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in task.read_text().split()]
        return found

    def cpu_s(self, pids: Sequence[int] | None = None) -> float:
        """CPU seconds so far of the whole family, or of these processes."""
        ticks = 0
        for pid in self.family() if pids is None else pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> dict[str, float]:
        """Resident memory of each process of the family in MB (10^6 bytes), by its command."""
        found = {}
        for pid in self.family():
            status = Path(f"/proc/{pid}/status").read_text()
            pages = next(line for line in status.splitlines() if line.startswith("VmRSS"))
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            command = " ".join(Path(word).name for word in words)  # where it stands is this machine's affair
            found[f"{pid} {command[:60].strip()}"] = int(pages.split()[1]) * 1024 / 1e6
        return found


def service_command(args: argparse.Namespace, port: int) -> list[str]:
    """The command that serves the shipped policy with one worker."""
    return [
        str(Path(sys.executable).with_name("decision-service")), "serve", "--port", str(port), "--workers", "1",
        "--rules", str(args.rules), "--models", str(args.models),
    ]  # fmt: skip


@contextmanager
def serving(
    command: list[str], port: int, cores: set[int], path: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a process on some cores, wait until GET `path` says 200, and stop it with SIGTERM at the end."""
    started = time.perf_counter()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | dict(environment or {}),
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )  # fmt: skip
    try:
        _wait_ready(process, f"http://127.0.0.1:{port}{path}", log)
        yield Server(process, port, time.perf_counter() - started)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.02)
    raise NotReady(f"not ready: {' '.join(process.args)}\n{log.read_text()[-3000:]}")  # type: ignore[arg-type]


@contextmanager
def valkey(directory: Path, cores: set[int], options: Sequence[str] = ()) -> Iterator[Server]:
    """A Valkey of its own with every write fsynced before it is answered, as the profile `safe` wants it."""
    port = free_port()
    command = [
        str(server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory),
        "--appendonly", "yes", "--appendfsync", "always", "--logfile", str(directory / "valkey.log"),
        *options,
    ]  # fmt: skip
    process = subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    try:
        _wait_listening(port)
        yield Server(process, port, 0.0)
    finally:
        process.terminate()
        process.wait(30)


def _wait_listening(port: int) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise NotReady("the benchmark's Valkey does not listen")

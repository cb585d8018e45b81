"""Decisions under load and kills, archived, verified and replayed: are all of them equal, and how many a second?

    python benchmarks/replay_log.py [--decisions N] [--customers N] [--events N] [--jobs N] [--json FILE]

A Valkey and `decision-service serve` with two workers are started; N decisions on a population of customers with
histories go through the HTTP API on 16 connections, with events between them. Meanwhile a list changes every second,
the policy every 8 s, every --kill-s a worker is killed (SIGKILL), and every 15 s the store is away (SIGSTOP) for a
second, so that answers are static. Requests that were not answered are asked again. Then `archive run --once`,
`archive verify` and `replay-log` say what they found. Exit status 0 if every archived decision came out equal.

The population is written into the store directly, and told in the outboxes as an import would have.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from load.population import Population, load
from load.traffic import Traffic
from servers import READY_S, NotReady, Server, free_port, valkey

ROOT: Final = Path(__file__).parents[1]
CONNECTIONS: Final = 16
MIX: Final = (0.85, 0.0, 0.15, 0.0)  # decisions and events
LIST_S, POLICY_S, AWAY_S = 1.0, 8.0, 15.0
DEADLINE_MS: Final = 400  # what the store is away for is longer: static answers
TRIES_MAX: Final = 200


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--decisions", type=int, default=5_000, help="requests in all (%(default)s)")
    parser.add_argument("--customers", type=int, default=1_000, help="%(default)s")
    parser.add_argument("--events", type=int, default=200, help="a customer starts with (%(default)s)")
    parser.add_argument("--kill-s", type=float, default=15.0, help="between kills; a worker must have time to start")
    parser.add_argument("--jobs", type=int, default=2, help="processes of the replay (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the archive there")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped
    with tempfile.TemporaryDirectory(prefix="replay-log-") as folder:
        told = run(args, Path(folder))
    if args.json:
        args.json.write_text(json.dumps(told, indent=1))
    print(json.dumps(told, indent=1))
    return 0 if told["replay"]["faults"] == 0 and told["verify_status"] == 0 else 1


def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, in a folder."""
    shutil.copytree(ROOT / "rules", folder / "rules")
    population = Population("replay", args.customers, args.events, told=True)
    (folder / "valkey").mkdir()
    with valkey(folder / "valkey", {0, 1}) as store:
        load(population, store.port, time.time_ns() // 1_000_000)
        settings = {
            "DECISION_SERVICE_REDIS_URL": f"redis://127.0.0.1:{store.port}",
            "DECISION_SERVICE_ARCHIVE_IN_SERVICE": "false",
            "DECISION_SERVICE_DATA_DIR": str(folder / "data"), "DECISION_SERVICE_POLICY_APPROVALS_CHANGE_MAX": "1",
            "DECISION_SERVICE_POLICY_SCORES_WATCHED": "0", "DECISION_SERVICE_ARCHIVE_URL": str(folder / "archive"),
        }  # fmt: skip
        os.environ.update(settings)
        with served(folder) as service:
            asked = asyncio.run(Load(args, population, service, store, folder / "rules").run())
            time.sleep(3.0)  # the journal is delivered
        done = command("archive", "run", "--once", "--json")
        verify = command("archive", "verify", "--json")
        replay = command("replay-log", "--json", "--jobs", str(args.jobs))
        if args.keep:
            shutil.copytree(folder / "archive", args.keep)
    found = json.loads(replay.stdout or "{}")
    return {
        "asked": asked, "archive_run_status": done.returncode, "verify_status": verify.returncode,
        "replay_status": replay.returncode, "replay": found or {"faults": -1, "said": replay.stderr[-2_000:]},
    }  # fmt: skip


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """The service with two workers."""
    port = free_port()
    command_line = [
        sys.executable, "-m", "decision_service", "serve", "--port", str(port), "--workers", "2",
        "--rules", str(folder / "rules"), "--models", str(ROOT / "models"),
    ]  # fmt: skip
    with (folder / "service.log").open("ab") as output:
        process = subprocess.Popen(command_line, stdout=output, stderr=output)
    service = Server(process, port, 0.0)
    try:
        wait_ready(service, folder / "service.log")
        yield service
    finally:
        process.terminate()
        process.wait(60)


def wait_ready(service: Server, log: Path) -> None:
    """Until it serves. NotReady with what it said."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until and service.process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{service.url}/readyz", timeout=2):
            return
        time.sleep(0.1)
    raise NotReady(f"not ready\n{log.read_text()[-3_000:]}")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One of our commands, to its end."""
    line = [sys.executable, "-m", "decision_service", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    print(f"{' '.join(arguments)}: {done.returncode}\n{done.stderr[-800:]}", file=sys.stderr)
    return done


class Load:
    """The requests, and what goes wrong meanwhile."""

    def __init__(
        self, args: argparse.Namespace, population: Population, service: Server, store: Server, rules: Path
    ) -> None:
        stream = Traffic("replay", population, mix=MIX, skew=0.8, deadline_ms=DEADLINE_MS).stream()
        self._waiting = iter(stream.take(args.decisions)[0])
        self._service, self._store, self._rules = service, store, rules
        self._rng = random.Random(5)
        self._kill_s = args.kill_s
        self._number = 0
        self.counts: Counter[str] = Counter()

    async def run(self) -> dict[str, int]:
        """Send everything; what came back, by status."""
        trouble = [asyncio.create_task(one) for one in (self._kills(), self._lists(), self._policies(), self._away())]
        await asyncio.gather(*(self._connection() for _ in range(CONNECTIONS)))
        for task in trouble:
            task.cancel()
        await asyncio.gather(*trouble, return_exceptions=True)
        os.kill(self._store.process.pid, signal.SIGCONT)
        return dict(self.counts)

    async def _connection(self) -> None:
        reader: asyncio.StreamReader | None = None
        writer: asyncio.StreamWriter | None = None
        for request in self._waiting:
            for _ in range(TRIES_MAX):
                try:
                    if reader is None or writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", self._service.port)
                    status = await self._call(reader, writer, request)
                except (OSError, asyncio.IncompleteReadError):
                    self.counts["connection lost"] += 1
                    reader = writer = None
                    await asyncio.sleep(0.1)
                    continue
                self.counts[str(status)] += 1
                if status < 500:
                    break
                await asyncio.sleep(0.1)

    @staticmethod
    async def _call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        await reader.readexactly(length)
        return int(head[9:12])

    async def _kills(self) -> None:
        while True:
            await asyncio.sleep(self._kill_s)
            workers = [pid for pid in self._service.family()[1:] if b"spawn_main" in _command_of(pid)]
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(self._rng.choice(workers), signal.SIGKILL)
                self.counts["kills"] += 1

    async def _lists(self) -> None:
        while True:
            await asyncio.sleep(LIST_S)
            self._number += 1
            value = quote(f"listed-{self._number % 7}")
            method = "PUT" if self._number % 3 else "DELETE"
            head = f"{method} /v1/lists/watch/{value} HTTP/1.1"
            await self._once(f"{head}\r\nhost: 127.0.0.1\r\ncontent-length: 0\r\n\r\n".encode())

    async def _once(self, request: bytes) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._service.port)
            status = await self._call(reader, writer, request)
            self.counts[f"list changes {status}"] += 1
            writer.close()

    async def _policies(self) -> None:
        path = self._rules / "policy.yaml"
        text = path.read_text()
        while True:
            await asyncio.sleep(POLICY_S)
            self.counts["policies"] += 1
            path.write_text(text.replace("label: ", f"# edit {self.counts['policies']}\nlabel: ", 1))

    async def _away(self) -> None:
        pid = self._store.process.pid
        while True:
            await asyncio.sleep(AWAY_S)
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(1.0)
            finally:
                os.kill(pid, signal.SIGCONT)
            self.counts["store away"] += 1


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


if __name__ == "__main__":
    sys.exit(main())

"""CPU instructions per decision of the whole service, counted by callgrind: a figure that other work on the machine
does not change, so that two commits can be compared anywhere.

    python benchmarks/instructions.py [--decisions 600] [--json FILE] [--against FILE]

The service (one worker) runs under `valgrind --tool=callgrind`, Valkey beside it does not. `--customers` customers with
`--events` events each are loaded by an ordinary service first; then one connection asks one drawdown after another, and
only while it does is counted. So all work of the process counts: HTTP, store, features, scorecard, rules, commit, and
what comes after the answer (links, counting). The bare app of `bare_app.py` is counted in the same way.

What makes the figure repeat: the same requests in the same order, one at a time; hashes of strings seeded alike;
kernels compiled for a fixed processor without AVX-512, which valgrind does not know. Work by the clock (beats, looks at
files) is no decision's, and under valgrind a decision takes long: what the idle process does in a second is counted
before and after, and taken out. What is left is told as the spread of `--parts` equal parts.

Instructions are no time: a miss of the cache counts as much as an addition. Kernel time is not counted at all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from customers import drawdown, load
from servers import Server, free_port, serving, valkey

ROOT = Path(__file__).parents[1]
IDLE_S = 3.0  # less than the time-out of an idle connection
WARM_UP = 60  # requests before counting: caches of the interpreter are full then
ANYWHERE = set(range(os.cpu_count() or 1))
FIXED = {
    "PYTHONHASHSEED": "0", "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+lzcnt,+popcnt",
}  # fmt: skip
WORSE = 1.02  # of what it was compared with: more than what does not repeat


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def request(number: int, now_ms: int) -> bytes:
    """One HTTP request for a drawdown of a customer."""
    body = orjson.dumps(drawdown(number, f"counted-{number:06}", now_ms))
    return (
        b"POST /v1/decisions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )


class Asking:
    """One connection that asks one drawdown after another."""

    def __init__(self, port: int, customers: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._customers = customers
        self._number = 0
        self.rungs: dict[str, int] = {}

    def ask(self, requests: int, now_ms: int) -> None:
        """So many answers; SystemExit if one is refused."""
        for _ in range(requests):
            number = self._number % self._customers
            sent = request(number, now_ms).replace(b"counted-%06d" % number, b"counted-%06d" % self._number)
            self._number += 1
            self._socket.sendall(sent)
            body = self._answer()
            rung = orjson.loads(body).get("rung", "bare")
            self.rungs[rung] = self.rungs.get(rung, 0) + 1

    def _answer(self) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._some()
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        size = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length"))
        while len(body) < size:
            body += self._some()
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(f"refused: {head.decode()} {body.decode()}")
        return body

    def _some(self) -> bytes:
        data = self._socket.recv(65_536)
        if not data:
            sys.exit("the server closed the connection")
        return data

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@contextmanager
def counted(
    command: Sequence[str], port: int, path: str, folder: Path, environment: dict[str, str]
) -> Iterator[Server]:
    """A server under callgrind that counts nothing yet."""
    under = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--log-file=/dev/null",
             f"--callgrind-out-file={folder}/counted.%p", *command]  # fmt: skip
    with serving(under, port, ANYWHERE, path, folder / "counted.log", environment) as server:
        yield server


def control(server: Server, *options: str) -> None:
    """Tell a running callgrind something."""
    told = subprocess.run(
        ["callgrind_control", *options, str(server.process.pid)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if told.returncode:
        sys.exit(f"callgrind_control {' '.join(options)}: {told.stderr or told.stdout}")


class Counter:
    """Counts the instructions of one process."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._folder = folder
        control(server, "--instr=on")

    def of(self, work: Callable[[], object]) -> tuple[int, float]:
        """Instructions while something is done, and the seconds it took."""
        control(self._server, "--zero")
        began = time.monotonic()
        work()
        seconds = time.monotonic() - began
        known = set(self._folder.glob("counted.*"))
        control(self._server, "--dump")
        return total_of(known, self._folder), seconds

    def idle_per_s(self) -> float:
        """Instructions a second with nothing to do."""
        counted, seconds = self.of(lambda: time.sleep(IDLE_S))
        return counted / seconds


def count(server: Server, folder: Path, asking: Asking, parts: int, each: int, now_ms: int) -> list[float]:
    """Instructions per request of so many parts, one after another, without those of an idle process."""
    counter = Counter(server, folder)
    asking.ask(WARM_UP, now_ms)
    idles, told = [counter.idle_per_s()], []
    for part in range(parts):
        say(f"part {part + 1} of {parts}")
        told.append(counter.of(lambda: asking.ask(each, now_ms)))
    idles.append(counter.idle_per_s())
    say(f"idle: {idles[0]:,.0f} and {idles[1]:,.0f} instructions a second")
    return [(counted - min(idles) * seconds) / each for counted, seconds in told]


def total_of(known: set[Path], folder: Path) -> int:
    """The sum in the profile that a dump has just written."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for path in set(folder.glob("counted.*")) - known:
            for line in path.read_text().splitlines()[::-1]:
                name, _, value = line.partition(": ")
                if name in ("totals", "summary") and value.split()[0] != "0":
                    return int(value.split()[0])
        time.sleep(0.1)
    sys.exit("callgrind wrote no profile")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Count the bare app and the service; the report."""
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed")
    now_ms = time.time_ns() // 1_000_000
    each = -(-args.decisions // args.parts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = _bare(folder, args.parts, each, now_ms)
        service, rungs = _service(args, folder, each, now_ms)
    return {
        "instructions": statistics.median(service), "parts": service, "bare": statistics.median(bare),
        "ratio": statistics.median(bare) / statistics.median(service), "rungs": rungs,
        "decisions": each * args.parts, "customers": args.customers, "events": args.events,
    }  # fmt: skip


def _bare(folder: Path, parts: int, each: int, now_ms: int) -> list[float]:
    port = free_port()
    say("the bare app")
    command = [sys.executable, str(ROOT / "benchmarks" / "bare_app.py"), str(port)]
    with counted(command, port, "/", folder, FIXED) as server:
        asking = Asking(port, 1_000)
        found = count(server, folder, asking, parts, each, now_ms)
        asking.close()
    return found


def _service(args: argparse.Namespace, folder: Path, each: int, now_ms: int) -> tuple[list[float], dict[str, int]]:
    with valkey(folder, ANYWHERE) as store:
        environment = FIXED | {
            "DECISION_SERVICE_REDIS_URL": f"redis://127.0.0.1:{store.port}/0",
            "DECISION_SERVICE_RATE_LIMIT_PER_S": "0", "DECISION_SERVICE_LOG_LEVEL": "error",
            "DECISION_SERVICE_DATA_DIR": name_of(folder),
        }  # fmt: skip
        port = free_port()
        command = [sys.executable, "-m", "decision_service", "serve", "--port", str(port), "--workers", "1",
                   "--rules", str(args.rules), "--models", str(args.models)]  # fmt: skip
        say("compiling kernels for a fixed processor, if that was not done before (minutes), and loading customers")
        with serving(command, port, ANYWHERE, "/readyz", folder / "loading.log", environment) as server:
            load(server.url, args.customers, args.events, now_ms)
            time.sleep(2.0)  # links reach their logs
        say("starting the service under callgrind: some minutes")
        with counted(command, port, "/readyz", folder, environment) as server:
            asking = Asking(port, args.customers)
            found = count(server, folder, asking, args.parts, each, now_ms)
            asking.close()
    return found, asking.rungs


def name_of(folder: Path) -> str:
    """A data folder of the service."""
    (folder / "data").mkdir()
    return str(folder / "data")


def compared(report: dict[str, Any], before: dict[str, Any]) -> float:
    """How many times the instructions of an earlier report a decision costs; the bare app's change is taken out, for it
    is that of the machine's libraries."""
    ratio: float = (report["instructions"] / report["bare"]) / (before["instructions"] / before["bare"])
    return ratio


def show(report: dict[str, Any]) -> None:
    """The report for people."""
    spread = max(report["parts"]) / min(report["parts"]) - 1
    print(f"{report['instructions']:>12,.0f} instructions a decision (parts differ by {spread:.1%})")
    print(f"{report['bare']:>12,.0f} instructions an answer of the bare app: {report['ratio']:.3f} of a decision")
    print(
        f"{report['decisions']} decisions, {report['customers']} customers with {report['events']} events; "
        f"rungs {report['rungs']}"
    )


def main() -> int:
    """Parse options, count, print; status 1 if there are more instructions than in the report compared with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=600)
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--customers", type=int, default=200)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--rules", type=Path, default=ROOT / "rules")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an earlier report: status 1 if this one is worse")
    args = parser.parse_args()
    report = run(args)
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    if args.against:
        times = compared(report, json.loads(args.against.read_text()))
        print(f"{times:.3f} times the instructions of {args.against.name}")
        return int(times > WORSE)
    return 0


if __name__ == "__main__":
    sys.exit(main())

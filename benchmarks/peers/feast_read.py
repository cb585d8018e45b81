"""(b) Reading the features of one customer: Feast's online store beside this service's log.

Feast (its SDK in process, Redis online store) reads values that a job computed before. This service reads the
customer's raw log and computes the same features from it, as of now; reading the log alone is shown beside that. The
values are compared for every customer first: equal to the bit, null for null.

Feast brings some seventy packages, several in other versions than ours, so the command makes it a virtual environment
of its own from `feast-requirements.lock`, the first time.

    core 0   whoever reads        core 1   a Valkey for each
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import peer_paths  # noqa: F401
from decision_service.api.parse import Clock, parse_decision
from decision_service.core.decide import decide
from decision_service.core.policy import Policy
from decision_service.http_client import Client
from decision_service.policies.loading import load_policy
from decision_service.store import Store
from decision_service.store.open import open_store
from peer_histories import Customer, draw, plain
from peer_report import IN_TURNS_COLUMNS, Part, Ratio, Spent, in_turns_rows, say
from same_answers import prepare
from servers import valkey
from stack_servers import POLICY, our_service

HERE: Final = Path(__file__).resolve().parent
LOCK: Final = HERE / "feast-requirements.lock"
ENVIRONMENT: Final = HERE / ".feast"
FEATURES_READ, LOG_READ = "this service: log read, features computed", "this service: log read only"
FEAST: Final = "Feast SDK, values computed before"
READER_CORES, STORE_CORES = {0}, {1}
TIMEOUT_S: Final = 2.0
RESERVATION_MS: Final = 86_400_000
NOTES: Final = [
    "not the same work: Feast reads numbers that a job computed and wrote before, as old as that job; this service "
    "reads 200 raw events and computes the same numbers as of this instant. What computing and writing them costs "
    "Feast's users, for each event, is not in its figure.",
    "Feast as its documentation says: get_online_features and to_dict in the process that needs them, one customer, "
    "one feature view, the names given as a list; registry in a local file, cached. Its feature server would add HTTP.",
    "this service's read brings also what a decision needs beside features (facility, version, attributes), and is "
    "asked one at a time here; the commands of requests that come together share a pipeline.",
    "in both cases the store is a Valkey on the other core, over loopback.",
]


class DifferentValues(Exception):
    """Feast answers with another value than was computed."""


class _FeaturesAreThere(Exception):
    """Ends a decision where its features are computed."""


def run(quick: bool) -> Part:
    """Start, compare, time in turns, stop."""
    part = Part("feast", "(b) The features of one customer: online store beside log", list(NOTES), IN_TURNS_COLUMNS)
    try:
        python = environment()
    except (subprocess.CalledProcessError, OSError) as error:
        part.problem = f"Feast could not be installed here: {getattr(error, 'stderr', '') or error}"
        return part
    affinity = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, READER_CORES & affinity or affinity)
        with tempfile.TemporaryDirectory() as name:
            _measure(part, Path(name), python, quick)
    finally:
        os.sched_setaffinity(0, affinity)
    return part


def environment() -> Path:
    """The Python of Feast's environment, made if it is not there or was made from another lock."""
    python, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "lock.sha256"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != digest:
        say("feast: making its virtual environment, once")
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        for command in ([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], [*install, "-r", str(LOCK)]):
            subprocess.run(command, check=True, capture_output=True, text=True)
        stamp.write_text(digest)
    return python


def _measure(part: Part, folder: Path, python: Path, quick: bool) -> None:
    count, rounds, seconds = (20, 1, 0.5) if quick else (200, 5, 2.0)
    policy, _ = load_policy(POLICY / "rules", POLICY / "models", "Asia/Shanghai", RESERVATION_MS)
    customers = [plain(number, now_ms()) for number in range(count)]
    (folder / "feast").mkdir()
    with (
        our_service(folder / "ours", READER_CORES, STORE_CORES) as (service, store_server),
        valkey(folder / "feast", STORE_CORES) as feast_store,
        asyncio.Runner() as runner,
    ):
        say(f"feast: loading {count} customers of 200 events")
        runner.run(_load(service.url, customers))
        store = open_store(f"redis://127.0.0.1:{store_server.port}/0", remembering=False)
        ours = OurRead(store, policy, customers)
        names, rows = runner.run(ours.all_values())
        (folder / "feast" / "values.json").write_text(json.dumps({"names": names, "rows": rows}))
        with feast_reader(python, folder / "feast", feast_store.port) as reader:
            part.checked = same_values(names, rows, reader.ask({"read": list(rows)})["rows"])
            spent = {FEATURES_READ: Spent(), LOG_READ: Spent(), f"{FEAST} ({reader.version})": Spent()}
            for number in range(rounds):
                say(f"feast: round {number + 1}")
                computed, read, feast = spent.values()
                runner.run(ours.timed(seconds, computed, compute=True))
                runner.run(ours.timed(seconds, read, compute=False))
                told = reader.ask({"seconds": seconds})
                feast.wall_s += told["wall_s"]
                feast.cpu_s.append(told["cpu_s"])
        runner.run(store.close())
    part.rows = in_turns_rows(spent, FEATURES_READ)
    part.ratios = [
        Ratio(f"CPU, Feast / {name}", feast.cpu_us / spent[name].cpu_us) for name in (FEATURES_READ, LOG_READ)
    ]  # fmt: skip


def now_ms() -> int:
    """The clock, ms UTC."""
    return time.time_ns() // 1_000_000


async def _load(url: str, customers: list[Customer]) -> None:
    async with Client(url) as client:
        await prepare(client, customers)


class OurRead:
    """This service's read of a customer, in process: its store, and its features as a decision computes them."""

    def __init__(self, store: Store, policy: Policy, customers: list[Customer]) -> None:
        self._store, self._policy, self._scene = store, policy, policy.scenes["drawdown"]
        self._t_ms = now_ms()
        clock = Clock(self._t_ms, 3 * RESERVATION_MS, RESERVATION_MS)
        self._requests = [
            parse_decision(json.dumps(draw(customer, "read", 300.0, self._t_ms)).encode(), clock)[0]
            for customer in customers
        ]

    async def all_values(self) -> tuple[list[str], dict[str, list[float | None]]]:
        """The features' names, and their values of every customer."""
        scene, rows = self._scene, {}
        places = {name: i for i, name in enumerate(scene.plan.names) if name in self._policy.catalogue.by_name}
        for request in self._requests:
            await self._read(request, compute=True)
            values = [float(scene.numbers[scene.first_feature + place]) for place in places.values()]
            rows[request.customer_id] = [None if math.isnan(value) else value for value in values]
        return list(places), rows

    async def _read(self, request: Any, *, compute: bool) -> None:
        state = await self._store.read(request.customer_id, None, TIMEOUT_S)
        if compute:
            try:
                decide(request, state, self._policy, self._t_ms, "0" * 36, _stop_after_features)
            except _FeaturesAreThere:
                return

    async def timed(self, seconds: float, spent: Spent, *, compute: bool) -> None:
        """One round."""
        clock, i = time.perf_counter, 0
        until, cpu = clock() + seconds, time.process_time()
        while (began := clock()) < until or i == 0:
            await self._read(self._requests[i % len(self._requests)], compute=compute)
            spent.wall_s.append(clock() - began)
            i += 1
        spent.cpu_s.append((time.process_time() - cpu) / i)


def _stop_after_features(stage: int) -> None:
    if stage == 1:
        raise _FeaturesAreThere


class Reader:
    """The process that reads through Feast."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.version: str = self._told()["version"]

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """One question, one answer."""
        assert self._process.stdin is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return self._told()

    def _told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # a library may print, too
            if line.startswith("{"):
                told: dict[str, Any] = json.loads(line)
                return told
        sys.exit(f"Feast's reader ended with status {self._process.wait()}")


@contextmanager
def feast_reader(python: Path, folder: Path, port: int) -> Iterator[Reader]:
    """A reader on the values in `folder`."""
    process = subprocess.Popen(
        [str(python), "-W", "ignore", str(HERE / "feast_reader.py"), str(folder), str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Reader(process)
    finally:
        process.terminate()
        process.wait(30)


def same_values(names: list[str], ours: dict[str, list[float | None]], theirs: dict[str, list[float | None]]) -> str:
    """How many values were equal; DifferentValues if one is not."""
    for customer, row in ours.items():
        for name, mine, other in zip(names, row, theirs[customer], strict=True):
            if mine != other:
                raise DifferentValues(f"{name} of {customer}: this service {mine!r}, Feast {other!r}")
    return f"{len(ours) * len(names):,} values of {len(names)} features of {len(ours)} customers equal to the bit"

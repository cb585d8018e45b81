"""The bed of a run: which processes there are, and on which core each one is.

    core 0    what is measured: the bare app, or the service with all its workers
    core 1    the load generator, and Valkey with every write fsynced before it is answered (profile `safe`)

`with Bed(...) as bed:` starts what is asked for and stops all of it at the end, however it ends. Data lie in one
temporary directory. Valkey does not rewrite its append-only file meanwhile: that is a matter of the disk, and would
fall into one round and not into the other.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import redis

from load import stages
from load.plan import Plan, Raw
from load.population import Population, load
from servers import Server, free_port, serving, valkey

BENCHMARKS: Final = Path(__file__).parents[1]
ROOT: Final = BENCHMARKS.parent
ALLOWED: Final = os.sched_getaffinity(0)  # before this process goes to the generator's core
NO_REWRITES: Final = ("--auto-aof-rewrite-percentage", "0")


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


class Ended(Exception):
    """The generator stopped."""


class Generator(AbstractContextManager["Generator"]):
    """The generator's process."""

    def __init__(self, cores: set[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "load.generator"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(BENCHMARKS), *filter(None, sys.path)])},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout

    def prepare(self, plan: Plan) -> None:
        """Hand over a plan and wait until its requests are rendered."""
        pickle.dump(plan, self._to)
        self._to.flush()
        self._told()

    def start(self) -> None:
        """Start the clock."""
        self._to.write(b"\n")
        self._to.flush()

    def result(self) -> Raw:
        """Wait for the end of the run."""
        raw = self._told()
        assert isinstance(raw, Raw)
        return raw

    def _told(self) -> Any:
        try:
            return pickle.load(self._from)
        except EOFError:
            raise Ended("the load generator stopped; what it said is above") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._to.close()
        if kind is not None:
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._from.close()


@dataclass(frozen=True, slots=True)
class Target:
    """Something to drive: a server, and the store behind it if it is the service."""

    name: str
    server: Server
    store: Server | None = None

    def stages(self) -> stages.Reading:
        """What the service's stage histograms say; nothing of the bare app."""
        return {} if self.store is None else stages.asked(self.server.port)


@dataclass(slots=True)
class Round:
    """One run of the generator against a target."""

    raw: Raw
    stages: stages.Reading


class Bed(AbstractContextManager["Bed"]):
    """Starts processes and stops them."""

    def __init__(self, server_core: int = 0, load_core: int = 1) -> None:
        self.server_cores, self.load_cores = {server_core}, {load_core}
        if missing := (self.server_cores | self.load_cores) - ALLOWED:
            sys.exit(f"no core {', '.join(map(str, sorted(missing)))} to run on: --server-core, --load-core")
        self._stack = ExitStack()
        self.generator: Generator
        self.directory: Path
        self._services = 0
        self._targets: list[Target] = []

    def __enter__(self) -> Bed:
        os.sched_setaffinity(0, self.load_cores)
        with self._stack as stack:
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")))
            self.generator = stack.enter_context(Generator(self.load_cores))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def folder(self, name: str) -> Path:
        """A new directory."""
        path = self.directory / name
        path.mkdir(parents=True)
        return path

    def store(self, *populations: Population) -> Server:
        """A Valkey that holds these customers."""
        self._services += 1
        store = self._stack.enter_context(valkey(self.folder(f"store-{self._services}"), self.load_cores, NO_REWRITES))
        with redis.Redis(port=store.port) as client:
            client.config_set("appendfsync", "no")  # while it is loaded
            os.sched_setaffinity(0, self.server_cores)  # where nobody is asked anything yet
            for population in populations:
                self._load(population, store.port)
            os.sched_setaffinity(0, self.load_cores)
            client.config_set("appendfsync", "always")
        return store

    @staticmethod
    def _load(population: Population, port: int) -> None:
        began = told = time.monotonic()
        say(f"loading {population.customers:,} customers with {population.events:,} events each")

        def watch(done: int) -> None:
            nonlocal told
            if time.monotonic() - told > 5:
                told = time.monotonic()
                say(f"  {done:,} of {population.customers:,} ({told - began:.0f} s)")

        load(population, port, time.time_ns() // 1_000_000, watch=watch)

    def service(
        self, name: str, store: Server, *, rules: Path = ROOT / "rules", models: Path = ROOT / "models",
        workers: int = 1, environment: Mapping[str, str] | None = None,
    ) -> Target:  # fmt: skip
        """The service on a store, ready. Callers are not limited; all else is as it is by default."""
        port = free_port()
        self._services += 1
        data = self.folder(f"service-{self._services}")
        command = [
            sys.executable, "-m", "decision_service", "serve", "--port", str(port), "--workers", str(workers),
            "--rules", str(rules), "--models", str(models),
        ]  # fmt: skip
        settings = {
            "DECISION_SERVICE_REDIS_URL": f"redis://127.0.0.1:{store.port}/0",
            "DECISION_SERVICE_RATE_LIMIT_PER_S": "0",
            "DECISION_SERVICE_DATA_DIR": str(data),
            "DECISION_SERVICE_LOG_LEVEL": "warning",
        }
        server = self._stack.enter_context(
            serving(command, port, self.server_cores, "/readyz", data / "log", settings | dict(environment or {}))
        )
        say(f"{name}: ready after {server.ready_s:.1f} s")
        return self._target(Target(name, server, store))

    def bare(self) -> Target:
        """The bare ASGI app."""
        port = free_port()
        command = [sys.executable, str(BENCHMARKS / "bare_app.py"), str(port)]
        server = self._stack.enter_context(serving(command, port, self.server_cores, "/", self.directory / "bare.log"))
        return self._target(Target("bare app", server))

    def _target(self, target: Target) -> Target:
        self._targets.append(target)
        return target

    def families(self, target: Target) -> dict[str, Sequence[int]]:
        """Whose CPU time is told: of the target, of the store behind it, and of the other servers, which idle now."""
        idle = [pid for other in self._targets if other is not target for pid in other.server.family()]
        families: dict[str, Sequence[int]] = {"server": target.server.family(), "idle": idle}
        return families if target.store is None else families | {"store": target.store.family()}

    def begin(self, target: Target, plan: Plan) -> stages.Reading:
        """Start a run; what the histograms said before it."""
        self.generator.prepare(replace(plan, families=self.families(target)))
        before = target.stages()
        self.generator.start()
        return before

    def end(self, target: Target, before: stages.Reading) -> Round:
        """Wait for its end."""
        raw = self.generator.result()
        return Round(raw, stages.between(before, target.stages()))

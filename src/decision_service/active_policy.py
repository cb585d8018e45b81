"""The active policy of this worker: loading, reloading and following the fleet.

A candidate is read and compiled in a thread beside the running policy and takes its place between two requests; one
that does not compile changes nothing and its diagnostics are kept for `GET /v1/policy`. Three things ask for a reload:
a change of a watched file, SIGHUP, and a reload number in the store that any worker of any host may raise. List
contents live in the store; a moved version gives the same policy other lists, under the id those give it.

Reloads are single-flight: however often one is asked for, at most one runs and one waits.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson
from watchfiles import awatch

from decision_service.core.errors import (
    DecisionServiceError,
    Draining,
    NotFound,
    PolicyRejected,
    ScorecardRejected,
    StoreError,
)
from decision_service.core.policy import Policy, compile_policy
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Diagnostic, Document, Findings, Place
from decision_service.core.zone import zone_named
from decision_service.interpreter import beside_the_loop
from decision_service.policy_files import read_directory, read_text
from decision_service.policy_names import takes_name
from decision_service.scorecard_files import load_scorecards
from decision_service.store import Store, WorkerStatus

LOG = logging.getLogger("decision_service.policy")
POLL_S: Final = 0.25  # how often the store is asked for moved lists and reload requests
ANNOUNCE_S: Final = 2.0  # how often this worker says which policy it runs
STORE_TIMEOUT_S: Final = 2.0
DEBOUNCE_MS: Final = 200  # a save of several files is one change


def load_policy(rules: Path, models: Path, time_zone: str, reservation_timeout_ms: int) -> tuple[Policy, Findings]:
    """Read and compile what is on disk. PolicyRejected with all diagnostics; ScorecardRejected."""
    findings = Findings()
    with beside_the_loop():
        documents = read_directory(rules, findings)
        return _compile(documents, models, time_zone, reservation_timeout_ms, findings), findings


def _compile(
    documents: Mapping[str, Document],
    models: Path,
    time_zone: str,
    reservation_timeout_ms: int,
    findings: Findings,
) -> Policy:
    return compile_policy(documents, load_scorecards(models), zone_named(time_zone), reservation_timeout_ms, findings)


def check_files(
    rules: Path, models: Path, time_zone: str, reservation_timeout_ms: int, files: Mapping[str, str] | None = None
) -> list[Diagnostic]:
    """Every finding of the rules directory, with some files replaced or added, in file order; nothing is raised."""
    with beside_the_loop():
        return examine_files(rules, models, time_zone, reservation_timeout_ms, files or {})[1]


def examine_files(
    rules: Path, models: Path, time_zone: str, reservation_timeout_ms: int, files: Mapping[str, str]
) -> tuple[Policy | None, list[Diagnostic]]:
    """The policy, or None if it does not compile, and every finding in file order; nothing is raised."""
    findings = Findings()
    policy = None
    documents = dict(read_directory(rules, findings))
    for name, text in files.items():
        document = read_text(text, name, findings) if takes_name(name, findings) else None
        if document is not None:
            documents[name] = document
    try:
        policy = _compile(documents, models, time_zone, reservation_timeout_ms, findings)
    except PolicyRejected:
        pass  # the findings tell
    except ScorecardRejected as error:
        findings.error(Place(error.path, 1, 1), error.message)
    return policy, sorted(findings.diagnostics, key=lambda finding: finding.place)


class ActivePolicy:
    """The policy in force and everything that may replace it."""

    def __init__(
        self, rules: Path, models: Path, time_zone: str, reservation_timeout_ms: int, store: Store,
        now_ms: Callable[[], int], on_change: Callable[[str, str, bool], None],
    ) -> None:  # fmt: skip
        """`on_change(policy_id, label, ok)` is told of every activation and every refusal."""
        self._source = (rules, models, time_zone, reservation_timeout_ms)
        self._store = store
        self._now_ms = now_ms
        self._on_change = on_change
        self._reload_lock = asyncio.Lock()
        self._reload_waiting = False
        self._lists_version = -1
        self._reload_number = -1
        self._tasks: list[asyncio.Task[None]] = []
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}"
        self.problem = ""
        self.diagnostics: tuple[Diagnostic, ...] = ()
        self.warnings: tuple[Diagnostic, ...] = ()
        self.policy: Policy | None = None
        self._unsaved = False

    @property
    def current(self) -> Policy:
        """The policy in force. Draining while none is loaded: this worker is not (yet) able to decide."""
        if self.policy is None:
            raise Draining("no policy is loaded yet")
        return self.policy

    @property
    def scorecards(self) -> dict[str, Scorecard]:
        """The scorecards in force by name; none while no policy is loaded."""
        return {} if self.policy is None else dict(self.policy.scorecards)

    async def start(self) -> None:
        """Load the policy from disk (raising if it does not compile) and begin to follow files and fleet."""
        policy, findings = await asyncio.to_thread(load_policy, *self._source)
        self.warnings = tuple(findings.diagnostics)
        await self._activate(policy)
        with suppress(StoreError):  # readiness tells; the lists come with the first poll that succeeds
            await self._follow_store()
        self._tasks = [asyncio.create_task(self._poll()), asyncio.create_task(self._watch())]

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def reload(self) -> bool:
        """Load from disk again; whether the candidate was taken. Concurrent calls share one load."""
        if self._reload_waiting:
            async with self._reload_lock:
                return not self.problem
        self._reload_waiting = True
        async with self._reload_lock:
            self._reload_waiting = False
            return await self._load()

    async def reload_everywhere(self) -> bool:
        """Reload here and ask every other worker to."""
        taken = await self.reload()
        self._reload_number = await self._store.publish_reload(STORE_TIMEOUT_S)
        return taken

    async def check(self, files: Mapping[str, str]) -> list[Diagnostic]:
        """Compile the rules folder with some files replaced or added, change nothing, and return the findings."""
        return await asyncio.to_thread(self._check, files)

    def _check(self, files: Mapping[str, str]) -> list[Diagnostic]:
        return check_files(*self._source, files)

    async def _load(self) -> bool:
        try:
            policy, findings = await asyncio.to_thread(load_policy, *self._source)
        except DecisionServiceError as error:
            self.problem = error.message
            self.diagnostics = error.diagnostics if isinstance(error, PolicyRejected) else ()
            LOG.warning("policy not reloaded, %s stays: %s", self.policy and self.policy.id, error.message)
            self._on_change("", "", False)
        else:
            self.problem, self.diagnostics, self.warnings = "", (), tuple(findings.diagnostics)
            await self._activate(policy if self.policy is None else policy.with_lists(self.policy.lists))
        await self._announce()
        return not self.problem

    async def _activate(self, policy: Policy) -> None:
        """Keep the policy's description, then switch to it: a decision can always be explained."""
        if self.policy is not None and policy.id == self.policy.id:
            return
        self._unsaved = True
        with suppress(StoreError):  # a store that is away must not stop a reload; `_follow_store` catches up
            await self._save_description(policy)
        self.policy = policy
        LOG.info("policy %s (%s) is active", policy.id, policy.label)
        self._on_change(policy.id, policy.label, True)

    async def _follow_store(self) -> None:
        """Take over moved lists, obey a reload request, keep the description of a new policy."""
        assert self.policy is not None
        version, lists = await self._store.read_lists(self._lists_version, STORE_TIMEOUT_S)
        if lists is not None:
            await self._activate(self.policy.with_lists(lists))
        self._lists_version = version
        number = await self._store.read_reload(STORE_TIMEOUT_S)
        if self._reload_number not in (-1, number):
            await self.reload()
        self._reload_number = number
        if self._unsaved:
            await self._save_description(self.policy)

    async def _save_description(self, policy: Policy) -> None:
        await self._store.save_policy(policy.id, orjson.dumps(policy.describe()), STORE_TIMEOUT_S)
        self._unsaved = False

    async def description(self, policy_id: str) -> dict[str, Any]:
        """What a policy was, by its id."""
        if self.policy is not None and self.policy.id == policy_id:
            return self.policy.describe()
        document = await self._store.read_policy(policy_id, STORE_TIMEOUT_S)
        if document is None:
            raise NotFound(f"no description of policy {policy_id!r} is kept")
        description: dict[str, Any] = orjson.loads(document)
        return description

    async def _announce(self) -> None:
        policy = self.policy
        if policy is None:
            return
        status = WorkerStatus(self.worker_id, policy.id, policy.label, self._now_ms(), self.problem)
        with suppress(StoreError):
            await self._store.announce_worker(status, STORE_TIMEOUT_S)

    async def _poll(self) -> None:
        since_announced_s = ANNOUNCE_S
        while True:
            if since_announced_s >= ANNOUNCE_S:
                await self._announce()
                since_announced_s = 0.0
            with suppress(StoreError):
                await self._follow_store()
            await asyncio.sleep(POLL_S)
            since_announced_s += POLL_S

    async def _watch(self) -> None:
        rules, models, *_ = self._source
        watched = [path for path in (rules, models) if path.exists()]
        async for _ in awatch(*watched, debounce=DEBOUNCE_MS, step=50):
            await self.reload()

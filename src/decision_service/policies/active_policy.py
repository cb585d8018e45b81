"""The active policy of this worker: loading, reloading and following the fleet.

A candidate is read and compiled beside the running policy, in a process of its own, and takes its place between two
requests; one that does not compile changes nothing and its diagnostics are kept for `GET /v1/policy`. List contents
live in the store; a moved version gives the same policy other lists, under the id those give it.

    disk of a host --- changed, SIGHUP, POST reload ---+
    POST publish, POST restore ------------------------+-> compiled here -> published under the next number
                                                                                      |
    every worker of every host <----------- polls the number, compiles, switches -----+

The number in the store says which policy is the fleet's. A worker that cannot take it (it does not compile here, or a
scorecard is missing) keeps its own, says so, and tries again when the next number comes, its files change or a reload
is asked for.

Reloads are single-flight: however often one is asked for, at most one runs and one waits. This module holds the lock,
the start and the end; the parts are

    in_force.py       what decisions read, and why it is not a newer one
    activation.py     from a content to the policy in force, here and in the fleet
    on_disk.py        when what lies on the disk is news
    disk_watch.py     when the disk has changed
    following.py      taking what the fleet runs, four times a second
    announcement.py   what this worker says of itself, and hears of the others
    score_watch.py    whether what is newly in force scores as it should, and going back if not
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final

from decision_service.core.decision import Decision
from decision_service.core.errors import StoreError
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.core.source import Diagnostic
from decision_service.core.state import CustomerState
from decision_service.policies.activation import PolicyActivation
from decision_service.policies.announcement import FleetAnnouncement
from decision_service.policies.bundle import BundleHead, Content
from decision_service.policies.compiling_process import START_S, CompilingProcess
from decision_service.policies.disk_watch import DiskWatch
from decision_service.policies.following import FleetFollowing
from decision_service.policies.guard import ActivationGuard, Rehearsal
from decision_service.policies.in_force import DISK, STORE_TIMEOUT_S, PolicyInForce
from decision_service.policies.on_disk import PolicyOnDisk
from decision_service.policies.score_watch import ScoreWatch
from decision_service.policies.signatures import NOBODY_ASKED, SignatureRule
from decision_service.policies.source import Candidate, NotAtRest, PolicySource, Source
from decision_service.policies.sources import PolicySources
from decision_service.store import Store

LOG = logging.getLogger("decision_service.policy")
SCORES_WATCHED: Final = 200  # customers
ROLLBACK_RETRY_S: Final = 1.0  # while the store is away
START_TRIES: Final = 3  # published policies tried at the start: behind a damaged one is what the others run


class ActivePolicy:
    """The policy in force and everything that may replace it."""

    def __init__(
        self, rules: Path, models: Path, time_zone: str, reservation_timeout_ms: int, store: Store,
        now_ms: Callable[[], int], on_change: Callable[[str, str, bool], None],
        on_fleet: Callable[[int, bool], None] = lambda _skew, _problem: None, approvals_change_max: float = 1.0,
        signatures: SignatureRule = NOBODY_ASKED, scores_watched: int = SCORES_WATCHED,
        on_rollback: Callable[[], None] = lambda: None, compiles_beside: bool = False,
    ) -> None:  # fmt: skip
        """`on_change(policy_id, label, ok)` is told of every activation and every refusal; `on_fleet(skew, problem)`,
        every now and then, of how many policies beyond one the fleet runs and whether this worker has a problem;
        `on_rollback()` when this worker has led the fleet back. `scores_watched`: customers whose scores judge a new
        policy, 0 for none. `compiles_beside`: in a process of its own, once the start is START_S past."""
        here = PolicySource(rules, models, time_zone, reservation_timeout_ms, signatures)
        self._process = CompilingProcess(here) if compiles_beside else None
        self._source: Source = here if self._process is None else self._process
        self._store = store
        self._in_force = PolicyInForce(store, on_change, PolicySources(store, models))
        guard = ActivationGuard(approvals_change_max, judges_scores=scores_watched > 0)
        self.watch = ScoreWatch(scores_watched)
        self._on_rollback = on_rollback
        self._activation = PolicyActivation(self._source, store, now_ms, guard, self.watch, self._in_force)
        self._on_disk = PolicyOnDisk(self._source, self._activation, self._in_force)
        self._announcement = FleetAnnouncement(store, now_ms, on_fleet, self._in_force)
        self._disk = DiskWatch(self._source, self._disk_changed, self._disk_unchanged)
        self._lock = asyncio.Lock()
        self._following = FleetFollowing(store, self._in_force, self._activation, self._announcement, self._lock)
        self._reload_waiting = False
        self._tasks: list[asyncio.Task[None]] = []
        self._watches: list[asyncio.Task[None]] = []

    # --- what is in force ---------------------------------------------------------------------------------------

    @property
    def current(self) -> Policy:
        """The policy in force. Draining while none is loaded: this worker is not (yet) able to decide."""
        return self._in_force.current

    @property
    def policy(self) -> Policy | None:
        """The policy in force, None while none is loaded."""
        return self._in_force.policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._in_force.policy = policy

    @property
    def worker_id(self) -> str:
        """Under which name this worker announces and publishes."""
        return self._announcement.worker_id

    @worker_id.setter
    def worker_id(self, worker_id: str) -> None:
        self._announcement.worker_id = worker_id

    @property
    def content(self) -> Content | None:
        """What it was compiled from."""
        return self._in_force.content

    @property
    def bundle(self) -> int:
        """The number it is published under, 0 if it is not."""
        return self._in_force.bundle

    @property
    def problem(self) -> str:
        """Why this worker does not run what its disk holds, or what the fleet runs; empty if it does."""
        return self._in_force.problem

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """What is wrong with the candidate that was last refused."""
        return self._in_force.diagnostics

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What was found in the policy in force."""
        return self._in_force.warnings

    @property
    def scorecards(self) -> dict[str, Scorecard]:
        """The champions in force by name; none while no policy is loaded."""
        return {} if self.policy is None else dict(self.policy.scorecards)

    @property
    def all_scorecards(self) -> tuple[Scorecard, ...]:
        """Those of every role in force, champions first; none while no policy is loaded."""
        return () if self.policy is None else self.policy.all_scorecards

    @property
    def guard(self) -> ActivationGuard:
        """What judges candidates by what was decided lately."""
        return self._activation.guard

    @guard.setter
    def guard(self, guard: ActivationGuard) -> None:
        self._activation.guard = guard

    @property
    def rehearsal(self) -> Rehearsal | None:
        """What the guard found of the last candidate that this worker was first to load."""
        return self._activation.rehearsal

    @property
    def compiles(self) -> int:
        """Candidates compiled since the start."""
        return self._activation.compiles

    @property
    def rollback(self) -> dict[str, Any] | None:
        """From what the fleet was led back to what is in force, and why; None if it was not."""
        return self._in_force.rollback

    def keep(self, request: DecisionRequest, state: CustomerState, decision: Decision) -> None:
        """Take note of a decision that was committed."""
        self.guard.keep(request, state, decision)
        if self.watch.number:
            self.watch.keep(decision)

    async def description(self, policy_id: str) -> dict[str, Any]:
        """What a policy was, by its id."""
        return await self._in_force.description(policy_id)

    # --- start and end ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the fleet's policy or the one on disk, and begin to follow both. Raises what is wrong with the disk if
        there is nothing else to go by."""
        await self._disk.start()
        heads = await self._on_disk.heads()  # without a store: what is on disk is published once it is there
        refused = await self._on_disk.start(heads, self.worker_id)
        for number in islice(heads, START_TRIES):
            if self.policy is None:
                await self._activation.follow(number)
        if self.policy is None and self._on_disk.good is not None:  # better an old policy than none
            await self._activation.activate(await self._activation.compile(self._on_disk.good), 0)
        if self.policy is None:
            assert refused is not None
            raise refused
        if refused is not None:
            self._in_force.refuse(DISK, refused)
        with suppress(StoreError):
            await self._following.follow()
        self._disk_unchanged()
        self._tasks = [asyncio.create_task(loop) for loop in (self._following.poll(), self._watch_scores())]
        self._watches = [asyncio.create_task(loop) for loop in (self._disk.scan(), self._disk.notice())]
        if self._process is not None:
            self._tasks.append(asyncio.create_task(_start_late(self._process)))

    async def close(self) -> None:
        """Stop following."""
        await self.stop_watching()
        if self._process is not None:
            self._process.close()
        await _cancel(self._tasks)

    async def stop_watching(self) -> None:
        """Look at the disk no more unless asked to; the fleet is still followed."""
        await _cancel(self._watches)

    async def _watch_scores(self) -> None:
        """Judge what is newly in force whenever there is enough to judge by, until cancelled."""
        while True:
            await self.watch.due.wait()
            self.watch.due.clear()
            try:
                await self._judge_scores()
            except StoreError:  # nothing is decided either
                await asyncio.sleep(ROLLBACK_RETRY_S)
                self.watch.due.set()
            except Exception:  # a watch that ended would let the next mistake pass
                LOG.exception("could not judge the scores of the policy in force")

    async def _judge_scores(self) -> None:
        async with self._lock:
            reason = self.watch.judge()
            if not reason:
                return
            if await self._activation.roll_back(reason, self.worker_id):
                self._on_rollback()
        await self._announcement.announce()

    # --- the disk -----------------------------------------------------------------------------------------------

    async def check(self, files: Mapping[str, str]) -> list[Diagnostic]:
        """Compile the rules folder with some files replaced or added, change nothing, and return the findings."""
        return await asyncio.to_thread(self._source.check, files)

    async def reload(self, *, force: bool = False) -> bool:
        """Look at the disk again; whether this worker now runs what it should. Concurrent calls share one load.

        `force`: publish what is on disk even though the fleet has left it behind.
        """
        if self._reload_waiting and not force:
            async with self._lock:
                return not self.problem
        self._reload_waiting = True
        noticed = self._activation.known.published
        async with self._lock:
            self._reload_waiting = False
            await self._following.catch_up()
            read = self._source.read_when_at_rest
            await self._on_disk.load(read, self.worker_id, noticed, asked=True, force=force)
        await self._announcement.announce()
        return not self.problem

    async def reload_everywhere(self, *, force: bool = False) -> bool:
        """Reload here and ask every other worker to."""
        taken = await self.reload(force=force)
        await self._store.publish_reload(STORE_TIMEOUT_S)
        return taken

    def _disk_unchanged(self) -> None:
        self._on_disk.noticed = self._activation.known.published

    async def _disk_changed(self) -> bool:
        """Look at changed files; False if they are still being written."""
        async with self._lock:
            await self._following.catch_up()
            try:
                await self._on_disk.load(self._source.read, self.worker_id, self._on_disk.noticed)
            except NotAtRest:
                return False
        await self._announcement.announce()
        return True

    # --- the fleet ----------------------------------------------------------------------------------------------

    async def publish(self, files: Mapping[str, str], by: str, *, force: bool = False) -> int:
        """Compile these files, publish and activate them; their number. PolicyRejected, ScorecardRejected, StoreError:
        then nothing changed. `force`: whatever the guard says."""
        async with self._lock:
            number = await self._activation.publish(files, by, force=force)
            await self._announcement.announce()
            return number

    async def compile_beside(self, files: Mapping[str, str]) -> Candidate:
        """What these files compile to, without the lists, on the scorecards of this host; nothing changes.
        PolicyRejected, ScorecardRejected."""
        source = self._source
        return await asyncio.to_thread(lambda: source.compile(source.with_files(files), signed=False))

    async def restore(self, number: int, by: str, *, force: bool = False) -> int:
        """Publish the content of an earlier number again; its new number. NotFound, and as `publish`."""
        async with self._lock:
            new = await self._activation.restore(number, by, force=force)
            await self._announcement.announce()
            return new

    async def published(self) -> dict[int, BundleHead]:
        """The published policies that are kept, newest first. StoreError."""
        return await self._activation.published.heads()

    async def published_content(self, number: int) -> tuple[dict[int, BundleHead], Content]:
        """All of them, and the content of one. NotFound, PolicyRejected, StoreError."""
        content = await self._activation.published.content(number)
        return await self.published(), content


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _start_late(process: CompilingProcess) -> None:
    await asyncio.sleep(START_S)
    await asyncio.to_thread(process.start)

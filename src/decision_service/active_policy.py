"""The active policy of this worker: loading, reloading and following the fleet.

A candidate is read and compiled in a thread beside the running policy and takes its place between two requests; one
that does not compile changes nothing and its diagnostics are kept for `GET /v1/policy`. List contents live in the
store; a moved version gives the same policy other lists, under the id those give it.

    disk of a host --- changed, SIGHUP, POST reload ---+
    POST publish, POST restore ------------------------+-> compiled here -> published under the next number
                                                                                      |
    every worker of every host <----------- polls the number, compiles, switches -----+

The number in the store says which policy is the fleet's. A worker that cannot take it (it does not compile here, or a
scorecard is missing) keeps its own, says so, and tries again when the next number comes, its files change or a reload
is asked for.

What lies on a disk is news only once: a worker publishes what it reads there unless those files were published before
and it has not seen them change. So a host that was away, or whose disk is old, follows the fleet and never leads it
back; `force` says that going back is meant, and so does an edit. At the start nothing has been seen to change. The
worker that is first to load a candidate also lets the guard judge it (`activation_guard.py`), unless it is forced.

Reloads are single-flight: however often one is asked for, at most one runs and one waits, and files that hold what is
in force already, or what was just refused, are not compiled.
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

from decision_service.activation_guard import ActivationGuard, Rehearsal
from decision_service.bundle import BundleHead, Content
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
from decision_service.disk_watch import DiskWatch
from decision_service.interpreter import beside_the_loop
from decision_service.policy_files import read_directory, read_text
from decision_service.policy_names import takes_name
from decision_service.policy_source import Candidate, NotAtRest, PolicySource
from decision_service.published_policies import PublishedPolicies, left_behind
from decision_service.scorecard_files import load_scorecards
from decision_service.store import FleetNumbers, Store, WorkerStatus

LOG = logging.getLogger("decision_service.policy")
POLL_S: Final = 0.25  # how often the store is asked for moved lists and reload requests
ANNOUNCE_S: Final = 2.0  # how often this worker says which policy it runs
STORE_TIMEOUT_S: Final = 2.0
DISK: Final = "disk"
FLEET: Final = "fleet"


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
        on_fleet: Callable[[int, bool], None] = lambda _skew, _problem: None, approvals_change_max: float = 1.0,
    ) -> None:  # fmt: skip
        """`on_change(policy_id, label, ok)` is told of every activation and every refusal; `on_fleet(skew, problem)`,
        every now and then, of how many policies beyond one the fleet runs and whether this worker has a problem."""
        self._source = PolicySource(rules, models, time_zone, reservation_timeout_ms)
        self._store = store
        self._now_ms = now_ms
        self._on_change = on_change
        self._on_fleet = on_fleet
        self._published = PublishedPolicies(store, now_ms)
        self.guard = ActivationGuard(approvals_change_max)
        self.rehearsal: Rehearsal | None = None  # of the last candidate that this worker was first to load
        self._disk = DiskWatch(self._source, self._disk_changed, self._disk_unchanged)
        self._lock = asyncio.Lock()
        self._reload_waiting = False
        self._lists_version = -1
        self._known = FleetNumbers(-1, 0)  # what this worker has dealt with
        self._noticed = 0  # the newest number when the disk had last not changed
        self._good: Content | None = None  # what the disk held when it last compiled
        self._refused = ""  # digest of what it held when it last did not
        self._tasks: list[asyncio.Task[None]] = []
        self._watches: list[asyncio.Task[None]] = []
        self._problems = {DISK: "", FLEET: ""}
        self._unsaved = False
        self._unpublished: Candidate | None = None
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}"
        self.diagnostics: tuple[Diagnostic, ...] = ()
        self.warnings: tuple[Diagnostic, ...] = ()
        self.policy: Policy | None = None
        self.content: Content | None = None
        self.bundle = 0  # number of what is in force, 0 if it is not published
        self.compiles = 0  # candidates since the start

    @property
    def current(self) -> Policy:
        """The policy in force. Draining while none is loaded: this worker is not (yet) able to decide."""
        if self.policy is None:
            raise Draining("no policy is loaded yet")
        return self.policy

    @property
    def problem(self) -> str:
        """Why this worker does not run what its disk holds, or what the fleet runs; empty if it does."""
        return self._problems[DISK] or self._problems[FLEET]

    @property
    def scorecards(self) -> dict[str, Scorecard]:
        """The scorecards in force by name; none while no policy is loaded."""
        return {} if self.policy is None else dict(self.policy.scorecards)

    # --- start and end ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the fleet's policy or the one on disk, and begin to follow both. Raises what is wrong with the disk if
        there is nothing else to go by."""
        await self._disk.start()
        heads = await self._heads()  # without a store: what is on disk is published once it is there
        refused = await self._start_from_disk(heads)
        if self.policy is None and heads:
            await self._follow(next(iter(heads)))
        if self.policy is None and self._good is not None:  # better an old policy than none
            await self._activate(await self._compile(self._good), 0)
        if self.policy is None:
            assert refused is not None
            raise refused
        if refused is not None:
            self._refuse(DISK, refused)
        with suppress(StoreError):
            await self._follow_store()
        self._noticed = self._known.published
        self._tasks = [asyncio.create_task(self._poll())]
        self._watches = [asyncio.create_task(loop) for loop in (self._disk.scan(), self._disk.notice())]

    async def _start_from_disk(self, heads: dict[int, BundleHead]) -> DecisionServiceError | None:
        """Take what is on disk, unless the fleet has left it behind; why it cannot be taken."""
        try:
            content = await asyncio.to_thread(self._source.read_when_at_rest)
            if left_behind(content, heads):
                self._good = content
            else:
                await self._lead(await self._compile(content), None)
        except (PolicyRejected, ScorecardRejected) as error:
            return error
        return None

    async def close(self) -> None:
        """Stop following."""
        await self.stop_watching()
        await _cancel(self._tasks)

    async def stop_watching(self) -> None:
        """Look at the disk no more unless asked to; the fleet is still followed."""
        await _cancel(self._watches)

    # --- the disk -----------------------------------------------------------------------------------------------

    async def reload(self, *, force: bool = False) -> bool:
        """Look at the disk again; whether this worker now runs what it should. Concurrent calls share one load.

        `force`: publish what is on disk even though the fleet has left it behind.
        """
        if self._reload_waiting and not force:
            async with self._lock:
                return not self.problem
        self._reload_waiting = True
        noticed = self._known.published
        async with self._lock:
            self._reload_waiting = False
            await self._catch_up()
            await self._load(self._source.read_when_at_rest, noticed, asked=True, force=force)
        await self._announce()
        return not self.problem

    async def reload_everywhere(self, *, force: bool = False) -> bool:
        """Reload here and ask every other worker to."""
        taken = await self.reload(force=force)
        await self._store.publish_reload(STORE_TIMEOUT_S)
        return taken

    def _disk_unchanged(self) -> None:
        self._noticed = self._known.published

    async def _disk_changed(self) -> bool:
        """Look at changed files; False if they are still being written."""
        async with self._lock:
            await self._catch_up()
            try:
                await self._load(self._source.read, self._noticed, asked=False, force=False)
            except NotAtRest:
                return False
        await self._announce()
        return True

    async def _catch_up(self) -> None:
        """Try the fleet's policy again if it could not be taken: this host may hold what it lacked."""
        if self._problems[FLEET]:
            with suppress(StoreError):
                await self._follow(self._known.published)

    async def _load(self, read: Callable[[], Content], noticed: int, *, asked: bool, force: bool) -> None:
        """Take what is on disk if it is news. NotAtRest."""
        try:
            content = await asyncio.to_thread(read)
            if content.digest == self._refused and not asked:
                return
            if await self._is_news(content, asked=asked, force=force):
                wanted = content if force else self._with_files_in_force(content)
                candidate = await self._compiled(wanted, content, force=force)
                await self._lead(candidate, None if force else noticed)
        except (PolicyRejected, ScorecardRejected) as error:
            self._refuse(DISK, error)
        else:
            self._good = content
            self._problems[DISK], self.diagnostics = "", ()

    async def _compiled(self, wanted: Content, on_disk: Content, *, force: bool) -> Candidate:
        self._refused = on_disk.digest
        candidate = await self._compile(wanted)
        await self._rehearse(candidate, force=force)
        self._refused = ""
        return candidate

    async def _rehearse(self, candidate: Candidate, *, force: bool) -> None:
        """Judge a candidate by what was decided lately. PolicyRejected, unless it is forced."""
        policy = self._with_lists(candidate.policy)
        self.rehearsal = await asyncio.to_thread(self.guard.rehearse, policy, self.policy, self.guard.lately)
        if not force:
            self.guard.refuse(self.rehearsal, policy)

    async def _compile(self, content: Content) -> Candidate:
        self.compiles += 1
        return await asyncio.to_thread(self._source.compile, content)

    async def _is_news(self, content: Content, *, asked: bool, force: bool) -> bool:
        """Whether what is on disk should take the place of what is in force."""
        if self.content is not None and content.digest == self.content.digest:
            return False
        if force or self._good is None or content.digest != self._good.digest:
            return True
        return asked and not left_behind(content, await self._heads())

    async def _heads(self) -> dict[int, BundleHead]:
        try:
            return await self._published.heads()
        except StoreError:
            return {}

    def _with_files_in_force(self, content: Content) -> Content:
        """What is on disk; where only the scorecards are new, beside the files that are in force, which may be later
        ones than those on disk."""
        same = self._good is not None and self._good.file_digests == content.file_digests
        if not same or self.content is None:
            return content
        return Content(self.content.files, content.scorecards, content.loaded)

    # --- the fleet ----------------------------------------------------------------------------------------------

    async def publish(self, files: Mapping[str, str], by: str, *, force: bool = False) -> int:
        """Compile these files, publish and activate them; their number. PolicyRejected, ScorecardRejected, StoreError:
        then nothing changed. `force`: whatever the guard says."""
        async with self._lock:
            content = await asyncio.to_thread(self._source.with_files, files)
            return await self._publish(content, by, "publish", force=force)

    async def restore(self, number: int, by: str, *, force: bool = False) -> int:
        """Publish the content of an earlier number again; its new number. NotFound, and as `publish`."""
        async with self._lock:
            content = await self._published.content(number)
            return await self._publish(content, by, f"restore of {number}", force=force)

    async def _publish(self, content: Content, by: str, origin: str, *, force: bool) -> int:
        candidate = await self._compile(content)
        await self._rehearse(candidate, force=force)
        policy = self._with_lists(candidate.policy)
        number = await self._published.publish(content, policy, by, origin, None)
        await self._activate(candidate, number)
        self._problems = {DISK: "", FLEET: ""}
        self.diagnostics = ()
        await self._announce()
        return number

    async def published(self) -> dict[int, BundleHead]:
        """The published policies that are kept, newest first. StoreError."""
        return await self._published.heads()

    async def published_content(self, number: int) -> tuple[dict[int, BundleHead], Content]:
        """All of them, and the content of one. NotFound, PolicyRejected, StoreError."""
        content = await self._published.content(number)
        return await self._published.heads(), content

    async def _lead(self, candidate: Candidate, noticed: int | None) -> None:
        """Publish what was read from disk and switch to it. While the store is away it is in force here alone, and
        published later."""
        policy = self._with_lists(candidate.policy)
        try:
            number = await self._published.publish(candidate.content, policy, self.worker_id, "disk", noticed)
        except StoreError as error:
            LOG.warning("policy %s is not published yet: %s", policy.id, error.message)
            await self._activate(candidate, 0)
            self._unpublished = candidate
            return
        self._unpublished = None
        if number:
            await self._activate(candidate, number)

    async def _follow(self, number: int) -> None:
        """Take the policy published under a number; if it cannot be, this worker keeps its own. StoreError."""
        try:
            head = await self._published.head(number)
            if self.content is not None and self.content.digest == head.digest:
                self.bundle = number
            else:
                content = await self._published.content(number)
                await self._activate(await self._compile(content), number)
        except (PolicyRejected, ScorecardRejected, NotFound) as error:
            self._refuse(FLEET, error, f"published policy {number}: ")
        else:
            self._problems[FLEET] = ""
        self._known = self._known._replace(published=number)

    def _refuse(self, source: str, error: DecisionServiceError, what: str = "") -> None:
        """Keep the policy in force and say why."""
        self.diagnostics = error.diagnostics if isinstance(error, PolicyRejected) else ()
        self._problems[source] = what + error.message
        LOG.warning("policy not taken from the %s, %s stays: %s%s",
                    source, self.policy and self.policy.id, what, error.message)  # fmt: skip
        self._on_change("", "", False)

    async def _activate(self, candidate: Candidate, number: int) -> None:
        """Switch to a candidate that is published under a number (0: not yet)."""
        self.warnings = tuple(candidate.findings.diagnostics)
        self.content, self.bundle = candidate.content, number
        self._known = self._known._replace(published=max(self._known.published, number))
        self._unpublished = None
        if number:
            self._problems[FLEET] = ""
        await self._switch(self._with_lists(candidate.policy))

    def _with_lists(self, policy: Policy) -> Policy:
        return policy if self.policy is None else policy.with_lists(self.policy.lists)

    async def _switch(self, policy: Policy) -> None:
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
        """Take over moved lists and the fleet's newest policy, publish and keep what could not be before."""
        assert self.policy is not None
        version, lists = await self._store.read_lists(self._lists_version, STORE_TIMEOUT_S)
        if lists is not None:
            await self._switch(self.policy.with_lists(lists))
        self._lists_version = version
        numbers = await self._store.read_fleet(STORE_TIMEOUT_S)
        if numbers.published > self._known.published or numbers.reload != self._known.reload or self._unpublished:
            await self._follow_numbers(numbers)
        if self._unsaved:
            await self._save_description(self.policy)

    async def _follow_numbers(self, numbers: FleetNumbers) -> None:
        async with self._lock:
            if self._unpublished is not None:
                await self._lead(self._unpublished, self._known.published)
            if numbers.published > self._known.published:
                await self._follow(numbers.published)
            elif numbers.reload != self._known.reload != -1:
                await self._catch_up()
            self._known = self._known._replace(reload=numbers.reload)
        await self._announce()

    # --- telling ------------------------------------------------------------------------------------------------

    async def check(self, files: Mapping[str, str]) -> list[Diagnostic]:
        """Compile the rules folder with some files replaced or added, change nothing, and return the findings."""
        return await asyncio.to_thread(self._check, files)

    def _check(self, files: Mapping[str, str]) -> list[Diagnostic]:
        source = self._source
        return check_files(source.rules, source.models, source.time_zone, source.reservation_timeout_ms, files)

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
        first, _, _ = self.problem.partition("\n")
        status = WorkerStatus(self.worker_id, policy.id, policy.label, self._now_ms(), first, self.bundle)
        with suppress(StoreError):
            await self._store.announce_worker(status, STORE_TIMEOUT_S)

    async def _tell_fleet(self) -> None:
        """Announce this worker, and count how many policies the fleet runs."""
        await self._announce()
        with suppress(StoreError):
            workers = await self._store.workers(self._now_ms(), STORE_TIMEOUT_S)
            self._on_fleet(max(0, len({w.policy_id for w in workers}) - 1), bool(self.problem))

    async def _poll(self) -> None:
        since_told_s = ANNOUNCE_S
        while True:
            if since_told_s >= ANNOUNCE_S:
                await self._tell_fleet()
                since_told_s = 0.0
            try:
                await self._follow_store()
            except StoreError:
                pass
            except Exception:  # a worker that stopped following would decide by an old policy for ever
                LOG.exception("could not follow the fleet")
            await asyncio.sleep(POLL_S)
            since_told_s += POLL_S


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

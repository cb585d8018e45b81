"""A replay run: which decisions are made again, on how many processes, and what came of it.

    selected ──a task a place──▶ processes ──Result──▶ Account

First the audit columns of the days asked for are looked through: that gives the positions of what was asked for, the
total for the progress, and leaves places alone that have nothing of it. Then each place is walked from its first row,
for that is where its customers' histories begin; only the segments asked for are read whole.

A sample is the decisions with the smallest digests of their ids: the same ones on every run, spread over places,
customers and time.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from decision_service.archive.files import Archive
from decision_service.archive.frame_differences import Difference, differences
from decision_service.archive.histories import COMMITTED, WHY, Decided, Unknown, decided
from decision_service.archive.policies import ArchivedPolicies
from decision_service.archive.replaying import Replayer, replay
from decision_service.archive.rows import signed
from decision_service.archive.schema import Row
from decision_service.core.errors import ArchiveDamaged, DecisionServiceError, NotFound
from decision_service.core.links import customer_key
from decision_service.policies.sources import software_version

if TYPE_CHECKING:
    import pyarrow as pa

KEPT_MAX: Final = 100  # decisions whose differences are told
TOLD_EVERY: Final = 200  # decisions between two words on progress within a place
SELECT_COLUMNS: Final = ("position", "at_ms", "kind", "decision_id", "customer_key")
POLICY_ABSENT: Final = "policy_absent"
POLICY_OTHER: Final = "policy_other"
REASONS: Final[Mapping[str, str]] = {
    **{str(why): meaning for why, meaning in WHY.items()},
    POLICY_ABSENT: "its policy is not in the archive",
    POLICY_OTHER: "its policy cannot be made again from what the archive has of it",
}
EXPECTED: Final = ("erased", "before", "restored", "unreadable")  # of what cannot be replayed; all else is a fault


@dataclass(frozen=True, slots=True)
class Asked:
    """Which decisions are to be replayed; all of them by default. Instants in ms UTC, of the commit."""

    since_ms: int | None = None
    until_ms: int | None = None
    customer_id: str | None = None
    decision_id: str | None = None
    place: int | None = None
    sample: int | None = None


class Task(NamedTuple):
    """What is to be replayed of one place; `positions` None: every decision of the time."""

    place: int
    since_ms: int | None
    until_ms: int | None
    positions: tuple[int, ...] | None
    decisions: int


class Differing(NamedTuple):
    """A decision that came out otherwise."""

    decision_id: str
    place: int
    position: int
    at_ms: int
    policy_id: str
    fields: list[Difference]
    hints: tuple[str, ...]


@dataclass(slots=True)
class Account:
    """What came of replaying some decisions. `cpu_s` without the time that policies took to load, which is beside it;
    `problems` have an example of each reason why something could not be replayed."""

    equal: int = 0
    differ: int = 0
    not_replayed: Counter[str] = field(default_factory=Counter)
    differing: list[Differing] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    policies: set[str] = field(default_factory=set)
    cpu_s: float = 0.0
    loading_s: float = 0.0

    @property
    def looked_at(self) -> int:
        """Decisions so far, whatever came of them."""
        return self.equal + self.differ + self.not_replayed.total()

    @property
    def faults(self) -> int:
        """Decisions that came out otherwise, or could not be replayed though they should have."""
        return self.differ + sum(n for why, n in self.not_replayed.items() if why not in EXPECTED)

    @property
    def per_core_s(self) -> float:
        """Decisions replayed a second of one core."""
        return (self.equal + self.differ) / self.cpu_s if self.cpu_s > 0 else 0.0

    def add(self, other: Account) -> None:
        """Take in what another process found."""
        self.equal += other.equal
        self.differ += other.differ
        self.not_replayed += other.not_replayed
        self.differing += other.differing[: KEPT_MAX - len(self.differing)]
        self.problems = other.problems | self.problems
        self.policies |= other.policies
        self.cpu_s += other.cpu_s
        self.loading_s += other.loading_s

    def missed(self, row: Row, why: str, detail: str) -> None:
        """Count what could not be replayed."""
        self.not_replayed[why] += 1
        self.problems.setdefault(why, f"{row.decision_id}{': ' if detail else ''}{detail}")


def selected(archive: Archive, asked: Asked) -> list[Task]:
    """A task for each place that has decisions asked for, the largest first. ArchiveUnavailable."""
    found: dict[int, list[int]] = {}
    hashed: list[tuple[bytes, int, int]] = []
    narrowed = asked.customer_id is not None or asked.decision_id is not None
    for place, position, decision_id in _matching(archive, asked):
        if asked.sample is None:
            found.setdefault(place, []).append(position)
        else:
            digest = blake2b(decision_id.encode(), digest_size=8).digest()
            hashed.append((digest, place, position))
            if len(hashed) > 4 * asked.sample + 1_000:
                hashed = nsmallest(asked.sample, hashed)
    for _, place, position in nsmallest(asked.sample or 0, hashed):
        found.setdefault(place, []).append(position)
    all_of_them = not narrowed and asked.sample is None
    tasks = [
        Task(place, asked.since_ms, asked.until_ms, None if all_of_them else tuple(positions), len(positions))
        for place, positions in found.items()
    ]
    return sorted(tasks, key=lambda task: -task.decisions)


def _matching(archive: Archive, asked: Asked) -> Iterator[tuple[int, int, str]]:
    """Place, position and decision id of what is asked for, but for the sample."""
    places = None if asked.place is None else [asked.place]
    for segment in archive.segments(asked.since_ms, asked.until_ms, places):
        if segment.place < 0:
            continue
        try:
            table = archive.read(segment, SELECT_COLUMNS)
        except FileNotFoundError:  # a compaction merged it just now: walking lists again, counting need not
            continue
        kept = table.filter(_mask(table, asked))
        for position, decision_id in zip(
            kept["position"].to_pylist(), kept["decision_id"].to_pylist(), strict=True
        ):  # fmt: skip
            yield segment.place, position, decision_id


def _mask(table: pa.Table, asked: Asked) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    mask = pc.and_(pc.is_valid(table["decision_id"]), pc.is_in(table["kind"], pa.array(COMMITTED)))
    if asked.since_ms is not None:
        mask = pc.and_(mask, pc.greater_equal(table["at_ms"], asked.since_ms))
    if asked.until_ms is not None:
        mask = pc.and_(mask, pc.less(table["at_ms"], asked.until_ms))
    if asked.decision_id is not None:
        mask = pc.and_(mask, pc.equal(table["decision_id"], asked.decision_id))
    if asked.customer_id is not None:
        key = pa.scalar(signed(customer_key(asked.customer_id)), pa.int64())
        mask = pc.and_(mask, pc.fill_null(pc.equal(table["customer_key"], key), False))
    return mask


def replay_all(
    url: str, options: Mapping[str, Any], tasks: list[Task], jobs: int, told: Callable[[int], None]
) -> Account:
    """Replay all tasks; `told` hears how many decisions are done. ArchiveUnavailable."""
    account = Account()
    if jobs <= 1 or len(tasks) <= 1:
        runner = _Runner(url, options)
        for task in tasks:
            done = account.looked_at
            account.add(runner.run(task, lambda more, before=done: told(before + more)))  # type: ignore[misc]
        return account
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(jobs, len(tasks)), mp_context=context, initializer=_start, initargs=(url, dict(options))
    ) as pool:  # fmt: skip
        for future in as_completed([pool.submit(_run, task) for task in tasks]):
            account.add(future.result())
            told(account.looked_at)
    return account


_runner: _Runner | None = None


def _start(url: str, options: Mapping[str, Any]) -> None:
    global _runner
    _runner = _Runner(url, options)


def _run(task: Task) -> Account:
    assert _runner is not None, "a process of the pool has started with `_start`"
    return _runner.run(task, lambda _done: None)


class _Runner:
    """One process's replays: policies that were made again stay."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._archive = Archive(url, options)
        self._policies = ArchivedPolicies(self._archive)
        self._replayer = Replayer(self._policies)
        self._refused: dict[str, tuple[str, str]] = {}  # policies that cannot be had, and why
        self._loading_s = 0.0

    def run(self, task: Task, told: Callable[[int], None]) -> Account:
        """Replay a task."""
        account, began, loaded = Account(), time.process_time(), self._loading_s
        for one in decided(
            self._archive, task.place, task.since_ms, task.until_ms, positions=task.positions,
            skipped=lambda row, unknown: self._skipped(row, unknown, account),
        ):  # fmt: skip
            self._one(one, account)
            if account.looked_at % TOLD_EVERY == 0:
                told(account.looked_at)
        told(account.looked_at)
        account.loading_s = self._loading_s - loaded
        account.cpu_s = time.process_time() - began - account.loading_s
        return account

    @staticmethod
    def _skipped(row: Row, unknown: Unknown, account: Account) -> None:
        account.missed(row, unknown.why, unknown.detail)

    def _one(self, one: Decided, account: Account) -> None:
        row, policy_id = one.row, one.row.policy_id or ""
        if not self._has(policy_id):
            account.missed(row, *self._refused[policy_id])
            return
        account.policies.add(policy_id)
        try:
            verdict = replay(one, self._replayer)
            found = differences(verdict.recorded, verdict.replayed, verdict.policy)
        except Exception as error:  # whatever it is: the service gave an answer where this one gives none
            found = [Difference("decision", row.outcome, None, f"deciding raises {type(error).__name__}: {error}")]
        if not found:
            account.equal += 1
            return
        account.differ += 1
        if len(account.differing) < KEPT_MAX:
            differing = Differing(
                row.decision_id or "", row.partition, row.position, row.at_ms, policy_id, found, self._hints(policy_id)
            )
            account.differing.append(differing)

    def _has(self, policy_id: str) -> bool:
        if policy_id in self._refused:
            return False
        began = time.process_time()
        try:
            self._replayer.policy(policy_id)
        except NotFound as error:
            self._refused[policy_id] = (POLICY_ABSENT, error.message)
        except ArchiveDamaged as error:
            self._refused[policy_id] = (POLICY_OTHER, error.message)
        spent = time.process_time() - began
        if spent > 0.001:  # it was not there already
            self._loading_s += spent
        return policy_id not in self._refused

    def _hints(self, policy_id: str) -> tuple[str, ...]:
        """What else is not as it was when the policy was in force."""
        hints = []
        try:
            kept, here = self._policies.record(policy_id), software_version()
            if self._policies.zone_moved(policy_id):
                hints.append(f"the tz database here gives {kept.zone} other offsets than when the policy was in force")
            if kept.version != here:
                hints.append(
                    f"the policy was first in force under version {kept.version or '?'}, this is {here or '?'}"
                )
        except DecisionServiceError as error:
            hints.append(error.message)
        return tuple(hints)

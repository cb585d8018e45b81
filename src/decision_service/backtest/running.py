"""A whole backtest: the archive's places one after the other, over a pool of processes that count for themselves.

    place ──segments of the days──▶ tables ──archived──▶ batches ──engine──▶ facts ──▶ tally
                                       └─ rows that columns cannot decide ──histories──▶ plainly ──▶ facts ──▶ tally

Memory a process: TABLE_ROWS rows of the archive at a time; with new features the event logs of one place; with rows
that are decided plainly the states of one place and the facts of these rows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from decision_service.archive.files import Archive, Segment
from decision_service.archive.histories import Decided as DecidedRow
from decision_service.archive.histories import decided as histories_decided
from decision_service.archive.policies import ArchivedPolicies
from decision_service.backtest import place_logs
from decision_service.backtest.archived import COLUMNS, CURRENCY, SEGMENTED_BY, Loaded, View, Views, loaded
from decision_service.backtest.engine import Decided, Engine
from decision_service.backtest.facts import by_currency, facts_of
from decision_service.backtest.known import (
    OUTCOME_COLUMNS,
    ArchivedOutcomes,
    Asked,
    NoOutcomes,
    Outcomes,
    OutcomesFile,
)
from decision_service.backtest.outcome import Outcomes as Answered
from decision_service.backtest.place_logs import PlaceLogs
from decision_service.backtest.plainly import Left, Plainly, put, told
from decision_service.backtest.recomputing import Recomputing
from decision_service.backtest.tally import Tally
from decision_service.core.errors import DecisionServiceError
from decision_service.core.policy import Policy
from decision_service.core.scorecards.manifest import Target
from decision_service.policies.loading import load_policy

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_ROWS: Final = 4_096  # at least: what a chunk of columns likes, and larger segments are not put together
FROM_ARCHIVE: Final = "archive"
_SMALL_ROWS: Final = 50_000  # a pool would take longer to start than this to decide

Say = Callable[[int, int], None]  # decisions done, places left


@dataclass(frozen=True, slots=True)
class Plan:
    """What is backtested over what."""

    rules: Path
    models: Path
    time_zone: str
    reservation_timeout_ms: int
    archive: str
    since_ms: int
    until_ms: int
    lgd: float = 0.45
    card: str | None = None  # whose PD is meant; None: `behaviour`, else the first by name
    flips_max: int = 20
    outcomes: Path | Literal["archive"] | None = None
    target: Target | None = None
    check: int = 0  # decisions that are decided plainly besides, and compared
    jobs: int = 1
    storage_options: Mapping[str, Any] = field(default_factory=dict)  # what fsspec is told beside the address


@dataclass(slots=True)
class Done:
    """What came out. `cpu_s` is the processes' own, without what it took to start them."""

    tally: Tally
    cpu_s: float = 0.0
    checked: int = 0
    differing: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Done) -> None:
        """Add a part."""
        self.tally.add(other.tally)
        self.cpu_s += other.cpu_s
        self.checked += other.checked
        self.differing += other.differing


def candidate_of(plan: Plan) -> Policy:
    """The candidate. PolicyRejected, ScorecardRejected."""
    policy, _ = load_policy(plan.rules, plan.models, plan.time_zone, plan.reservation_timeout_ms)
    return policy


def card_of(plan: Plan, policy: Policy) -> str | None:
    """The scorecard whose PD is meant."""
    if plan.card:
        return plan.card
    return "behaviour" if "behaviour" in policy.scorecards else next(iter(policy.scorecards), None)


def run(plan: Plan, say: Say = lambda _done, _left: None) -> Done:
    """Backtest. Errors of the archive, of a candidate and of an outcomes file."""
    archive = Archive(plan.archive, plan.storage_options)
    places = sorted({segment.place for segment in archive.segments(plan.since_ms, plan.until_ms) if segment.place >= 0})
    by_ms = _newest_ms(archive) if plan.outcomes == FROM_ARCHIVE else 0
    segments = [segment for segment in archive.segments(plan.since_ms, plan.until_ms) if segment.place >= 0]
    small = sum(segment.last - segment.first + 1 for segment in segments) < _SMALL_ROWS
    whole = Done(Tally(plan.lgd, plan.flips_max))
    checks = _checks(plan.check, places)
    if plan.jobs == 1 or small or len(places) < 2:
        worker = Worker(plan, by_ms)
        for i, place in enumerate(places):
            whole.add(worker.place(place, checks.get(place, 0)))
            say(sum(whole.tally.ways.values()), len(places) - i - 1)
        return whole
    with ProcessPoolExecutor(min(plan.jobs, len(places)), get_context("spawn"), _begin, (plan, by_ms)) as pool:
        try:
            futures = [pool.submit(_one, place, checks.get(place, 0)) for place in places]
            for i, future in enumerate(futures):
                whole.add(future.result())
                say(sum(whole.tally.ways.values()), len(places) - i - 1)
        except BaseException:  # nobody waits for what is not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return whole


def _checks(count: int, places: Sequence[int]) -> dict[int, int]:
    """How many decisions of which place are compared: of two places, for each costs a walk through its history."""
    some = places[:: max(1, len(places) // 2)][:2]
    return {place: -(-count // len(some)) for place in some} if some else {}


def _newest_ms(archive: Archive) -> int:
    """The instant of the archive's newest row: up to then outcomes are known."""
    days = archive.days()
    if not days:
        return 0
    newest = [s for s in archive.segments() if s.place >= 0 and s.day == days[-1]]
    return max((int(archive.read(s, ["at_ms"])["at_ms"][-1].as_py()) for s in newest), default=0)


_WORKERS: list[Worker] = []


def _begin(plan: Plan, by_ms: int) -> None:
    import pyarrow as pa

    pa.set_cpu_count(1)  # the processes share the cores among themselves
    _WORKERS[:] = [Worker(plan, by_ms)]


def _one(place: int, check: int) -> Done:
    return _WORKERS[0].place(place, check)


class Worker:
    """What one process keeps from place to place: the candidate, and the archived policies beside it."""

    def __init__(self, plan: Plan, by_ms: int) -> None:
        self._plan, self._by_ms = plan, by_ms
        self.archive = Archive(plan.archive, plan.storage_options)
        self.candidate = candidate_of(plan)
        self.card = card_of(plan, self.candidate)
        self._engine = Engine(self.candidate)
        self.views = Views(self._engine, ArchivedPolicies(self.archive))
        self._plainly = Plainly(self.candidate)
        self._recomputing: dict[int, Recomputing] = {}
        self._file = OutcomesFile(plan.outcomes) if isinstance(plan.outcomes, Path) else None

    def place(self, place: int, check: int = 0) -> Done:
        """Backtest the decisions of one place."""
        began = time.process_time()
        done = Done(Tally(self._plan.lgd, self._plan.flips_max))
        work = _Place(self, place, done, check)
        for table, more in self._tables(place):
            work.take(table, more)
        work.finish()
        done.cpu_s = time.process_time() - began
        return done

    def _tables(self, place: int) -> Iterator[tuple[pa.Table, Callable[[str], Any]]]:
        """Tables of about TABLE_ROWS rows, each with a way to read a further column of the same rows."""
        group: list[Segment] = []
        for segment in [*self.archive.segments(self._plan.since_ms, self._plan.until_ms, [place]), None]:
            full = sum(s.last - s.first + 1 for s in group) >= TABLE_ROWS
            if group and (segment is None or full):
                some = tuple(group)
                yield self.read(some, COLUMNS), partial(self._column, some)
                group = []
            if segment is not None:
                group.append(segment)

    def _column(self, segments: Sequence[Segment], name: str) -> Any:
        return self.read(segments, (name,))[name]

    def read(self, segments: Sequence[Segment], columns: Sequence[str]) -> pa.Table:
        """Some columns of the rows of consecutive segments."""
        import pyarrow as pa

        return pa.concat_tables([self.archive.read(segment, columns) for segment in segments])

    def outcomes(self, place: int) -> Outcomes:
        """What became of the customers of a place."""
        plan = self._plan
        if self._file is not None:
            return self._file
        if plan.outcomes != FROM_ARCHIVE or plan.target is None:
            return NoOutcomes()
        segments = self.archive.segments(plan.since_ms, None, [place])
        return ArchivedOutcomes(self.read(segments, OUTCOME_COLUMNS), plan.target, self._by_ms)

    def logs(self, place: int) -> PlaceLogs:
        """The event logs of a place."""
        return PlaceLogs(self.read(self.archive.segments(None, self._plan.until_ms, [place]), place_logs.COLUMNS))

    def recomputing(self, view: View) -> Recomputing:
        """What computes the new features of a view."""
        key = id(view.shared)
        if key not in self._recomputing:
            self._recomputing[key] = Recomputing(self.candidate, view.shared)
        return self._recomputing[key]

    def decide(self, found: Loaded, logs: Callable[[], PlaceLogs], more: Callable[[str], Any]) -> tuple[Decided, str]:
        """The candidate's answers, and which way they were found."""
        shared, engine = found.view.shared, found.view.engine
        if shared.plain:
            return _undecided(found), "plain"
        if not shared.new:
            return engine.decide(found.batch, found.view.reusable), "columns"
        requests = more("request")
        bodies = [body or b"" for body in requests.take(_arrow(found.rows)).to_pylist()]
        computed, failed = self.recomputing(found.view).computed(
            found.batch, found.texts, bodies, found.customer_keys, logs(), found.positions
        )
        decided = engine.decide(replace(found.batch, computed=computed), found.view.reusable)
        decided.outcomes.plain |= failed
        return decided, "recomputed"

    def plainly(self, one: DecidedRow, view: View) -> Any:
        """One decision by `core.decide`."""
        return self._plainly.decide(one, view)


class _Place:
    """The decisions of one place, on their way into a tally."""

    def __init__(self, worker: Worker, place: int, done: Done, check: int) -> None:
        self._worker, self._place, self._done, self._check = worker, place, done, check
        self._left: list[Left] = []
        self._compared: dict[int, tuple[View, dict[str, Any]]] = {}
        self._logs: PlaceLogs | None = None
        self._outcomes = worker.outcomes(place)

    def take(self, table: pa.Table, more: Callable[[str], Any]) -> None:
        """Decide the rows of a table."""
        worker, tally, plan = self._worker, self._done.tally, self._worker._plan
        for found in loaded(table, worker.views, plan.since_ms, plan.until_ms, lambda: more("answer"), tally.skips):
            decided, way = worker.decide(found, self._logs_of_place, more)
            facts = facts_of(found, decided, self._place, worker.card, SEGMENTED_BY)
            bad, loss = self._outcomes.of(Asked(facts.ids, facts.customer_keys, facts.t_ms))
            facts = replace(facts, bad=bad, loss=loss)
            plain = decided.outcomes.plain
            sure = np.flatnonzero(~plain)
            tally.ways[way] += len(sure)
            tally.policies[found.view.policy.id] += len(facts)
            tally.links |= set(found.view.shared.links)
            tally.computed |= set(found.view.shared.new)
            currencies = found.texts[CURRENCY]
            for part in by_currency(facts, currencies) if len(sure) == len(plain) else ():
                tally.count(part)
            if len(sure) < len(plain):
                self._split(found, facts, plain)
            self._note_checks(found, decided, sure)

    def finish(self) -> None:
        """Decide plainly what is left, and what is compared."""
        worker, done, tally = self._worker, self._done, self._done.tally
        at = {int(p): (left, i) for left in self._left for i, p in enumerate(left.facts.positions)}
        wanted = at.keys() | self._compared.keys()
        decided_rows: set[int] = set()
        for one in self._decided(wanted, tally) if wanted else ():
            position = one.row.position
            view = at[position][0].view if position in at else self._compared[position][0]
            try:
                decision = worker.plainly(one, view)
            except DecisionServiceError as error:
                if position in at:
                    tally.skips[f"the candidate refuses the question: {error.message}"] += 1
                continue
            if position in at:
                put(*at[position], decision, worker.card)
                decided_rows.add(position)
            else:
                done.checked += 1
                told_so, expected = told(decision), self._compared[position][1]
                if told_so != expected:
                    done.differing.append({"decision_id": one.row.decision_id, "columns": expected, "plain": told_so})
        for left in self._left:
            rows = np.flatnonzero([int(p) in decided_rows for p in left.facts.positions])
            tally.ways["plain"] += len(rows)
            tally.count(left.facts.take(rows))

    def _split(self, found: Loaded, facts: Any, plain: Any) -> None:
        """Count what is sure, keep the rest for later."""
        for sure, rows in ((True, np.flatnonzero(~plain)), (False, np.flatnonzero(plain))):
            if not len(rows):
                continue
            codes = found.texts[CURRENCY]
            currencies = type(codes)(codes.codes[rows], codes.values)
            for part in by_currency(facts.take(rows), currencies):
                if sure:
                    self._done.tally.count(part)
                else:
                    self._left.append(Left(found.view, part))

    def _note_checks(self, found: Loaded, decided: Decided, sure: Any) -> None:
        """Some sure answers, spread over the batch, to be compared with plain ones."""
        room = self._check - len(self._compared)
        if room <= 0 or not len(sure):
            return
        for i in sure[:: max(1, len(sure) // room)][:room].tolist():
            self._compared[int(found.positions[i])] = (found.view, decided.outcomes.answer(i))

    def _decided(self, positions: Any, tally: Tally) -> Iterator[DecidedRow]:
        def skipped(row: Any, why: Any) -> None:
            if row.position not in self._compared:
                tally.skips[f"no state before it: {why.why}"] += 1

        return histories_decided(self._worker.archive, self._place, positions=positions, skipped=skipped)

    def _logs_of_place(self) -> PlaceLogs:
        if self._logs is None:
            self._logs = self._worker.logs(self._place)
        return self._logs


def _undecided(found: Loaded) -> Decided:
    """Nothing is known of the candidate's answers: all of them are left to `core.decide`."""
    n, spec = found.batch.count, found.view.engine.scene.rule_set.spec
    out = Answered(n)
    out.plain[:] = True
    return Decided(out, np.zeros((len(spec.rules), n), np.uint8), np.zeros((len(spec.blocks), n), np.int32), {})


def _arrow(rows: Any) -> Any:
    import pyarrow as pa

    return pa.array(rows)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))

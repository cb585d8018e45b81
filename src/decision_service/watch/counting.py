"""Counting: what every scorecard sees and says, added up while the service decides, after each answer has left.

    Done (afterwards) ──take──▶ tallies in memory, one a series and day ──every FLUSH_S──▶ increments in the store

Nothing here is waited for by an answer. A batch is gathered and counted with NumPy in one go for each series, or
counted in pieces if it has hundreds of features, giving way between them. What is in memory is bounded: one tally for
each scorecard, role, scene and day, however many decisions.

Increments are given to the store at most once: those that the store refused are kept and given later, together with
what came meanwhile; those whose outcome is unknown are dropped, for counting twice would be wrong for ever. A crash
loses what was counted since the last flush. Sums over workers, hosts and restarts are exact otherwise.

The day is the local day, in the policy's time zone, of the instant a decision was made.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.afterwards import Done
from decision_service.core.decision import Decision, Score
from decision_service.core.errors import OutcomeUnknown, StoreError
from decision_service.core.limits import DAY_MS
from decision_service.core.policy import Policy
from decision_service.core.request import DRAWDOWN_SCENE
from decision_service.core.scorecards.scorecard import Scorecard
from decision_service.scorecards.shadows import ShadowScores
from decision_service.store import Store
from decision_service.telemetry import Meters
from decision_service.watch.said import CHALLENGER, SHADOW, said_by
from decision_service.watch.series import Series, series_of
from decision_service.watch.tally import Answered, Bins, Floats, Seen, Tally

LOG = logging.getLogger("decision_service.watch")
FLUSH_S: Final = 5.0
STORE_TIMEOUT_S: Final = 2.0
CLOSE_S: Final = 1.0
DAYS_KEPT: Final = 400  # of counts; as long as events by default
_PLACES_MAX: Final = 256  # series of policies that were in force lately

_Key = tuple[Series, int]  # and the local day
_Row = tuple[int, Score, Answered]  # of a run of decisions: which of them, what was said of it and answered


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one policy's scene has what a scorecard saw."""

    series: Series
    bins: Bins
    gather: npt.NDArray[np.intp]

    def seen(self, numbers: Floats, rows: Sequence[_Row]) -> Iterable[Seen]:
        """What the scorecard saw and said of some decisions among `numbers`, in one go."""
        at, scores, answers = zip(*rows, strict=True)
        return map(Seen, numbers.take(at, axis=0).take(self.gather, axis=1), scores, answers)


class DriftCounting:
    """One worker's counts. `take` batches of decisions; `start` and `close` it with the worker."""

    def __init__(self, store: Store, meters: Meters) -> None:
        self._store = store
        self._meters = meters
        self._places: dict[tuple[bytes, str, str, str, str], _Place] = {}
        self._bins: dict[Series, Bins] = {}
        self._tallies: dict[_Key, Tally] = {}
        self._task: asyncio.Task[None] | None = None

    async def take(self, batch: Sequence[Done]) -> None:
        """Count the scores that decisions rested on, champion's and challenger's."""
        groups: dict[_Key, list[Seen]] = defaultdict(list)
        for run in runs_of(batch):
            parts: dict[tuple[str, str, int], list[_Row]] = defaultdict(list)
            for at, done in enumerate(run):
                answered, day = answered_by(done.decision), local_day(done)
                for name, score in done.decision.scores.items():
                    for role, _, said in said_by(score, score.role):
                        parts[name, role, day].append((at, said, answered))
            policy, numbers = run[0].policy, numbers_of(run)
            for (name, role, day), rows in parts.items():
                card = policy.challengers[name].scorecard if role == CHALLENGER else policy.scorecards[name]
                place = self._place(policy, run[0].scene, card, role)
                groups[place.series, day] += place.seen(numbers, rows)
        await self._count(groups)

    async def take_shadows(self, batch: Sequence[tuple[Done, ShadowScores]]) -> None:
        """Count what shadow scorecards said of decisions."""
        groups: dict[_Key, list[Seen]] = defaultdict(list)
        for done, told in batch:
            answered = answered_by(done.decision)
            day, numbers = local_day(done), np.frombuffer(done.numbers, np.float64)
            for slot in done.policy.scenes[done.scene].shadow_slots:
                card = slot.scorecard
                score = shadow_score(told[card.name][card.version], card.version)
                place = self._place(done.policy, done.scene, card, SHADOW)
                groups[place.series, day].append(Seen(numbers.take(place.gather), score, answered))
        await self._count(groups)

    async def _count(self, groups: Mapping[_Key, Sequence[Seen]]) -> None:
        for key, seen in groups.items():
            bins = self._bins[key[0]]
            for start in range(0, len(seen), bins.rows_at_once):
                tally = self._tallies.get(key)  # which a flush may have taken meanwhile
                if tally is None:
                    tally = self._tallies[key] = Tally.empty(bins.rows)
                tally.count(bins, seen[start : start + bins.rows_at_once])
                await asyncio.sleep(0)

    def _place(self, policy: Policy, scene: str, card: Scorecard, role: str) -> _Place:
        """Kept for each policy, so that a decision looks up and does not lay out."""
        key = (policy.content, scene, card.name, card.version, role)
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= _PLACES_MAX:
                self._places.clear()
            numbers = policy.scenes[scene].layout.numbers
            series = series_of(card.manifest, role, scene)
            bins = self._bins.setdefault(series, Bins(card.manifest))
            gather = np.array([numbers[name] for name in card.names], np.intp)
            place = self._places[key] = _Place(series, bins, gather)
        return place

    def start(self) -> None:
        """Begin to flush."""
        self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Stop; what is counted is flushed if the store is quick about it, and otherwise lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.flush()
        if self._tallies:
            LOG.warning("the counts of %d decisions are lost: the worker stops", self._waiting)

    @property
    def _waiting(self) -> int:
        return sum(tally.n for tally in self._tallies.values())

    async def flush(self) -> None:
        """Give the store all that is counted. StoreError if it refuses; then what it did not take is still there."""
        while self._tallies:
            key = next(iter(self._tallies))
            tally = self._tallies.pop(key)
            series, day = key
            try:
                await self._store.add_tally(series.name, day, tally.fields(), DAYS_KEPT, STORE_TIMEOUT_S)
            except OutcomeUnknown:
                LOG.warning("the counts of %d decisions may be lost: the store did not answer", tally.n)
                raise
            except StoreError:
                self._give_back(key, tally)
                raise

    def _give_back(self, key: _Key, tally: Tally) -> None:
        newer = self._tallies.get(key)
        if newer is None:
            self._tallies[key] = tally
        else:
            newer.add(tally)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except StoreError as error:
                self._meters.count_store_error(error.code)
            except Exception as error:  # a mistake of ours must not end the counting
                LOG.error("counts could not be flushed", exc_info=error)


def runs_of(batch: Sequence[Done]) -> Iterator[Sequence[Done]]:
    """A batch in runs that one policy's scene decided: nearly always one run."""
    return (list(run) for _, run in groupby(batch, key=lambda done: (id(done.policy), done.scene)))


def numbers_of(run: Sequence[Done]) -> Floats:
    """The numbers that the rules of a run's decisions saw: float64[decisions, numbers of the scene]."""
    return np.frombuffer(b"".join([done.numbers for done in run]), np.float64).reshape(len(run), -1)


def shadow_score(told: Mapping[str, Any], version: str) -> Score:
    """A shadow's score as it is recorded."""
    return Score(told["points"], told["pd"], told["grade"], version, told["problem"] or "")


def answered_by(decision: Decision) -> Answered:
    """What is counted of an answer."""
    approved = is_approved(decision.scene, decision.decision, decision.approved_minor)
    return Answered(decision.decision, decision.hold, approved, decision.rung)


def is_approved(scene: str, decision: str, approved: float) -> bool:
    """A drawdown of which something is paid out; a review that is not held."""
    return approved > 0 if scene == DRAWDOWN_SCENE else decision != "hold"


def local_day(done: Done) -> int:
    """Days since 1970-01-01 in the policy's time zone."""
    at_ms = done.decision.decided_at_ms
    return (at_ms + done.policy.zone.offset_at(at_ms)) // DAY_MS

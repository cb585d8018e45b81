"""The consumer: looks round all places of a store again and again, and has those written that are due.

    look ──▶ how much waits in each place, and since when ──▶ due: many rows wait, or one has waited for long
                                                               └─ write, PLACES_AT_ONCE at a time

Nothing is read before it is due: until then it waits in the store, where it is safe. A place that has few rows makes
few files this way, and what is in memory is a segment or two.

Several consumers may look round one store; each place is written by whoever has its lease, and stays with them while it
is busy. A place that fails (its store away, a disk full, an archive that cannot be reached) waits longer and longer and
is tried again for ever; the others go on. Nothing of it is trimmed meanwhile, and its lease is given back: the disk of
another consumer may not be full.

A consumer asked to stop finishes the segments under way and gives its places back. Killed, it leaves what the next one
needs (`writer.py`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Protocol

from decision_service.archive.schema import ACCESS, LISTS, POLICY
from decision_service.archive.writer import Told, Writer
from decision_service.core.errors import DecisionServiceError, StoreError
from decision_service.store import Store
from decision_service.store.outbox import OutboxState
from decision_service.telemetry.logs import places_of

LOG = logging.getLogger("decision_service.archive")
LOOK_S: Final = (0.25, 5.0)  # between two looks: while there is much to do, and otherwise
LOOKS_AT_ONCE: Final = 64  # places asked after in one go
PLACES_AT_ONCE: Final = 2  # written at a time: one is computed while the other waits for disk or store
STORE_TIMEOUT_S: Final = 5.0
BACKOFF_S: Final = (1.0, 30.0)  # first and longest wait of a place that failed
NO_PLACE: Final = -100  # stands for the store as a whole
STOP_S: Final = 8.0  # for the segments under way


class Meters(Told, Protocol):
    """What a consumer tells of itself."""

    def archive_failed(self, code: str) -> None:
        """A place could not be written, by the error's code."""
        ...

    def set_archive(self, lag_s: float, backlog: int) -> None:
        """The age of the oldest entry that is not archived yet, and how many there are."""
        ...


@dataclass(slots=True)
class Done:
    """What a call of `drain` came to."""

    rows: int = 0
    held: int = 0  # places with something waiting that another consumer has
    failed: dict[int, str] = field(default_factory=dict)  # by place, why it could not be written


class Consumer:
    """One consumer of a store's outbox streams."""

    def __init__(
        self, store: Store, writer: Writer, meters: Meters, partitions: int, rows_max: int, flush_s: float,
        now_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self._store = store
        self._writer = writer
        self._meters = meters
        self._rows_max = rows_max
        self._flush_ms = int(flush_s * 1_000)
        self._now_ms = now_ms
        self._places = [*range(partitions), POLICY, LISTS, ACCESS]
        self._waits: dict[int, tuple[float, float]] = {}  # by place that failed: not before, and the wait after that
        self._problems: dict[int, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Archive until `stop` is set. Raises nothing."""
        while not stop.is_set():
            busy = await self._round(stop)
            if not stop.is_set():
                await _wait(stop, LOOK_S[0] if busy else LOOK_S[1])
        await self._leave()

    async def drain(self, stop: asyncio.Event) -> Done:
        """Archive everything that waits now, however little or young it is; what it came to. StoreError if the store
        cannot even be asked."""
        done = Done()
        states = await self._look()
        waiting = [place for place, state in states.items() if state.waiting]
        for place in waiting:
            if stop.is_set():
                break
            try:
                while (rows := await self._writer.write(place)) and not stop.is_set():
                    done.rows += rows
                done.held += rows is None
            except DecisionServiceError as error:
                self._meters.archive_failed(error.code)
                done.failed[place] = error.message
        await self._leave()
        return done

    # --- looking --------------------------------------------------------------------------------------------------

    async def _look(self) -> Mapping[int, OutboxState]:
        """How much waits in each place. StoreError."""
        states: dict[int, OutboxState] = {}
        for start in range(0, len(self._places), LOOKS_AT_ONCE):
            some = self._places[start : start + LOOKS_AT_ONCE]
            told = await asyncio.gather(*(self._store.outbox_state(place, STORE_TIMEOUT_S) for place in some))
            states.update(zip(some, told, strict=True))
        waiting = [state for state in states.values() if state.waiting]
        oldest_ms = min((state.oldest_waiting_ms for state in waiting), default=0)
        lag_ms = max(0, self._now_ms() - oldest_ms) if oldest_ms else 0
        self._meters.set_archive(lag_ms / 1_000, sum(state.waiting for state in waiting))
        return states

    def _due(self, states: Mapping[int, OutboxState]) -> list[int]:
        """The places to be written now, in an order of this consumer's own, so that several seldom want the same."""
        before_ms = self._now_ms() - self._flush_ms
        now = monotonic()
        due = [
            place
            for place, state in states.items()
            if state.waiting
            and (state.waiting >= self._rows_max or state.oldest_waiting_ms <= before_ms)
            and self._waits.get(place, (0.0, 0.0))[0] <= now
        ]
        random.shuffle(due)
        return due

    async def _round(self, stop: asyncio.Event) -> bool:
        """Look, and write what is due; whether there was anything."""
        try:
            due = self._due(await self._look())
        except StoreError as error:
            self._failed(None, error)
            return False
        self._well(None)
        await self._write_all(due, stop)
        return bool(due)

    # --- writing --------------------------------------------------------------------------------------------------

    async def _write_all(self, due: Sequence[int], stop: asyncio.Event) -> None:
        """Write places, PLACES_AT_ONCE at a time. Of one that has more than a segment only the first is written: others
        get their turn."""
        places = iter(due)

        async def work() -> None:
            for place in places:
                if stop.is_set():
                    return
                await self._write(place)

        tasks = [asyncio.create_task(work()) for _ in range(PLACES_AT_ONCE)]
        stopping = asyncio.create_task(stop.wait())
        try:
            all_done = asyncio.gather(*tasks)
            await asyncio.wait((all_done, stopping), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((all_done,), timeout=STOP_S)
        finally:
            stopping.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)

    async def _write(self, place: int) -> None:
        try:
            await self._writer.write(place)
        except Exception as error:  # of whatever sort: this place waits, and the others are written all the same
            self._failed(place, error)
            with suppress(StoreError):
                await self._writer.give_back(place)
        else:
            self._well(place)

    def _failed(self, place: int | None, error: Exception) -> None:
        """Count and remember a failure; it is logged when it is another than before."""
        known = isinstance(error, DecisionServiceError)
        self._meters.archive_failed(error.code if isinstance(error, DecisionServiceError) else "internal")
        at = NO_PLACE if place is None else place
        if place is not None:
            _, wait_s = self._waits.get(place, (0.0, BACKOFF_S[0]))
            self._waits[place] = (monotonic() + wait_s * random.uniform(0.5, 1.0), min(2 * wait_s, BACKOFF_S[1]))
        problem = str(error) if known else places_of(error)
        if self._problems.get(at) != problem and problem not in self._problems.values():
            LOG.error("%s cannot be archived now: %s", "the store" if place is None else f"place {place}", problem)
        self._problems[at] = problem

    def _well(self, place: int | None) -> None:
        at = NO_PLACE if place is None else place
        self._waits.pop(at, None)
        if self._problems.pop(at, None) is not None and not self._problems:
            LOG.info("the archive goes on")

    async def _leave(self) -> None:
        try:
            await self._writer.leave()
        except StoreError as error:
            LOG.warning("places are kept until their lease ends: %s", error.message)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not once it is time to stop."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


def told_problems(done: Done) -> Iterable[str]:
    """What kept places from being written, each problem once."""
    return dict.fromkeys(done.failed.values())

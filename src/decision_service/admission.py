"""Admission: overload is told at once, with 503 `too-busy`, and never found out by a time-out.

A worker is one thread that works a little at everything it took in, so what a new request waits for is the CPU time of
all that is under way and does not wait for something else (a store that stands still costs no CPU). How old it will be
when it is answered is therefore known beforehand:

    age when answered  =  how long its bytes are here already  +  sum of (requests under way x CPU time of one), by rank

    under way   less those that were under way when the loop last rested: a loop that rests has done all it could, so
                they wait for the store or the journal, and will hardly come back all at once

Ranks differ in what they may do when there is much to do:

    draw      money waits for it. Let in if the predicted age is at most SHARES of its budget (the caller's
              `deadline_ms`; the default as long as that is not read), else refused. When the queue is half full, a
              caller with more than a fair part of it (all callers' parts equal) is refused before the others
    preview   begins only while what is under way leaves draws their room, else waits in line for its turn
    other     the same, behind the previews; in a line callers take turns, so that one who sends much does not stand in
              front of one who sends little. Who would wait longer than WAIT_S is refused
    (none)    probes and metrics are always let in

    costs     CPU time of one request, and what it waited for a CPU, by rank: from everything this thread did in windows
              of WINDOW_S that were busy (in one that mostly slept background work would count)
    came      bytes that are read now were not there when the loop last looked; if it had no rest since then, that is
              all that is known, and the age counts from there
    rest      nothing was done for REST_S, and the thread went to sleep by its own will: one that others pushed off its
              CPU did not rest

Instants are those of `perf_counter`, in seconds. One thread, the event loop's, calls everything here.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict, deque
from enum import IntEnum
from time import perf_counter
from typing import Final

WINDOW_S: Final = 0.05
WINDOW_REQUESTS_MIN: Final = 8
BUSY_MIN: Final = 0.5  # share of a window that the thread must have run, or wanted to, for its cost to be believed
COST_WEIGHT: Final = 0.3  # of what the newest window says
COST_MIN_S: Final = 0.00002
COST_MAX_S: Final = 0.05
FREE: Final = 4  # so many draws are let in whatever the prediction, or a wrong one could shed everything for ever
FREE_BEHIND: Final = 2  # so many of the other ranks are under way whatever the prediction
WAIT_S: Final = 5.0  # the longest that those stand in line
REST_S: Final = 0.0005  # nothing done for so long: the loop may have slept, and what woke it has just come
RETRY_AFTER_S: Final = (1, 2, 3)  # told in turn, so that those who were shed together do not come back together


class Rank(IntEnum):
    """What outranks what."""

    DRAW = 0
    PREVIEW = 1
    OTHER = 2


SHARES: Final = (0.7, 0.5, 0.35)
"""The part of a budget that the predicted age may take, by rank. The rest is for what is not CPU (the store) and for
the requests whose cost is above the mean. For the ranks behind the draws it is a part of the default budget: so much of
the draws' time they may take."""
COSTS_FIRST_S: Final = (0.00025, 0.0005, 0.0005)  # until they are measured
assert len(SHARES) == len(COSTS_FIRST_S) == len(Rank)
assert list(SHARES) == sorted(SHARES, reverse=True)


class Line:
    """Those who wait for their turn: callers take turns, each with its oldest request."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.length = 0

    def join(self, caller: str) -> asyncio.Future[None]:
        """A new place; its result is the turn."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._callers.setdefault(caller, deque()).append(place)
        self.length += 1
        return place

    def call_next(self) -> bool:
        """Give the next one its turn; False if nobody waits."""
        while self._callers:
            caller, places = self._callers.popitem(last=False)
            place = places.popleft()
            if places:
                self._callers[caller] = places  # at the end
            self.length -= 1
            if not place.done():
                place.set_result(None)
                return True
        return False


class Admission:
    """What one worker has taken in, and whether it can take in more."""

    def __init__(self, budget_s: float, requests_max: int = 1_000_000) -> None:
        """`budget_s` holds for requests that name none; `requests_max` may be here at once in any case."""
        self.budget_s = budget_s
        self.requests_max = requests_max
        self.here = 0  # requests that the gate holds; those whose bodies are still coming cost nothing
        self.coming = 0  # let in by a connection, and their task has not begun
        self.taken = 0  # under way or coming
        self._crowd = min(FREE, requests_max)
        self.under_way = [0] * len(Rank)
        self.at_rest = [0] * len(Rank)  # of them, those that were when the loop last rested
        self.costs_s = list(COSTS_FIRST_S)
        self._previews, self._others = Line(), Line()
        self._lines = (Line(), self._previews, self._others)  # draws never stand in line
        self._callers: dict[str, int] = {}  # draws under way
        self._done = [0] * len(Rank)
        self._window: tuple[float, list[int], float] | None = None
        self._retry = 0
        self._looked = self._worked = self._came = perf_counter()
        self._tick = 0.0
        self._sleeps = sleeps_of_thread()

    # --- who is let in --------------------------------------------------------------------------------------------

    def load_s(self) -> float:
        """The CPU time that everything under way takes, but for what waits for something else."""
        (draws, previews, others), (draw_s, preview_s, other_s) = self.under_way, self.costs_s
        resting_draws, resting_previews, resting_others = self.at_rest
        return (
            (draws - resting_draws + self.coming) * draw_s
            + (previews - resting_previews) * preview_s
            + (others - resting_others) * other_s
        )

    def crowded(self) -> bool:
        """Whether a draw has to be judged at all: cheap, and False in quiet times."""
        return self.taken >= self._crowd

    def full(self) -> bool:
        """Whether there are as many requests, under way or in line, as there may be."""
        return self.taken + self._previews.length + self._others.length >= self.requests_max

    def sheds_draw(self, caller: str | None, age_s: float, budget_s: float) -> bool:
        """Whether a draw that is so old and came from `caller` (None: not known yet) has to be refused."""
        if self.under_way[Rank.DRAW] + self.coming < FREE:
            return False
        room_s = budget_s * SHARES[Rank.DRAW]
        predicted_s = age_s + self.load_s()
        if predicted_s > room_s:
            return True
        if predicted_s <= room_s / 2 or caller is None:
            return False
        callers = len(self._callers) + (caller not in self._callers)
        return callers > 1 and self._callers.get(caller, 0) * callers * self.costs_s[Rank.DRAW] > room_s

    def too_late(self, age_s: float, budget_s: float) -> bool:
        """Whether a draw that was let in turns out to have too small a budget for what is under way with it."""
        return self.under_way[Rank.DRAW] > FREE and age_s + self.load_s() > budget_s

    def sheds_behind(self, rank: Rank) -> bool:
        """Whether the line of a rank behind the draws is longer than anybody may wait."""
        return self._lines[rank].length * self.costs_s[rank] > WAIT_S

    async def turn(self, rank: Rank, caller: str) -> bool:
        """Wait in line until a request of a rank behind the draws may begin; False if it waited too long."""
        if not self._lines[rank].length and self._has_room(rank):
            return True
        place = self._lines[rank].join(caller)
        try:
            async with asyncio.timeout(WAIT_S):
                await place
        except TimeoutError:
            return place.done() and not place.cancelled()
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._call_next()  # the turn came while it was given up
            raise
        return True

    def _has_room(self, rank: Rank) -> bool:
        behind = self.under_way[Rank.PREVIEW] + self.under_way[Rank.OTHER]
        return behind < FREE_BEHIND or self.load_s() + self.costs_s[rank] <= self.budget_s * SHARES[rank]

    def _call_next(self) -> None:
        for rank in (Rank.PREVIEW, Rank.OTHER):
            if self._lines[rank].length and self._has_room(rank) and self._lines[rank].call_next():
                return

    def retry_after_s(self) -> int:
        """When to tell the next one that is shed to come back."""
        self._retry = (self._retry + 1) % len(RETRY_AFTER_S)
        return RETRY_AFTER_S[self._retry]

    # --- what is under way ----------------------------------------------------------------------------------------

    def expect(self) -> None:
        """A task will arrive for a request that was let in."""
        self.coming += 1
        self.taken += 1

    def arrive(self) -> None:
        """It is here (one that was not expected may come as well: there is no connection in a test)."""
        self.here += 1
        if self.coming:
            self.coming -= 1
            self.taken -= 1

    def leave(self) -> None:
        """It was answered, or given up."""
        self.here -= 1
        self._worked = perf_counter()

    def begin(self, rank: Rank, caller: str | None = None) -> None:
        """It is worked at from now on. `caller` of a draw, to be named at the `end` too, as soon as it is known."""
        self.under_way[rank] += 1
        self.taken += 1
        if caller is not None:
            self._callers[caller] = self._callers.get(caller, 0) + 1

    def end(self, rank: Rank, caller: str | None = None) -> None:
        """It is no longer; the next in line has its turn if there is room."""
        self.under_way[rank] -= 1
        self.taken -= 1
        self._done[rank] += 1
        if self.at_rest[rank]:
            self.at_rest[rank] -= 1  # the oldest end first, mostly; if not, the queue is thought longer than it is
        if caller is not None:
            left = self._callers[caller] - 1
            if left:
                self._callers[caller] = left
            else:
                del self._callers[caller]
        if self._previews.length or self._others.length:
            self._call_next()

    # --- what is measured -----------------------------------------------------------------------------------------

    def look(self, tick: float) -> float:
        """The instant since when bytes that are read now may have been there. `tick` is the loop's own time, which
        stands still while it goes through what one look at the sockets found."""
        if tick != self._tick:
            now, sleeps = perf_counter(), sleeps_of_thread()
            if now - self._worked >= REST_S and sleeps != self._sleeps:
                self._came = now
                self.at_rest[:] = self.under_way
            else:
                self._came = self._looked
            self._looked, self._tick, self._sleeps = now, tick, sleeps
        return self._came

    def worked(self) -> None:
        """Something was done just now: the loop does not rest."""
        self._worked = perf_counter()

    def measure(self, wanted_s: float) -> None:
        """Close the window if it is long enough; call it every few ms with the time for which the loop's thread ran or
        wanted to run, from any beginning."""
        now = perf_counter()
        if self._window is None:
            self._window = (now, self._done.copy(), wanted_s)
        began, done, wanted_before_s = self._window
        if now - began < WINDOW_S:
            return
        self._window = (now, self._done.copy(), wanted_s)
        busy_s = min(wanted_s - wanted_before_s, now - began)
        finished = [after - before for after, before in zip(self._done, done, strict=True)]
        if sum(finished) >= WINDOW_REQUESTS_MIN and busy_s >= BUSY_MIN * (now - began):
            self._learn(finished, busy_s)

    def _learn(self, finished: list[int], busy_s: float) -> None:
        """Correct the costs by what they said wrongly of a window, each by its part in it (normalised least mean
        squares of the relative errors)."""
        told = [number * cost_s for number, cost_s in zip(finished, self.costs_s, strict=True)]
        step = COST_WEIGHT * (busy_s - sum(told)) / sum(part * part for part in told)
        for rank, part in enumerate(told):
            cost_s = self.costs_s[rank] * (1.0 + step * part)
            self.costs_s[rank] = min(max(cost_s, COST_MIN_S), COST_MAX_S)


def sleeps_of_thread() -> int:
    """How often the calling thread went to sleep by its own will; where that is not told for a thread, for all of
    them. Half a microsecond."""
    return resource.getrusage(_RUSAGE_WHO).ru_nvcsw


_RUSAGE_WHO: Final[int] = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)

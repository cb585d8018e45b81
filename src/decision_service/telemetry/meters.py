"""Meters: what is counted, under which bounded labels, and the methods that count it.

Every combination of labels has its own cell from the start, so counting is an index and an addition; nothing
is looked up by a formatted name and nothing can grow. Latencies are seconds.

The times of decisions are the one thing that is not counted at once: they wait until there are FOLD_AT, until a beat of
the loop folds them (twice a second), or until this worker's own page is asked for. So a page of another worker misses
some of the last half second, and a worker that is killed takes the times of so many decisions with it, never their
number.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
from prometheus_client.metrics_core import Metric

from decision_service.admission import Rank
from decision_service.core import errors
from decision_service.core.links import LINK_GRAINS
from decision_service.core.reasons import TEXTS, Reason
from decision_service.core.request import DRAWDOWN_SCENE, SCENES
from decision_service.telemetry.cells import CellFile, Layout, Totals, fold_retired, read_totals

OUTCOMES: Final = ("approve", "reprice", "limit_change", "hold")
RUNGS: Final = ("full", "no_links", "no_score", "static")
FLAGS: Final = ("false", "true")
LINK_RESULTS: Final = ("appended", "duplicate", "old", "refused", "unresolved", "unreadable", "left")
"""What becomes of links: `store.LinkCounts`; `unresolved` concern a decision that is not this customer's. And commits
as a whole: `unreadable` ones stay where they are; `left` are those for which there was no room in memory, so that
whoever sweeps their partition finds them."""
OTHER: Final = "other"
RANKS: Final = tuple(rank.name.lower() for rank in Rank)
STORE_SERVERS_MAX: Final = 8  # servers of a store that are told apart; the last one stands for all further ones
STORE_WAYS: Final = ("reads", "writes")
BREAKERS: Final = STORE_SERVERS_MAX * len(STORE_WAYS)
RESEND_RESULTS: Final = ("refused", "sent")
CONSUMERS: Final = ("shadows", "drift")  # of decisions that are made (`afterwards.py`)
TAKEN: Final = ("taken", "failed", "dropped")  # dropped: never given to the consumer, for want of room or time
ACCESS_RESULTS: Final = ("written", "failed", "dropped")
"""What becomes of reads of personal data (`archive/access.py`): a failed one is tried again, a dropped one is lost."""
JOURNAL_RESULTS: Final = ("written", "replayed", "refused", "late", "delivered", "never_told", "conflict")
"""What becomes of static answers: `written` and told; `replayed` from the journal; `refused`: the journal failed;
`late`: not durable by the deadline; `delivered` to the store; `never_told`: dropped, for the store has the answer that
was told, or for it approves and nobody looked whether it may; `conflict`: the store has another."""
RULES_WRONG_MAX: Final = 64  # rules counted by name that go wrong at run time; the rest together
STATUSES: Final = (
    200, 201, 204, 304, 400, 401, 403, 404, 405, 406, 408, 409, 413, 415, 421, 422, 429, 431, 500, 503, 0,
)  # fmt: skip
"""The statuses the service answers with; 0 gathers any other."""


class Stage(IntEnum):
    """The stages of a decision, in the order they run; `TOTAL` is arrival to answer."""

    PARSE = 0
    READ = 1
    FEATURES = 2
    SCORE = 3
    RULES = 4
    COMMIT = 5
    SERIALISE = 6
    TOTAL = 7


STAGES: Final = tuple(stage.name.lower() for stage in Stage)
BOUNDS_S: Final = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03,
    0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
)  # fmt: skip
_BUCKETS: Final = len(BOUNDS_S) + 1  # the last one is above every bound
_HISTOGRAM_CELLS: Final = _BUCKETS + 1  # and the sum
_STAGE_CELLS: Final = np.arange(len(STAGES)) * _HISTOGRAM_CELLS
FOLD_AT: Final = 64  # decisions: 40 us together


def store_error_codes() -> Iterator[str]:
    """The codes of the store's errors; only of those the tree itself defines, so that every process agrees."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.StoreError):
            yield kind.code


class Meters:
    """One worker's counters. Without a directory they live in a private one-process file."""

    def __init__(self, directory: Path, routes: Sequence[str] = ()) -> None:
        """`routes` are the templates (`POST /v1/decisions`) that HTTP requests are counted under."""
        self.routes = (*routes, OTHER)
        self.also_told: list[Callable[[], Iterable[Metric]]] = []  # families that are not cells, told as they are
        self._error_codes = (*sorted(store_error_codes()), OTHER)
        self._reason_codes = (*TEXTS, OTHER)
        groups = {
            "store_breakers": [f"{server} {way}" for server, way in product(range(STORE_SERVERS_MAX), STORE_WAYS)],
            "store_lost": [""],
            "in_flight": [""],
            "links_waiting": [""],
            "afterwards_waiting": [""],
            "policy_problems": [""],
            "link_lag": [""],
            "policy_skew": [""],
            "loop_lag": [""],
            "request_cost": [""],
            "decisions": [" ".join(labels) for labels in product(SCENES, OUTCOMES, RUNGS, FLAGS)],
            "reasons": list(self._reason_codes),
            "store_errors": list(self._error_codes),
            "store_breakers_opened": [f"{s} {way}" for s, way in product(range(STORE_SERVERS_MAX), STORE_WAYS)],
            "store_resends": list(RESEND_RESULTS),
            "store_forgotten": [""],
            "links": list(LINK_RESULTS),
            "links_missed": list(LINK_GRAINS),
            "afterwards": [" ".join(labels) for labels in product(CONSUMERS, TAKEN)],
            "journal": list(JOURNAL_RESULTS),
            "accesses": list(ACCESS_RESULTS),
            "reloads": ["failed", "ok"],
            "rollbacks": [""],
            "rate_limited": [""],
            "shed": list(RANKS),
            "loop_blocks": [""],
            "loop_blocked": [""],
            "requests": [f"{route} {status}" for route, status in product(self.routes, STATUSES)],
            "stages": [f"{stage} {cell}" for stage, cell in product(STAGES, range(_HISTOGRAM_CELLS))],
        }
        self.start: dict[str, int] = {}
        names: list[str] = []
        for group, members in groups.items():
            self.start[group] = len(names)
            names += [f"{group} {member}" for member in members]
        self.layout = Layout(tuple(names), gauges=9 + BREAKERS, extremes=4, named=RULES_WRONG_MAX)
        self.directory = directory
        fold_retired(directory, self.layout)
        self._file = CellFile(directory, self.layout)
        self._cells = self._file.cells
        self._decisions = {
            labels: self.start["decisions"] + i
            for i, labels in enumerate(product(SCENES, OUTCOMES, RUNGS, (False, True)))
        }
        self._reasons = {code: self.start["reasons"] + i for i, code in enumerate(self._reason_codes)}
        self._store_errors = {code: self.start["store_errors"] + i for i, code in enumerate(self._error_codes)}
        self._routes = {route: self.start["requests"] + i * len(STATUSES) for i, route in enumerate(self.routes)}
        self._statuses = {status: i for i, status in enumerate(STATUSES)}
        self._answered = {
            (route, status): self._routes[route] + i for route, (i, status) in product(self.routes, enumerate(STATUSES))
        }
        self._in_flight = self.start["in_flight"]
        self._stages = tuple(self.start["stages"] + i * _HISTOGRAM_CELLS for i in range(len(STAGES)))
        self._times = array("d")  # of whole decisions, one behind the other

    def count_decision(self, outcome: str, rung: str, replayed: bool = False, scene: str = DRAWDOWN_SCENE) -> None:
        """One answer given; `replayed` if it was a stored one."""
        self._cells[self._decisions[scene, outcome, rung, replayed]] += 1.0

    def count_rule_wrong(self, scene: str, rule: str) -> None:
        """One rule or block of a scene that could not be evaluated and took its `on_null`."""
        self._file.count_named(f"{scene} {rule}")

    def count_reasons(self, reasons: Iterable[Reason]) -> None:
        """The reasons given with one answer."""
        cells, places = self._cells, self._reasons
        other = places[OTHER]
        for reason in reasons:
            cells[places.get(reason.code, other)] += 1.0

    def count_store_error(self, code: str) -> None:
        """One failure of the store, by the error's `code`."""
        self._cells[self._store_errors.get(code, self._store_errors[OTHER])] += 1.0

    def store_breaker(self, server: int, way: int, is_open: bool) -> None:
        """See `store.noticed.Noticed`. Further servers than STORE_SERVERS_MAX share the last place."""
        at = min(server, STORE_SERVERS_MAX - 1) * len(STORE_WAYS) + way
        self._cells[self.start["store_breakers"] + at] += 1.0 if is_open else -1.0
        if is_open:
            self._cells[self.start["store_breakers_opened"] + at] += 1.0

    def store_resend(self, granted: bool) -> None:
        """See `store.noticed.Noticed`."""
        self._cells[self.start["store_resends"] + granted] += 1.0

    def store_history(self, lost: bool, forgotten_beats: int) -> None:
        """See `store.noticed.Noticed`."""
        self._cells[self.start["store_lost"]] = lost
        self._cells[self.start["store_forgotten"]] += forgotten_beats

    def count_links(self, result: str, number: int) -> None:
        """So many links, by what became of them (LINK_RESULTS)."""
        self._cells[self.start["links"] + LINK_RESULTS.index(result)] += number

    def count_link_missed(self, grain: str) -> None:
        """One entity log that a decision wanted and did not get in time, or at all."""
        self._cells[self.start["links_missed"] + LINK_GRAINS.index(grain)] += 1.0

    def set_links_waiting(self, entries: int, oldest_s: float) -> None:
        """How many entries this worker has still to link, and the age of the oldest that it knows of."""
        self._cells[self.start["links_waiting"]] = entries
        self._cells[self.start["link_lag"]] = oldest_s

    def count_afterwards(self, consumer: str, result: str, number: int) -> None:
        """So many decisions, by what became of them at one of CONSUMERS (TAKEN)."""
        at = CONSUMERS.index(consumer) * len(TAKEN) + TAKEN.index(result)
        self._cells[self.start["afterwards"] + at] += number

    def set_afterwards_waiting(self, number: int) -> None:
        """How many decisions wait for the consumers."""
        self._cells[self.start["afterwards_waiting"]] = number

    def count_journal(self, result: str) -> None:
        """One static answer, by what became of it (JOURNAL_RESULTS)."""
        self._cells[self.start["journal"] + JOURNAL_RESULTS.index(result)] += 1.0

    def count_accesses(self, result: str, number: int) -> None:
        """So many reads of personal data, by what became of their record (ACCESS_RESULTS)."""
        self._cells[self.start["accesses"] + ACCESS_RESULTS.index(result)] += number

    def count_reload(self, ok: bool) -> None:
        """One policy reload, taken or refused."""
        self._cells[self.start["reloads"] + ok] += 1.0

    def count_rollback(self) -> None:
        """This worker led the fleet back to an earlier policy, because of the scores of the one in force."""
        self._cells[self.start["rollbacks"]] += 1.0

    def set_fleet(self, skew: int, problem: bool) -> None:
        """How many policies beyond one the workers of the fleet run, and whether this one could not take the newest."""
        self._cells[self.start["policy_skew"]] = skew
        self._cells[self.start["policy_problems"]] = problem

    def count_rate_limited(self) -> None:
        """One request refused because its principal sends too many."""
        self._cells[self.start["rate_limited"]] += 1.0

    def count_shed(self, rank: int) -> None:
        """One request refused because it could not be answered in time, by its rank (RANKS)."""
        self._cells[self.start["shed"] + rank] += 1.0

    def count_loop_block(self, seconds: float) -> None:
        """The event loop did nothing else for so long."""
        self._cells[self.start["loop_blocks"]] += 1.0
        self._cells[self.start["loop_blocked"]] += seconds

    def set_load(self, loop_lag_s: float, request_cost_s: float) -> None:
        """How late the event loop is, and the CPU time of one drawdown."""
        self._cells[self.start["loop_lag"]] = loop_lag_s
        self._cells[self.start["request_cost"]] = request_cost_s

    def count_request(self, route: str, status: int) -> None:
        """One HTTP request answered."""
        at = self._answered.get((route, status))
        if at is None:
            at = self._routes.get(route, self._routes[OTHER]) + self._statuses.get(status, self._statuses[0])
        self._cells[at] += 1.0

    def observe_stage(self, stage: int, seconds: float) -> None:
        """The time one stage of one decision took."""
        base = self._stages[stage]
        self._cells[base + bisect_left(BOUNDS_S, seconds)] += 1.0
        self._cells[base + _BUCKETS] += seconds

    def observe_decision(self, stages_s: Sequence[float]) -> None:
        """The times of a whole decision in the order of `Stage`, to be folded in later: 0.6 us instead of 3.4."""
        self._times.extend(stages_s)
        if len(self._times) >= FOLD_AT * len(STAGES):
            self.fold()

    def fold(self) -> None:
        """Count the times of decisions that wait. Of the thread that counts only."""
        if not self._times:
            return
        times, self._times = np.frombuffer(self._times).reshape(-1, len(STAGES)), array("d")
        buckets = np.searchsorted(BOUNDS_S, times) + _STAGE_CELLS
        counts = np.bincount(buckets.ravel(), minlength=len(STAGES) * _HISTOGRAM_CELLS)
        cells, start = self._cells, self.start["stages"]
        for at in np.flatnonzero(counts).tolist():
            cells[start + at] += float(counts[at])
        for base, seconds in zip(self._stages, times.sum(axis=0).tolist(), strict=True):
            cells[base + _BUCKETS] += seconds

    def move_in_flight(self, by: int) -> None:
        """A request came (+1) or went (-1)."""
        self._cells[self._in_flight] += by

    def set_policy(self, policy_id: str, label: str) -> None:
        """Which policy this worker decides with."""
        self._file.write_text(policy_id, label)

    def totals(self) -> Totals:
        """Everything counted by all workers of this directory."""
        return read_totals(self.directory, self.layout)

    def histogram(self, totals: Totals, stage: int) -> tuple[Sequence[float], float]:
        """Counts per bucket (not cumulative) and the sum of one stage."""
        base = self._stages[stage]
        return totals.cells[base : base + _BUCKETS].tolist(), float(totals.cells[base + _BUCKETS])

    def close(self) -> None:
        """Release the file."""
        self.fold()
        self._file.close()

"""A record: all that a pass over the decision log leaves of one version of a scorecard in one role.

Tallies by local day, the same as those counted live; and, of each decision that was scored, 24 bytes: pd, instant,
points, outcome, approved. So memory is bounded by what is kept of a decision, not by what it holds: a gigabyte is 40
million decisions.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from decision_service.core.limits import DAY_MS
from decision_service.core.zone import Zone
from decision_service.watch.decisions import Decided
from decision_service.watch.manifests import CardName, Manifests
from decision_service.watch.outcomes import Outcome
from decision_service.watch.tally import Bins, Seen, Tally, sum_of


@dataclass(frozen=True, slots=True)
class Rows:
    """Scored decisions, one an index."""

    pd: npt.NDArray[np.float64]
    asked_at_ms: npt.NDArray[np.int64]
    points: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.int8]  # of Outcome
    approved: npt.NDArray[np.bool_]

    def where(self, wanted: npt.NDArray[np.bool_]) -> Rows:
        """Some of them."""
        return Rows(
            self.pd[wanted], self.asked_at_ms[wanted], self.points[wanted], self.outcome[wanted], self.approved[wanted]
        )  # fmt: skip

    @property
    def matured(self) -> Rows:
        """Those whose window is over and whose outcome is known."""
        return self.where((self.outcome == Outcome.GOOD) | (self.outcome == Outcome.BAD))

    @property
    def bad(self) -> npt.NDArray[np.bool_]:
        """Which went bad."""
        return np.isin(self.outcome, (Outcome.BAD, Outcome.EARLY_BAD))

    def count(self, outcome: Outcome) -> int:
        """How many became this."""
        return int(np.count_nonzero(self.outcome == outcome))


class Part(NamedTuple):
    """A version in a role."""

    card: CardName
    role: str


@dataclass(slots=True)
class Record:
    """What was read of a part. `bins` is None if the version's manifest is not known; then features are not counted."""

    part: Part
    bins: Bins | None
    days: dict[int, Tally] = field(default_factory=dict)
    customers: set[int] = field(default_factory=set)  # hashes; how many different ones
    _pd: array[float] = field(default_factory=lambda: array("d"))
    _asked_at_ms: array[int] = field(default_factory=lambda: array("q"))
    _points: array[int] = field(default_factory=lambda: array("i"))
    _outcome: array[int] = field(default_factory=lambda: array("b"))
    _approved: array[int] = field(default_factory=lambda: array("b"))

    @property
    def n(self) -> int:
        """Decisions, those without a score included."""
        return sum(tally.n for tally in self.days.values())

    @property
    def total(self) -> Tally:
        """All days together."""
        return sum_of(self.days.values(), 1 if self.bins is None else self.bins.rows)

    @property
    def rows(self) -> Rows:
        """The decisions that were scored."""
        return Rows(
            np.array(self._pd, np.float64), np.array(self._asked_at_ms, np.int64), np.array(self._points, np.int64),
            np.array(self._outcome, np.int8), np.array(self._approved, np.bool_),
        )  # fmt: skip

    def take(self, day: int, some: Sequence[Seen]) -> None:
        """Count decisions of a day."""
        if self.bins is not None:
            tally = self.days.setdefault(day, Tally.empty(self.bins.rows))
            tally.count(self.bins, some)
        else:
            self.days.setdefault(day, Tally.empty(1)).count_words(some)

    def follow(self, one: Decided, seen: Seen, outcome: Outcome) -> None:
        """Keep whose decision it was and, if it was scored, what became of it."""
        self.customers.add(hash(one.customer_id))
        if seen.score.pd is None or seen.score.points is None:
            return
        self._pd.append(seen.score.pd)
        self._asked_at_ms.append(one.asked_at_ms)
        self._points.append(seen.score.points)
        self._outcome.append(outcome)
        self._approved.append(one.answered.approved)


class Records:
    """The records of a pass, by part."""

    def __init__(self, manifests: Manifests, zone: Zone) -> None:
        self._manifests = manifests
        self._zone = zone
        self.by_part: dict[Part, Record] = {}

    def take(self, page: Iterable[Decided], scorecard: str = "", version: str = "") -> None:
        """Count and keep a page's decisions, of one scorecard or version if that is asked for."""
        groups: dict[tuple[Part, int], list[Seen]] = defaultdict(list)
        for one in page:
            day = (one.decided_at_ms + self._zone.offset_at(one.decided_at_ms)) // DAY_MS
            for said in one.scored:
                if scorecard not in ("", said.card.scorecard) or version not in ("", said.card.version):
                    continue
                part = Part(said.card, said.role)
                seen = Seen(said.features, said.score, one.answered)
                groups[part, day].append(seen)
                self._record(part).follow(one, seen, said.outcome)
        for (part, day), some in groups.items():
            self._record(part).take(day, some)

    def _record(self, part: Part) -> Record:
        record = self.by_part.get(part)
        if record is None:
            record = self.by_part[part] = Record(part, self._manifests.bins(part.card))
        return record

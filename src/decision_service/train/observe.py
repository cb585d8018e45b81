"""Observations: who could be observed when, who is left out for what, and what became of the others.

Everything works on columns: an observation is a row of OBSERVATION, an outcome is a count of events of an owner within
a span of time (`Timeline`). For a customer, instants lie `observe_every_d` apart, back from a performance window before
the end of what is known, each at a moment of its day that a seed says; for a loan, the instant is its drawdown's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.build.history import find
from decision_service.core.event import FLAG_DECIDED, FLAG_LOAN, FLAG_SETTLES, KINDS, code_key
from decision_service.core.event import STATUSES as EVENT_STATUSES
from decision_service.core.limits import DAY_MS
from decision_service.train.recorded import DPD_UNKNOWN, NOBODY, STATUSES, Recorded, Records
from decision_service.train.sample_design import SampleDesign

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Waterfall = tuple[tuple[str, int], ...]

OBSERVATION: Final = np.dtype(
    [
        ("customer", "<i8"), ("facility", "<i8"), ("at_ms", "<i8"),
        ("period", "<i8"),  # 0 is the newest
        ("loan", "<u8"),  # key of the loan; 0 for a customer
        ("row", "<i8"),  # of the drawdown in the events' file; 0 for a customer
        ("snapshot", "<i8"), ("bad", "i1"),
    ]
)  # fmt: skip
_DRAWDOWN, _REPAYMENT, _OVERDUE, _LABEL = (KINDS[name] for name in ("drawdown", "repayment", "overdue", "label"))
_BOOKED: Final = EVENT_STATUSES["booked"]
_VOID: Final = (EVENT_STATUSES["failed"], EVENT_STATUSES["cancelled"])


class Timeline:
    """Instants of owners (whole numbers from 0), which may be counted by span and found by order."""

    def __init__(self, owner: Ints, at_ms: Ints) -> None:
        self._low = int(at_ms.min(initial=0))
        self._span = int(at_ms.max(initial=0)) - self._low + 2
        self._places = owner * self._span + (at_ms - self._low)
        self.order = np.argsort(self._places, kind="stable")
        self._places = self._places[self.order]

    def upto(self, owner: Ints, at_ms: Ints) -> Ints:
        """How many instants stand in order up to each of these, ends included."""
        offset = np.clip(at_ms - self._low, -1, self._span - 1)
        return np.searchsorted(self._places, owner * self._span + offset, side="right")

    def count(self, owner: Ints, after_ms: Ints, upto_ms: Ints) -> Ints:
        """How many instants of an owner lie in (after, upto]."""
        return self.upto(owner, upto_ms) - self.upto(owner, after_ms)


@dataclass(frozen=True, slots=True)
class Observed:
    """The observations that are left, by customer and time, and how they came to be so few."""

    observations: Records
    waterfall: Waterfall


def instants(customers: int, until_ms: int, design: SampleDesign) -> Ints:
    """When each customer may be observed, oldest first: int64[customers, observations]."""
    rng = np.random.default_rng(design.seed)
    newest_ms = until_ms - design.target.performance_d * DAY_MS
    within_day = rng.integers(0, DAY_MS, (customers, design.observations))
    back = np.arange(design.observations) * design.observe_every_d * DAY_MS
    return (newest_ms - back[None, :] - within_day)[:, ::-1]


def observe(recorded: Recorded, until_ms: int, design: SampleDesign) -> Observed:
    """Every observation that the design does not exclude, with its outcome."""
    possible = (
        _customers(recorded, until_ms, design) if design.grain == "customer" else _loans(recorded, until_ms, design)
    )
    steps = [("possible observations" if design.grain == "customer" else "booked drawdowns", len(possible))]
    _place(possible, recorded)
    for why, excluded in _exclusions(possible, recorded, design):
        mask = excluded(possible)
        steps.append((why, -int(mask.sum())))
        possible = possible[~mask]
    outcomes = _Outcomes(recorded, design)
    if design.good_dpd_max is not None:
        between = outcomes.late(possible, design.good_dpd_max + 1) & ~outcomes.bad(possible)
        steps.append(
            (f"indeterminate: later than {design.good_dpd_max} days past due, but not bad", -int(between.sum()))
        )
        possible = possible[~between]
    possible["bad"] = outcomes.bad(possible)
    return Observed(possible, tuple(steps))


def _customers(recorded: Recorded, until_ms: int, design: SampleDesign) -> Records:
    """A row for every facility at every instant of its customer."""
    at_ms = instants(len(recorded.customers), until_ms, design)
    facility = np.repeat(np.arange(len(recorded.facilities)), design.observations)
    found = np.zeros(len(facility), OBSERVATION)
    found["facility"], found["customer"] = facility, recorded.owner[facility]
    found["period"] = np.tile(np.arange(design.observations)[::-1], len(recorded.facilities))
    found["at_ms"] = at_ms[found["customer"], design.observations - 1 - found["period"]]
    return found[np.lexsort((found["facility"], found["at_ms"], found["customer"]))]


def _loans(recorded: Recorded, until_ms: int, design: SampleDesign) -> Records:
    """A row for every drawdown that was booked, at the instant it was asked for."""
    events = recorded.events
    draws = (events["kind"] == _DRAWDOWN) & (events["flags"] & FLAG_SETTLES == 0)
    decided = draws & (events["flags"] & FLAG_DECIDED != 0)
    plain = draws & ~decided & (events["status"] == _BOOKED)
    settled = events[
        (events["flags"] & FLAG_SETTLES != 0) & (events["kind"] == _DRAWDOWN) & (events["status"] == _BOOKED)
    ]
    chosen = events[plain | (decided & np.isin(events["key"], settled["about"]))]
    found = np.zeros(len(chosen), OBSERVATION)
    for name in ("customer", "facility", "at_ms", "row"):
        found[name] = chosen[name]
    found["loan"] = chosen["key"]
    only = np.bincount(recorded.owner, minlength=len(recorded.customers)) == 1
    of_customer = np.full(len(recorded.customers), NOBODY)
    of_customer[recorded.owner] = np.arange(len(recorded.owner))
    alone = (found["facility"] == NOBODY) & only[found["customer"]]
    found["facility"] = np.where(alone, of_customer[found["customer"]], found["facility"])
    newest_ms = until_ms - design.target.performance_d * DAY_MS
    found["period"] = (newest_ms - found["at_ms"]) // (design.observe_every_d * DAY_MS)
    return found[np.lexsort((found["row"], found["at_ms"], found["customer"]))]


def _place(found: Records, recorded: Recorded) -> None:
    """Find the newest snapshot that was known at each instant; NOBODY for none."""
    timeline = Timeline(recorded.snapshots["facility"], recorded.snapshots["recorded_at_ms"])
    newest = timeline.upto(found["facility"], found["at_ms"]) - 1
    own = recorded.snapshots["facility"][np.maximum(newest, 0)] == found["facility"]
    found["snapshot"] = np.where((newest >= 0) & own, newest, NOBODY)


def _exclusions(found: Records, recorded: Recorded, design: SampleDesign) -> Iterator[tuple[str, Any]]:
    """`(why, who)` in the order of asking; who is asked of those that are left."""
    lines = recorded.snapshots

    def line(left: Records, name: str) -> Ints:
        values: Ints = lines[name][np.maximum(left["snapshot"], 0)]
        return values

    def span(days: int) -> int:
        return days * DAY_MS

    if design.grain == "loan":
        yield "outside the periods of observation", lambda x: (x["period"] < 0) | (x["period"] >= design.observations)
    yield "earlier than `from`", lambda x: x["at_ms"] < design.from_ms
    yield "no snapshot of the facility was known", lambda x: x["snapshot"] == NOBODY
    yield (
        f"less than {design.history_min_d} days of recorded history",
        lambda x: x["at_ms"] - recorded.from_ms < span(design.history_min_d),
    )
    yield (
        f"younger than {design.days_on_book_min} days",
        lambda x: x["at_ms"] - line(x, "granted_at_ms") < span(design.days_on_book_min),
    )
    allowed = [STATUSES.index(status) for status in design.statuses]
    yield f"facility not {' or '.join(design.statuses)}", lambda x: ~np.isin(line(x, "status"), allowed)
    yield "days past due not known", lambda x: line(x, "days_past_due") == DPD_UNKNOWN
    yield (
        f"over {design.days_past_due_max} days past due",
        lambda x: line(x, "days_past_due") > design.days_past_due_max,
    )
    if design.active_within_d is not None:
        yield f"inactive for {design.active_within_d} days", _inactive(recorded, design.active_within_d)
    if design.target.label is not None:
        outcomes = _Outcomes(recorded, design)
        yield f"labelled {design.target.label} before", outcomes.labelled_before


def _inactive(recorded: Recorded, days: int) -> Any:
    events = recorded.events
    active = np.isin(events["kind"], (_DRAWDOWN, _REPAYMENT)) & (events["status"] == _BOOKED)
    timeline = Timeline(events["customer"][active], events["at_ms"][active])
    return lambda x: timeline.count(x["customer"], x["at_ms"] - days * DAY_MS, x["at_ms"]) == 0


class _Outcomes:
    """What events say became of customers, facilities or loans.

    An overdue notice or a label that names no facility speaks of all facilities of its customer. One that failed or was
    cancelled says nothing.
    """

    def __init__(self, recorded: Recorded, design: SampleDesign) -> None:
        events = recorded.events
        self._events = events[~np.isin(events["status"], _VOID)]
        self._design = design
        self._window_ms = design.target.performance_d * DAY_MS

    def bad(self, found: Records) -> Mask:
        """Whether each goes bad within the performance window."""
        target = self._design.target
        return self._labelled(found, False) if target.bad_dpd is None else self.late(found, target.bad_dpd)

    def late(self, found: Records, days: int) -> Mask:
        """Whether each has an overdue notice of so many days within the performance window."""
        events = self._events
        return self._any(found, events[(events["kind"] == _OVERDUE) & (events["value"] >= days)], False)

    def labelled_before(self, found: Records) -> Mask:
        """Whether each was labelled already at its observation."""
        return self._labelled(found, True)

    def _labelled(self, found: Records, before: bool) -> Mask:
        events, label = self._events, self._design.target.label
        wanted = (events["kind"] == _LABEL) & (events["code"] == code_key(label or ""))
        return self._any(found, events[wanted], before)

    def _any(self, found: Records, events: Records, before: bool) -> Mask:
        at_ms = found["at_ms"]
        after_ms, upto_ms = (np.zeros_like(at_ms), at_ms) if before else (at_ms, at_ms + self._window_ms)
        counts = np.zeros(len(found), np.int64)
        for owner, of_event in self._owners(found, events):
            named = of_event >= 0
            timeline = Timeline(of_event[named], events["at_ms"][named])
            counts += np.where(owner >= 0, timeline.count(np.maximum(owner, 0), after_ms, upto_ms), 0)
        return counts > 0

    def _owners(self, found: Records, events: Records) -> Iterator[tuple[Ints, Ints]]:
        """`(whose outcome a row is, of whom each event tells)`, in one numbering or two."""
        if self._design.bad_of == "customer":
            yield found["customer"], events["customer"]
        elif self._design.bad_of == "facility":
            yield found["facility"], events["facility"]
            yield found["customer"], np.where(events["facility"] == NOBODY, events["customer"], NOBODY)
        else:
            concerns = events["flags"] & FLAG_LOAN != 0
            about = find(
                found["customer"].astype(np.uint64), found["loan"], events["customer"].astype(np.uint64),
                events["about"],
            )  # fmt: skip
            yield np.arange(len(found)), np.where(concerns, about, NOBODY)

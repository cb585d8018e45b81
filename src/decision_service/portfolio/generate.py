"""From a plan to a portfolio: draw the customers, simulate them past the instant, cut there, and finish the
patterns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from decision_service.core.event import DRAWDOWN, STATUSES
from decision_service.core.limits import DAY_MS
from decision_service.portfolio import event_table
from decision_service.portfolio.event_table import Rows, customer_id, device_id, facility_id
from decision_service.portfolio.history import CustomerHistory, Line, packed_log
from decision_service.portfolio.patterns import GRANTED_BEFORE_MS, PATTERNS, Scene, next_draw
from decision_service.portfolio.population import PRODUCTS, Population, draw_population
from decision_service.portfolio.simulation import UTC_OFFSET_MS, DailyBook, Simulation

LABEL_HORIZON_D: Final = 90  # how far past the instant the label looks
BAD_DPD: Final = 30
_TERM_D: Final = 3 * 365


@dataclass(frozen=True, slots=True)
class PortfolioPlan:
    """What to generate: so many customers with up to `days` of history before `now_ms`, the first few of them
    `per_pattern` for each pattern."""

    customers: int
    now_ms: int
    seed: int = 20_261_121
    days: int = 365
    per_pattern: int = 2


@dataclass(frozen=True, slots=True)
class Portfolio(Sequence[CustomerHistory]):
    """The customers, in order of their numbers."""

    plan: PortfolioPlan
    customers: tuple[CustomerHistory, ...]

    def __len__(self) -> int:
        return len(self.customers)

    def __getitem__(self, i: Any) -> Any:
        return self.customers[i]

    def __iter__(self) -> Iterator[CustomerHistory]:
        return iter(self.customers)

    def of_pattern(self, pattern: str) -> list[CustomerHistory]:
        """The customers who live out a pattern."""
        return [history for history in self.customers if history.pattern == pattern]


def generate(plan: PortfolioPlan) -> Portfolio:
    """The portfolio of a plan; the same plan gives the same portfolio."""
    rng = np.random.default_rng(plan.seed)
    people = draw_population(plan.customers, plan.days, rng)
    patterns = _cast(plan)
    for i, name in enumerate(patterns):
        PATTERNS[name].prepare(people, i, plan.days)
    today_ms = (plan.now_ms + UTC_OFFSET_MS) // DAY_MS * DAY_MS - UTC_OFFSET_MS
    simulation = Simulation(people, plan.days + LABEL_HORIZON_D, today_ms - plan.days * DAY_MS, rng)
    simulation.run()
    events = event_table.in_order(simulation.parts)
    events = events[events["at_ms"] <= plan.now_ms]
    bounds = np.searchsorted(events["who"], np.arange(plan.customers + 1))
    return Portfolio(
        plan,
        tuple(
            _history(plan, people, simulation.book, i, events[bounds[i] : bounds[i + 1]], patterns)
            for i in range(plan.customers)
        ),
    )


def _cast(plan: PortfolioPlan) -> list[str]:
    """The patterns of the first customers: one of each kind in turn, while there are customers."""
    return (list(PATTERNS) * plan.per_pattern)[: plan.customers]


def _history(
    plan: PortfolioPlan, people: Population, book: DailyBook, i: int, table: Rows, patterns: list[str]
) -> CustomerHistory:
    pattern = patterns[i] if i < len(patterns) else ""
    line = _line(plan, people, book, i, pattern)
    facility = line.facility_at(plan.now_ms)
    label = "bad" if _goes_bad(book, plan, i) else "good"
    draw: dict[str, Any] | None = None
    if pattern:
        scene = _scene(people, i, plan.now_ms, table, line)
        ending = PATTERNS[pattern].finish(scene)
        table = event_table.in_order([table[table["at_ms"] < ending.at_ms], ending.added])
        label = "fraud" if PATTERNS[pattern].fraud else label
        draw = next_draw(ending, scene, lambda device: _who(i, device))
    return CustomerHistory(
        number=i, customer_id=customer_id(i), line=line, facility=facility, log=packed_log(table, i),
        table=table, label=label, pattern=pattern, next_draw=draw,
    )  # fmt: skip


def _who(i: int, device: int) -> dict[str, Any]:
    return {"customer_id": customer_id(i), "facility_id": facility_id(i), "device_id": device_id(i, device)}


def _scene(people: Population, i: int, now_ms: int, table: Rows, line: Line) -> Scene:
    facility = line.facility_at(now_ms)
    since = table["at_ms"] > facility.as_of_ms
    draws = since & (table["kind"] == DRAWDOWN) & (table["status"] == STATUSES["booked"])
    outstanding = facility.outstanding_minor + int(table["amount"][draws].sum())
    available = max(facility.limit_minor - outstanding, 0)
    return Scene(i, now_ms, facility.limit_minor, available, int(people.payees[i, 0]), int(people.purpose[i]))


def _line(plan: PortfolioPlan, people: Population, book: DailyBook, i: int, pattern: str) -> Line:
    days = plan.days
    granted_ms = book.day0_ms + int(people.granted_day[i]) * DAY_MS
    if pattern == "full_draw_after_grant":
        granted_ms = plan.now_ms - GRANTED_BEFORE_MS
    return Line(
        facility_id=facility_id(i), customer_id=customer_id(i), product=PRODUCTS[people.product[i]],
        apr_bps=int(people.apr_bps[i]), granted_at_ms=granted_ms, expires_at_ms=granted_ms + _TERM_D * DAY_MS,
        day0_ms=book.day0_ms, outstanding_fen=_column(book.outstanding_fen, i, days),
        limit_fen=_column(book.limit_fen, i, days), days_past_due=_column(book.days_past_due, i, days),
    )  # fmt: skip


def _column(table: npt.NDArray[Any], i: int, days: int) -> npt.NDArray[np.int64]:
    """One customer's daily figures up to the instant, their own copy, so that the whole book can go."""
    return table[:days, i].astype(np.int64)


def _goes_bad(book: DailyBook, plan: PortfolioPlan, i: int) -> bool:
    return bool(book.days_past_due[plan.days :, i].max(initial=0) >= BAD_DPD)

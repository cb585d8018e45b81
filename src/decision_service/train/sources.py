"""Where a training sample comes from: one of three keys of a training file. Paths are relative to that file.

    portfolio: {customers: 6000, seed: 20261121, days: 540, until: 2026-11-01T00:00:00+08:00}
    events: {events: events.parquet, facilities: facilities.parquet, attributes: attributes.parquet,
             until: 2026-11-01T00:00:00+08:00}
    table: {file: rows.parquet, label: default, split: part, customer: id, at: month, performance_d: 30}

`portfolio` generates events and facilities and is from there on like `events`, whose files are those of `features
build`; with a sample of grain loan and `label: overdue_30` (or 1 to 90 days) its loans are labelled so
(`portfolio.loans`). `attributes` may be missing. `until` is the end of what is known: nobody is observed later than a
performance window before it.

`table` takes ready rows: the features are columns, `label` a column of 0 and 1 (1 is bad). `split` is a column that
says what each row is for, `train`, `validate`, `calibrate` or `judge`; or `{column: part, train: [2022, 2023], judge:
[2024]}` with the values that mean so; or `{judge: 0.3, calibrate: 0.2, seed: 1}`, shares of the customers. Rows of no
part are left out. `customer` names whose row it is (each row its own customer without it), `at` when it was observed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from decision_service.core.scorecards.manifest import DAYS_MAX
from decision_service.core.scorecards.reading import Section
from decision_service.core.source import MappingNode, Place
from decision_service.portfolio import PortfolioPlan

INSTANT: Final = "an instant with offset such as 2026-11-01T00:00:00+08:00"
PARTS: Final = ("train", "validate", "calibrate", "judge")
KEYS: Final = ("portfolio", "events", "table")


@dataclass(frozen=True, slots=True)
class PortfolioSource:
    """Customers that never existed."""

    place: Place
    plan: PortfolioPlan

    @property
    def until_ms(self) -> int:
        """The end of what is known."""
        return self.plan.now_ms

    def __str__(self) -> str:
        plan = self.plan
        return f"generated portfolio: {plan.customers} customers, {plan.days} days, seed {plan.seed}"


@dataclass(frozen=True, slots=True)
class EventsSource:
    """Files of what was recorded."""

    place: Place
    events: Path
    facilities: Path
    attributes: Path | None
    until_ms: int

    def __str__(self) -> str:
        files = (self.events, self.facilities, self.attributes)
        return "files " + ", ".join(path.name for path in files if path is not None)


@dataclass(frozen=True, slots=True)
class SplitColumn:
    """A column whose values say what a row is for: the values of each of PARTS."""

    name: str
    values: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class SplitShares:
    """Shares of the customers; what is neither judged nor calibrated with is trained on."""

    judge: float
    calibrate: float
    seed: int


@dataclass(frozen=True, slots=True)
class TableSource:
    """Ready rows."""

    place: Place
    file: Path
    label: str
    split: SplitColumn | SplitShares
    customer: str | None
    at: str | None
    performance_d: int | None

    def __str__(self) -> str:
        return f"table {self.file.name}"


Source = PortfolioSource | EventsSource | TableSource


def read_source(top: Section, folder: Path) -> Source | None:
    """The source that a training file names; None if it is wrong which, which is among the findings."""
    given = [key for key in KEYS if top.has(key)]
    if len(given) != 1:
        what = "names no source" if not given else f"names {len(given)} sources: {', '.join(given)}"
        top.findings.error(top.place, f"the training file {what}", expected="one of " + ", ".join(KEYS))
        return None
    section = top.section(given[0])
    source: Source
    if given[0] == "portfolio":
        source = _portfolio(section)
    elif given[0] == "events":
        source = _events(section, folder)
    else:
        source = _table(section, folder)
    section.finish()
    return source


def _portfolio(section: Section) -> PortfolioSource:
    plan = PortfolioPlan(
        customers=section.whole("customers", low=50, high=1_000_000),
        now_ms=read_instant(section, "until"),
        seed=section.whole("seed", low=0),
        days=section.whole("days", 365, low=120, high=1_000),
        per_pattern=0,  # the patterns are for rules; a scorecard predicts credit risk
    )
    return PortfolioSource(section.place, plan)


def _events(section: Section, folder: Path) -> EventsSource:
    return EventsSource(
        section.place, _file(section, "events", folder), _file(section, "facilities", folder),
        _file(section, "attributes", folder) if section.has("attributes") else None, read_instant(section, "until"),
    )  # fmt: skip


def _table(section: Section, folder: Path) -> TableSource:
    return TableSource(
        section.place, _file(section, "file", folder), section.text("label"), _split(section),
        section.text("customer", "") or None, section.text("at", "") or None,
        section.whole("performance_d", low=1, high=DAYS_MAX) if section.has("performance_d") else None,
    )  # fmt: skip


def _file(section: Section, key: str, folder: Path) -> Path:
    text = section.text(key, expected="a .parquet or .csv file")
    path = folder / text
    if text and not path.is_file():
        section.error(key, f"names no file: {text!r}", "a .parquet or .csv file, relative to this one")
    return path


def _split(section: Section) -> SplitColumn | SplitShares:
    node = section.node.get("split")
    if node is not None and not isinstance(node, MappingNode):
        return SplitColumn(section.text("split"), tuple((part,) for part in PARTS))
    split = section.section("split")
    if split.has("column"):
        found: SplitColumn | SplitShares = SplitColumn(
            split.text("column"), tuple(split.texts(part, required=part in ("train", "judge")) for part in PARTS)
        )
    else:
        found = SplitShares(
            split.number("judge", low=0.01, high=0.9), split.number("calibrate", 0.0, low=0.0, high=0.9),
            split.whole("seed", 1, low=0),
        )  # fmt: skip
        if found.judge + found.calibrate >= 1.0:
            split.error("calibrate", "leaves nothing to train on", "shares below 1 together")
    split.finish()
    return found


def read_instant(section: Section, key: str) -> int:
    """An instant as ms UTC."""
    text = section.text(key, expected=INSTANT)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return round(moment.timestamp() * 1_000)
    except ValueError:
        pass
    if text:
        section.error(key, f"is no instant: {text!r}", INSTANT)
    return 0

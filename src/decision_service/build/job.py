"""The job every process of a build works on, its table, and the report each pass returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any, TypeVar

import numpy as np

from decision_service.api.parse import Clock
from decision_service.build.dtypes import answer
from decision_service.build.history import Keeping, Refused
from decision_service.build.spill import Spill
from decision_service.build.table import Table, TableSpec
from decision_service.tables.file import BadRow, TableFile

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Sources:
    """The files a build reads."""

    events: TableFile
    questions: TableFile
    facilities: TableFile | None = None
    attributes: TableFile | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a process needs to know."""

    table: TableSpec
    sources: Sources
    directory: Path  # of the spills
    partitions: int
    clock: Clock
    reservation_timeout_ms: int
    keeping: Keeping
    links_max: int  # records of an entity's log
    rows_per_group: int

    def spill(self, name: str, dtype: np.dtype[Any], partitions: int | None = None) -> Spill:
        """One of the build's spills."""
        return Spill(self.directory, name, dtype, partitions or self.partitions)

    @property
    def answers(self) -> Spill:
        """The features of every question, by group of rows of the table."""
        return self.spill("answers", answer(len(self.table.names)), 2**31)

    @property
    def owners_unknown(self) -> bool:
        """Whether questions may name an event and no customer."""
        return "event_id" in self.sources.questions.names


@dataclass(slots=True)
class Report:
    """What a pass has to tell: events read, events that came twice, bad rows by file, CPU seconds by what took them."""

    events: int = 0
    repeated: int = 0
    bad: dict[str, list[BadRow]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def timed(self, what: str, items: Iterable[_Item]) -> Iterator[_Item]:
        """Count the CPU seconds that making each item takes."""
        following = iter(items)
        while True:
            with self.time(what):
                item = next(following, None)
            if item is None:
                return
            yield item

    @contextmanager
    def time(self, what: str) -> Iterator[None]:
        """Count the CPU seconds of a block."""
        began = process_time()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + process_time() - began

    def refuse(self, file: str, refused: Refused) -> None:
        """Rows refused after they were read."""
        self.bad.setdefault(file, []).extend(BadRow(row, column, "", reason) for row, column, reason in refused)

    def add(self, other: Report) -> None:
        """Take another pass into account."""
        self.events += other.events
        self.repeated += other.repeated
        for what, seconds in other.seconds.items():
            self.seconds[what] = self.seconds.get(what, 0.0) + seconds
        for file, rows in other.bad.items():
            self.bad.setdefault(file, []).extend(rows)


_TABLES: dict[Path, Table] = {}


def table_of(job: Job) -> Table:
    """The job's table, compiled once a process."""
    if job.directory not in _TABLES:
        keep_table(job, Table(job.table))
    return _TABLES[job.directory]


def keep_table(job: Job, table: Table) -> None:
    """Use a table that is compiled already."""
    _TABLES.clear()
    _TABLES[job.directory] = table

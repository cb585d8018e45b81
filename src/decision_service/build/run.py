"""A build from start to end: passes over a pool of processes, then the table in the order of the questions.

Memory is bounded by dividing customers (and entities) into so many partitions that what one process holds of one fits
its share; the files themselves are read and written in batches. What cannot be divided is one customer or one entity:
about half a kilobyte an event. Temporary files take about 200 bytes an event and 100 and the inputs a question, in a
directory beside the output that is removed at the end.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from decision_service.api.parse import Clock
from decision_service.build import stages
from decision_service.build.history import Keeping
from decision_service.build.job import Job, Report, Sources, keep_table
from decision_service.build.questions import check_columns
from decision_service.build.reported import open_snapshots, open_values
from decision_service.build.table import Table, TableSpec
from decision_service.core.errors import InvalidInput
from decision_service.tables.cells import plain
from decision_service.tables.events import open_events
from decision_service.tables.file import BadRow, TableFile, open_file

MEMORY_DEFAULT: Final = 1 << 30
_PROCESS_BYTES: Final = 240 << 20  # of an idle worker with everything imported
_SHARE_MIN: Final = 64 << 20
_EVENT_BYTES, _QUESTION_BYTES = 640, 900  # that a row takes while its partition is worked on
_CSV_ROW_BYTES: Final = 60  # a guess on the safe side
_GROUP_BYTES: Final = 32 << 20  # of a group of rows of the table
_PARTITIONS_MAX: Final = 4_096
_SMALL_ROWS: Final = 50_000  # a pool would take longer to start than this to compute

Say = Callable[[str, int, int], None]
"""Told the pass, and how much of how much of it is done."""


@dataclass(frozen=True, slots=True)
class Build:
    """What to build from what."""

    events: Path
    questions: Path
    out: Path
    table: TableSpec
    clock: Clock
    keeping: Keeping
    links_max: int
    reservation_timeout_ms: int
    facilities: Path | None = None
    attributes: Path | None = None
    workers: int | None = None  # a process a core
    memory_bytes: int = MEMORY_DEFAULT


@dataclass(frozen=True, slots=True)
class Built:
    """What came out. `bad` are the rows left out, by file; `repeated` events came a second time with equal content."""

    rows: int
    events: int
    repeated: int
    bad: dict[str, list[BadRow]]
    seconds: dict[str, float]
    workers: int
    partitions: int


def build(plan: Build, say: Say = lambda _stage, _done, _total: None) -> Built:
    """Write the table. Raises InvalidInput for files, PolicyRejected for definitions that do not compile."""
    table = Table(plan.table)
    sources = _open(plan, table)
    _check_output(plan, sources)
    rows = _row_count(sources.events), _row_count(sources.questions)
    workers = plan.workers or (1 if sum(rows) < _SMALL_ROWS else len(os.sched_getaffinity(0)))
    partitions = _partitions(rows, workers, plan.memory_bytes)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=plan.out.absolute().parent) as directory:
        job = Job(
            plan.table, sources, Path(directory), partitions, plan.clock, plan.reservation_timeout_ms, plan.keeping,
            plan.links_max, _rows_per_group(len(plan.table.names)),
        )  # fmt: skip
        report = Report()
        keep_table(job, table)
        with _pool(job, workers) as run:
            for name, calls in _passes(job, table.link_grains):
                _run_pass(name, calls, run, report, say)
        written = _write(job, plan.out, say, _row_count(sources.questions))
    bad = {file: sorted(rows, key=lambda bad: bad.row) for file, rows in report.bad.items() if rows}
    return Built(written, report.events, report.repeated, bad, dict(report.seconds), workers, partitions)


def _open(plan: Build, table: Table) -> Sources:
    events, questions = open_events(plan.events), open_file(plan.questions, None)
    check_columns(questions)
    return Sources(
        events, questions, None if plan.facilities is None else open_snapshots(plan.facilities),
        None if plan.attributes is None else open_values(plan.attributes, table.declared),
    )  # fmt: skip


def _check_output(plan: Build, sources: Sources) -> None:
    if plan.out.suffix != ".parquet":
        raise InvalidInput("out", f"{plan.out.name}: a .parquet file is expected")
    if not plan.out.absolute().parent.is_dir():
        raise InvalidInput("out", f"the directory {plan.out.parent} does not exist")
    for name in plan.table.names:
        if name in sources.questions.names:
            raise InvalidInput(name, f"{plan.questions.name} has a column of the name of the feature {name!r}")


def _row_count(file: TableFile) -> int:
    return file.bytes // _CSV_ROW_BYTES if file.row_count is None else file.row_count


def _partitions(rows: tuple[int, int], workers: int, memory_bytes: int) -> int:
    share = max(memory_bytes // workers - _PROCESS_BYTES, _SHARE_MIN)
    needed = math.ceil((rows[0] * _EVENT_BYTES + rows[1] * _QUESTION_BYTES) / share)
    balanced = 1 if sum(rows) < _SMALL_ROWS else 4 * workers
    return min(max(needed, balanced), _PARTITIONS_MAX)


def _rows_per_group(features: int) -> int:
    return max(1_024, min(65_536, _GROUP_BYTES // (8 * (features + 1))))


# --- passes -----------------------------------------------------------------------------------------------------

Call = tuple[Callable[..., Report], tuple[Any, ...]]


def _passes(job: Job, link_grains: Iterable[str]) -> Iterator[tuple[str, list[Call]]]:
    """Every pass and its calls; each begins when the one before it is done."""
    everywhere = range(job.partitions)
    yield "events", [(stages.read_events_part, (part,)) for part in job.sources.events.parts]
    yield "questions", [(stages.read_questions_part, (part,)) for part in job.sources.questions.parts]
    if job.sources.facilities is not None:
        yield "facilities", [(stages.read_facilities, ())]
    if job.sources.attributes is not None:
        yield "attributes", [(stages.read_attributes, ())]
    if job.owners_unknown:
        yield "customers", [(stages.name_owners, (partition,)) for partition in everywhere]
    yield "features", [(stages.answer_customers, (partition,)) for partition in everywhere]
    for grain in link_grains:
        yield f"{grain} features", [(stages.follow_links, (grain, partition)) for partition in everywhere]
    if list(link_grains):
        yield "customer features", [(stages.finish, (partition,)) for partition in everywhere]


def _run_pass(name: str, calls: list[Call], run: Executor | None, report: Report, say: Say) -> None:
    say(name, 0, len(calls))
    if run is None:
        for done, (function, arguments) in enumerate(calls, 1):
            report.add(_call(function, arguments))
            say(name, done, len(calls))
        return
    futures: list[Future[Report]] = [run.submit(_call, function, arguments) for function, arguments in calls]
    for done, future in enumerate(futures, 1):
        report.add(future.result())
        say(name, done, len(calls))


_JOBS: list[Job] = []  # the one this process works for


def _begin(job: Job) -> None:
    import pyarrow as pa

    pa.set_cpu_count(1)  # the processes share the cores among themselves
    _JOBS[:] = [job]


def _call(function: Callable[..., Report], arguments: tuple[Any, ...]) -> Report:
    return function(_JOBS[0], *arguments)


@contextmanager
def _pool(job: Job, workers: int) -> Iterator[Executor | None]:
    """A pool of processes, or None: this process does it."""
    if workers == 1:
        _begin(job)
        yield None
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (job,)) as pool:
        try:
            yield pool
        except BaseException:  # nobody waits for what is not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


# --- the table --------------------------------------------------------------------------------------------------


def _write(job: Job, out: Path, say: Say, total: int) -> int:
    """Write the questions' own columns and the features beside them; rows that were left out are left out."""
    from pyarrow import parquet

    unfinished = job.directory / "table.parquet"
    writer: Any = None
    written = 0
    for batch in job.sources.questions.batches(batch_rows=job.rows_per_group):
        answered, values = _answers(job, batch.rows)
        table = _as_table({name: plain(column) for name, column in batch.columns.items()}, answered, values, job)
        writer = writer or parquet.ParquetWriter(unfinished, table.schema, use_dictionary=[*batch.columns])
        if table.num_rows:
            writer.write_table(table)
        written += table.num_rows
        say("table", int(batch.rows[-1]) if len(batch) else written, total)
    if writer is None:
        raise InvalidInput("at", f"{job.sources.questions.path.name} has no rows")
    writer.close()
    unfinished.replace(out)
    return written


def _answers(job: Job, rows: Any) -> tuple[Any, Any]:
    """`(which rows have an answer, their features)` of consecutive rows of the questions' file."""
    answered = np.zeros(len(rows), bool)
    values = np.empty((len(rows), len(job.table.names)))
    groups = np.unique((rows - 1) // job.rows_per_group)
    for group in groups.tolist():
        answers = job.answers.read(group)
        at = np.searchsorted(rows, answers["row"])
        here = (at < len(rows)) & (rows[np.minimum(at, len(rows) - 1)] == answers["row"])
        answered[at[here]] = True
        values[at[here]] = answers["values"][here]
        if len(rows) and rows[-1] >= (group + 1) * job.rows_per_group:
            job.answers.drop(group)
    return answered, values[answered]


def _as_table(columns: dict[str, Any], answered: Any, values: Any, job: Job) -> Any:
    import pyarrow as pa

    kept = pa.array(answered)
    arrays = {name: column.filter(kept) for name, column in columns.items()}
    for i, name in enumerate(job.table.names):
        column = np.ascontiguousarray(values[:, i])
        arrays[name] = pa.array(column, mask=np.isnan(column))
    return pa.table(arrays)

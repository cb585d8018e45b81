"""Meters of the archive: what consumers of this host count, in cells that every worker of it can add up.

Consumers run in processes of their own; a service tells `/metrics` of them by reading their files in the runtime
directory (`telemetry/cells.py`). What is only known while a consumer runs (lag, backlog, headroom) is told only while
one does: `archive_consumers` 0 is the alarm, not a lag of 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from decision_service.archive.headroom import Room
from decision_service.archive.schema import KINDS
from decision_service.core import errors
from decision_service.telemetry.cells import CellFile, Layout, fold_retired, read_totals

PREFIX: Final = "decision_service_archive_"
OTHER: Final = "other"
_EXTREMES: Final = ("lag", "backlog", "headroom_bytes", "headroom_s")


def _failures() -> tuple[str, ...]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    ours = (errors.StoreError, errors.ArchiveUnavailable, errors.VersionMoved)
    return (*sorted({kind.code for kind in kinds if issubclass(kind, ours)}), "internal", OTHER)


FAILURES: Final = _failures()
LAYOUT: Final = Layout(
    (
        "archive consumers",
        *(f"archive {name}" for name in _EXTREMES),
        *(f"archive rows {kind}" for kind in KINDS),
        "archive segments", "archive bytes",
        *(f"archive failures {code}" for code in FAILURES),
    ),
    gauges=1 + len(_EXTREMES), extremes=len(_EXTREMES),
)  # fmt: skip
_AT: Final = {name: i for i, name in enumerate(LAYOUT.names)}


class ArchiveMeters:
    """One consumer's counters."""

    def __init__(self, directory: Path) -> None:
        fold_retired(directory, LAYOUT)
        self._file = CellFile(directory, LAYOUT)
        self._cells = self._file.cells
        self._cells[_AT["archive consumers"]] = 1.0

    def archive_wrote(self, kinds: Iterable[tuple[str, int]], file_bytes: int) -> None:
        """A segment counts now: so many rows of each kind, so many bytes."""
        for kind, rows in kinds:
            self._cells[_AT[f"archive rows {kind}"]] += rows
        self._cells[_AT["archive segments"]] += 1.0
        self._cells[_AT["archive bytes"]] += file_bytes

    def archive_failed(self, code: str) -> None:
        """A place could not be written, by the error's code."""
        self._cells[_AT[f"archive failures {code if code in FAILURES else OTHER}"]] += 1.0

    def set_archive(self, lag_s: float, backlog: int) -> None:
        """The age of the oldest entry that is not archived yet, and how many there are."""
        self._cells[_AT["archive lag"]] = lag_s
        self._cells[_AT["archive backlog"]] = backlog

    def set_headroom(self, room: Room) -> None:
        """How much more the store can hold, and for how long that lasts as things go."""
        self._cells[_AT["archive headroom_bytes"]] = room.left_bytes
        self._cells[_AT["archive headroom_s"]] = room.lasts_s

    def close(self) -> None:
        """This consumer runs no more; what it counted stays."""
        self._cells[_AT["archive consumers"]] = 0.0
        self._file.close()


def families(directory: Path) -> Iterator[Metric]:
    """What the consumers of a host counted, for `/metrics`; nothing before the first of them started."""
    totals = read_totals(directory, LAYOUT)
    if not any(directory.glob(f"{LAYOUT.digest}.*.cells")):
        return
    cells = totals.cells
    consumers = float(cells[_AT["archive consumers"]])
    yield _gauge("consumers", "Consumers of this host that archive", consumers)
    rows = CounterMetricFamily(PREFIX + "rows", "Rows archived, by kind", labels=("kind",))
    for kind in KINDS:
        rows.add_metric((kind,), float(cells[_AT[f"archive rows {kind}"]]))
    yield rows
    failures = CounterMetricFamily(
        PREFIX + "failures", "Times that a place could not be archived, by error", labels=("code",)
    )
    for code in FAILURES:
        failures.add_metric((code,), float(cells[_AT[f"archive failures {code}"]]))
    yield failures
    yield CounterMetricFamily(
        PREFIX + "segments", "Segments archived", value=float(cells[_AT["archive segments"]])
    )  # fmt: skip
    yield CounterMetricFamily(PREFIX + "bytes", "Bytes of segments archived", value=float(cells[_AT["archive bytes"]]))
    if consumers:
        yield _gauge("lag_seconds", "Age of the oldest entry that is not archived", float(cells[_AT["archive lag"]]))
        yield _gauge("backlog_entries", "Entries that are not archived", float(cells[_AT["archive backlog"]]))
        yield _gauge(
            "headroom_bytes", "How much more the store can hold", float(cells[_AT["archive headroom_bytes"]])
        )  # fmt: skip
        yield _gauge(
            "headroom_seconds", "Until the store is full, as things go", float(cells[_AT["archive headroom_s"]])
        )  # fmt: skip


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)

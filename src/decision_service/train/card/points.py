"""Points: how they are spread over good and bad, what grades they make, and how steady they are by month."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from decision_service.core.scorecards.distribution import cuts_of
from decision_service.core.scorecards.drift import (
    NULL_SHIFT_MAX,
    PSI_MOVED,
    PSI_SHIFTED,
    Drift,
    counts_of,
    drift,
    null_shift,
)
from decision_service.report import Block, Cell, Figure, Section, Table, Text, percent, plots
from decision_service.train.card.subject import Part, Subject

Floats = npt.NDArray[np.float64]

_BINS = 24
_BIN_WIDTHS = (2, 5, 10, 20, 50, 100)
_FEATURES_SHOWN = 10
_PSI_NOTE = (
    f"PSI against the training rows, by the cut points in the manifest. From {PSI_SHIFTED:g} a distribution has "
    f"shifted, above {PSI_MOVED:g} moved, if PSI is above its critical value too: what chance alone passes once in a "
    "hundred times with so many rows and bins."
)


def points(subject: Subject) -> Section:
    """Distribution and grades of the judged rows."""
    judged = subject.judged
    return Section("Points and grades", (_distribution(judged), _grade_figure(subject), _grade_table(subject)))


def _distribution(judged: Part) -> Figure:
    low, high = float(judged.points.min()), float(judged.points.max())
    width = next((each for each in _BIN_WIDTHS if (high - low) / each <= _BINS), _BIN_WIDTHS[-1])
    edges: Floats = np.arange(math.floor(low / width), math.floor(high / width) + 2) * np.float64(width)
    shares = [_shares(judged.points[judged.bad == label], edges) for label in (0, 1)]
    caption = f"Points, {judged.title}, in bins of {width}: shares of all good and of all bad rows."
    return plots.distribution("points", edges, [("good", shares[0]), ("bad", shares[1])], caption, "points")


def _shares(values: Floats, edges: Floats) -> Floats:
    return np.asarray(np.histogram(values, edges)[0] / max(len(values), 1), np.float64)


def _grades(subject: Subject) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Each grade, best first, and the judged rows in it."""
    grades = subject.card.manifest.grades
    of = np.array([grades.of(int(each)) for each in subject.judged.points])
    return [(name, of == name) for name in grades.names]


def _grade_figure(subject: Subject) -> Figure:
    judged = subject.judged
    bars = [
        plots.GradeBar(name, float(rows.mean()), _mean(judged.bad[rows]), _mean(judged.pds[rows]))
        for name, rows in _grades(subject)
    ]
    return plots.grades("grades", bars, f"Grades, {judged.title}: shares, and what was predicted and observed.")


def _grade_table(subject: Subject) -> Table:
    judged, manifest = subject.judged, subject.card.manifest
    least = (*manifest.grades.points_from, manifest.scaling.points_min)
    rows = tuple(
        (
            name, start, int(rows.sum()), percent(float(rows.mean())), int(judged.bad[rows].sum()),
            percent(_mean(judged.bad[rows]), 2), percent(_mean(judged.pds[rows]), 2), _range(judged.pds[rows]),
        )
        for (name, rows), start in zip(_grades(subject), least, strict=True)
    )  # fmt: skip
    columns = ("grade", "points from", "rows", "share", "bads", "bad rate", "mean PD", "PDs")
    return Table(columns, rows, title=f"Grades, {judged.title}")


def _mean(values: npt.NDArray[np.float64] | npt.NDArray[np.int8]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _range(pds: Floats) -> str | None:
    return f"{percent(float(pds.min()), 2)} to {percent(float(pds.max()), 2)}" if len(pds) else None


def stability(subject: Subject) -> Section:
    """PSI of points by month, and of features among the judged rows."""
    return Section("Stability", (*_by_month(subject), _features_table(subject)))


def _by_month(subject: Subject) -> Sequence[Block]:
    months = [(month, mask) for month, mask in subject.month_masks(~subject.fitted.mask) if mask.any()]
    if not months:
        return (Text("When a row was observed is not known, so there is no PSI by month."),)
    manifest = subject.card.manifest
    found = [
        _drift(manifest.score_deciles, manifest.score_shares, subject.trained.points[mask], manifest.score_rows)
        for _, mask in months
    ]
    names = [month for month, _ in months]
    series = [("PSI of points", [d.psi for d in found]), ("critical value", [d.critical for d in found])]
    marks = [(f"{PSI_SHIFTED:g} shifted", PSI_SHIFTED), (f"{PSI_MOVED:g} moved", PSI_MOVED)]
    caption = "PSI by month of observation, of the rows that the model was not made from."
    rows = tuple((month, *_drift_cells(each)) for month, each in zip(names, found, strict=True))
    columns = ("month observed", "rows", "bins", "PSI", "critical", "verdict")
    return (
        plots.lines("psi-by-month", names, series, caption, "PSI", marks),
        Table(columns, rows, _PSI_NOTE, "Points by month, against training"),
    )


def _features_table(subject: Subject) -> Table:
    judged, manifest = subject.judged, subject.card.manifest
    found = []
    for i, feature in enumerate(manifest.features):
        values = judged.rows[:, i]
        moved = _drift(feature.deciles, feature.shares, values, manifest.score_rows)
        shift = null_shift(feature.null_rate, int(np.isnan(values).sum()), len(values))
        found.append((moved.psi, feature.name, moved, shift))
    found.sort(key=lambda each: (-(each[0] if each[0] == each[0] else -1.0), each[1]))
    rows = tuple(
        (f"`{name}`", *_drift_cells(moved), f"{100 * shift:+.1f} pp".replace("-", "−"))
        for _, name, moved, shift in found[:_FEATURES_SHOWN]
    )
    columns = ("feature", "known rows", "bins", "PSI", "critical", "verdict", "null rate")
    alert = f"over {100 * NULL_SHIFT_MAX:.0f} pp is an alert."
    note = f"The last column is by how much the share of nulls has changed; {alert}"
    title = f"Features that differ most, {judged.title} against training"
    return Table(columns, rows, note, title)


def _drift(deciles: Sequence[float], shares: Sequence[float], values: Floats, base_rows: int) -> Drift:
    return drift(shares, counts_of(cuts_of(deciles), values)[:-1], base_rows)


def _drift_cells(each: Drift) -> tuple[Cell, ...]:
    return each.n, each.bins, _number(each.psi), _number(each.critical), each.verdict + (", thin" if each.thin else "")


def _number(psi: float) -> str | None:
    return None if math.isnan(psi) else f"{psi:.4f}"

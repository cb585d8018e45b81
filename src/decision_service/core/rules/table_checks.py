"""What the rows of a decision table leave open, repeat or contradict, each with an example that shows it.

    error     a gap: values for which every row is false, in a table without `otherwise`
    warning   a row that can never apply; rows of a `first` table that share some values, though neither covers the
              other, and ask for different things; rows of an `all` table that ask for different values of one sort
    warning   that the table is too large to be sure (TABLE_REGIONS_MAX)

Where bounds are dated constants the table is looked at as it is between every two of their dates.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from decision_service.core.limits import TABLE_REGIONS_MAX
from decision_service.core.rules.regions import (
    Box,
    Regions,
    Search,
    TooManyRegions,
    boxes_of,
    everything,
    meet,
    meeting,
)
from decision_service.core.rules.spec import said
from decision_service.core.rules.table_spec import TableInput, TableRow, TableSpec
from decision_service.core.source import Findings
from decision_service.core.vocabulary import Kind
from decision_service.core.zone import Zone

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OTHERS_SHOWN: Final = 6  # texts named to say what another text is not
GAP_CURE: Final = "a row for it, or `otherwise` for all that no row names"
Asked = tuple[dict[str, str], str]


def check_table(
    table: TableSpec, zone: Zone | None, findings: Findings, row: str = "row", cure: str = GAP_CURE
) -> None:
    """Report gaps, rows that cannot be reached, and rows in conflict; `row` is what a row is called."""
    search = Search(TABLE_REGIONS_MAX)
    for t_ms in table.eras_ms or (0,):
        if any(bound.at(t_ms) != bound.at(t_ms) for row in table.rows for cell in row.cells for bound in cell.dated):
            continue  # before the first date of some constant the table cannot tell anyway
        before = len(findings.diagnostics)
        since = _since(t_ms, zone) if table.eras_ms else ""
        _EraCheck(table, t_ms, search, findings, _Words(row, cure, since)).run()
        if len(findings.diagnostics) > before:
            return  # what is wrong in one period is mostly wrong in the next


def _since(t_ms: int, zone: Zone | None) -> str:
    local_ms = t_ms + (0 if zone is None else zone.offset_at(t_ms))
    return f", with the constants of {(_EPOCH + timedelta(milliseconds=local_ms)).date().isoformat()}"


@dataclass(frozen=True, slots=True)
class _Words:
    """How findings are worded: what a row is called, what to do about a gap, and the period it is about."""

    row: str
    cure: str
    since: str


class _EraCheck:
    """The check of one table by the bounds of one instant."""

    def __init__(self, table: TableSpec, t_ms: int, search: Search, findings: Findings, words: _Words) -> None:
        self._table = table
        self._search = search
        self._row, self._cure, self._since = words.row, words.cure, words.since
        self._findings = findings
        self._inputs = table.regions_at(t_ms)
        self._all = everything(self._inputs)
        self._true = [meet(box, self._all) for box in boxes_of(self._inputs, possible=False)]
        self._possible = boxes_of(self._inputs, possible=True)
        self._first = table.hit == "first"
        self._effects = [_asked(row) for row in table.rows]

    def run(self) -> None:
        """Report everything; what could not be looked at in time is said."""
        try:
            if self._table.otherwise is None:
                self._gap()
            reached = self._unreachable()
            pairs = meeting(self._inputs)
            for second in sorted(reached):
                earlier = np.flatnonzero(pairs[:second, second]).tolist()
                next((True for first in earlier if first in reached and self._conflict(first, second)), False)
        except TooManyRegions:
            self._findings.warning(
                self._table.place,
                f"too large a table to be sure that it has no gap and no row in vain: more than {TABLE_REGIONS_MAX:,} "
                "regions of values",
                expected="fewer inputs or fewer bounds, or several tables",
            )

    def _gap(self) -> None:
        box = self._search.uncovered(self._all, self._possible)
        if box is not None:
            self._findings.error(
                self._table.place, f"nothing says what happens{self._when(box)}{self._since}",
                expected=self._cure,
            )  # fmt: skip

    def _unreachable(self) -> set[int]:
        """Report rows that never apply; the others."""
        reached = set()
        for position, box in enumerate(self._true):
            earlier = self._possible[:position] if self._table.hit == "first" else ()
            if box is not None and self._search.uncovered(box, earlier) is not None:
                reached.add(position)
                continue
            row = self._table.rows[position]
            why = f"the {self._row}s above it take all of its values" if box is not None else "no value meets its cells"
            self._findings.warning(row.place, f"the {self._row} `{row.label}` is never reached: {why}{self._since}")
        return reached

    def _conflict(self, first: int, second: int) -> bool:
        """Report two rows that apply to the same values and ask for different things; whether they do."""
        told = _differ(*self._asked(first, second)) if self._first else _contradict(*self._asked(first, second))
        shared = self._shared(first, second) if told else None
        example = None
        if shared is not None:
            example = self._search.uncovered(shared, self._possible[:first] if self._first else ())
        if example is None:
            return False
        a, b = self._table.rows[first], self._table.rows[second]
        end = f"and `{a.label}` wins because it stands first" if self._first else f"and contradict each other: {told}"
        self._findings.warning(
            b.place,
            f"the {self._row}s `{a.label}` and `{b.label}` both apply{self._when(example)}{self._since}, {end}",
            expected=f"{self._row}s that exclude each other{', or one that covers the other' if self._first else ''}",
        )  # fmt: skip
        return True

    def _shared(self, first: int, second: int) -> Box | None:
        """The values two rows share; in a `first` table only if neither covers the other."""
        a, b = self._true[first], self._true[second]
        shared = None if a is None or b is None else meet(a, b)
        return None if self._first and shared in (a, b) else shared

    def _asked(self, first: int, second: int) -> tuple[Asked, Asked]:
        return self._effects[first], self._effects[second]

    def _when(self, box: Box) -> str:
        """An example of a box in words, without the inputs that do not matter."""
        parts = [
            f"{given.text} {_example(given, regions, chosen)}"
            for given, regions, chosen, whole in zip(self._table.inputs, self._inputs, box, self._all, strict=True)
            if chosen != whole
        ]
        return " when " + " and ".join(parts) if parts else ", whatever the values"


def _example(given: TableInput, regions: Regions, chosen: int) -> str:
    """`is 12`, of one value of some regions: a plain one, if there is a choice."""
    places = [place for place in range(len(regions.samples)) if chosen >> place & 1]
    place = min(places, key=lambda place: (place == regions.null, _oddness(regions.samples[place])))
    sample = regions.samples[place]
    if place == regions.null:
        return "is null"
    if given.tree.kind is not Kind.STRING:
        return f"is {sample:.17g}" if f"{sample:g}" != str(sample) else f"is {sample:g}"
    if sample is not None:
        return f"is {sample}"
    named = list(regions.places)
    if len(named) == 1:
        return f"is not {named[0]}"
    shown = ", ".join(named[:_OTHERS_SHOWN]) + (", ..." if len(named) > _OTHERS_SHOWN else "")
    return f"is none of {shown}" if named else "is anything"


def _oddness(sample: float | str | None) -> int:
    """How odd an example looks: a named text or a whole number from 0 on is plain."""
    if isinstance(sample, float):
        return (sample < 0) + 2 * (sample != round(sample) if abs(sample) < 2**53 else 0)
    return int(sample is None)


def _asked(row: TableRow) -> Asked:
    """What a row asks for by what it is about, and for what reason."""
    return {_subject(effect): _shown(effect) for effect in said(row.then)}, row.reason


def _differ(first: Asked, second: Asked) -> str:
    return "" if first == second else "different things"


def _contradict(first: Asked, second: Asked) -> str:
    """What two rows of an `all` table say differently about one thing, or the empty string."""
    a, b = first[0], second[0]
    return "; ".join(f"{a[subject]} and {b[subject]}" for subject in a if subject in b and a[subject] != b[subject])


def _subject(effect: str | dict[str, Any]) -> str:
    """What an effect is about; names (offers, tags) and alerts of other indicators never contradict each other."""
    if isinstance(effect, str):
        return effect
    ((sort, what),) = effect.items()
    if sort in ("offer", "tag"):
        return f"{sort} {what}"
    return f"{sort} {what['indicator']}" if sort == "alert" else sort


def _shown(effect: str | dict[str, Any]) -> str:
    if isinstance(effect, str):
        return effect
    ((sort, what),) = effect.items()
    return f"{sort}: {_shown(what)}" if isinstance(what, dict) and len(what) == 1 else f"{sort}: {_flat(what)}"


def _flat(what: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in what.items()) if isinstance(what, dict) else str(what)

"""The report of `models compare`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from decision_service.api.instants import format_instant
from decision_service.report import Block, Cell, Report, Section, Table, Text, plots
from decision_service.watch.compare_text import interval
from decision_service.watch.comparing import Compared, Difference, Side, Swap
from decision_service.watch.decisions import Span
from decision_service.watch.quality import share


def compare_report(found: Compared, span: Span) -> Report:
    """The whole report."""
    about = (
        f"Decisions from {format_instant(span.since_ms)} to {format_instant(span.until_ms)}; bad is {found.target}, "
        "for all versions alike."
    )
    sections = [
        Section("Sides", tuple(_sides(found))), *([_differences(found)] if found.differences else []),
        *(Section(f"Shadow {swap.shadow}", tuple(_swap(swap))) for swap in found.swaps),
        *(_calibration(side) for side in found.sides if side.quality is not None),
    ]  # fmt: skip
    return Report(f"{found.scorecard}: champion, challenger and shadows", about, tuple(sections))


def _sides(found: Compared) -> Iterator[Block]:
    yield Table(
        ("version", "decisions", "no score", "approved", "points", "mean PD", "matured", "bad rate", "KS",
         "AUC"),
        tuple(map(_side, found.sides)),
    )  # fmt: skip
    declared = "none is declared" if math.isnan(found.declared_share) else f"{found.declared_share:.1%} is declared"
    realised = interval(found.realised_share)
    yield Text(f"The challenger's share of the customers who drew is {realised}; {declared}.{_warning(found)}")
    for what, counts in (("grade", "grades"), ("hold", "holds")):
        names = sorted({name for side in found.sides for name in getattr(side, counts)})
        if names:
            rows = tuple(_mix(side, getattr(side, counts), names) for side in found.sides)
            yield Table(("version", *names), rows, title=f"Share of decisions by {what}")


def _warning(found: Compared) -> str:
    if found.share_holds is not False:
        return ""
    return " The two disagree: was the share or its salt changed within these instants?"


def _side(one: Side) -> tuple[Cell, ...]:
    quality = one.quality
    ks, auc = (None, None) if quality is None else (_percent(quality.ks), quality.auc)
    return (
        _name(one), one.decisions, one.refused, _percent(one.approved.value), one.points_mean,
        _percent(one.pd_mean), one.matured, _percent(one.bad_rate.value), ks, auc,
    )  # fmt: skip


def _mix(side: Side, counts: dict[str, int], names: list[str]) -> tuple[Cell, ...]:
    return (_name(side), *(_percent(counts.get(name, 0) / side.decisions) for name in names))


def _differences(found: Compared) -> Section:
    note = (
        "The challenger's figure less the champion's, with its 95 % interval; p of a two-proportion test. Decisions "
        "are taken as independent: where few customers draw often, intervals are too narrow."
    )
    rows = tuple(map(_difference, found.differences))
    return Section("Challenger less champion", (Table(("figure", "difference", "from", "to", "p"), rows, note),))


def _difference(one: Difference) -> tuple[Cell, ...]:
    value = one.value
    return one.figure, value.value, value.low, value.high, one.p


def _swap(one: Swap) -> Iterator[Block]:
    yield Text(
        f"{one.both_scored:,} decisions were scored by both; at the approval rate of {one.approval_rate:.1%} each "
        f"version would approve its own best. Rank correlation of the PDs: {one.pd_correlation:.3f}."
    )
    rows = tuple((c.cell, c.customers, c.matured, interval(c.bad_rate)) for c in one.cells)
    yield Table(
        ("cell", "decisions", "matured", "bad rate"), rows,
        "In: approved by the shadow and not by the champion; out: the other way round. Bad rate of those in less those "
        f"out: {interval(one.in_less_out)}.",
    )  # fmt: skip
    known = [(cell.cell, cell.bad_rate.value) for cell in one.cells if cell.matured]
    if known:
        name = re.sub(r"[^a-z0-9]+", "-", f"swap {one.shadow}".lower()).strip("-")
        yield plots.bars(name, known, "Bad rate of each cell of the swap set.", "bad rate", as_share=True)
    if one.quality is not None and one.champion is not None:
        yield Table(
            ("on the same matured decisions", "AUC", "KS", "calibration error"),
            tuple(
                (who, quality.auc, _percent(quality.ks), _percent(quality.calibration_error))
                for who, quality in (("champion", one.champion), ("shadow", one.quality))
            ),
        )  # fmt: skip


def _calibration(side: Side) -> Section:
    assert side.quality is not None
    groups = []
    for group in side.quality.groups:
        bounds = share(group.bads, group.rows)
        groups.append(plots.Group(group.pd_mean, group.bad_rate, bounds.low, bounds.high, group.rows))
    name = re.sub(r"[^a-z0-9]+", "-", f"calibration {_name(side)}".lower()).strip("-")
    figure = plots.calibration(name, groups, "Predicted and observed, by tenths of the decisions that matured.")
    return Section(f"Calibration: {_name(side)}", (figure,))


def _name(side: Side) -> str:
    return f"{side.card} {side.role}"


def _percent(value: float) -> str | None:
    return None if math.isnan(value) else f"{value:.2%}"

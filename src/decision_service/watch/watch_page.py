"""The report of `models watch`: what is found first, then drift, answers and outcomes of each version and role."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from decision_service.api.instants import format_instant
from decision_service.core.scorecards.drift import CHANCE, NULL_SHIFT_MAX, PSI_MOVED, PSI_SHIFTED
from decision_service.report import Block, Cell, Facts, Figure, Report, Section, Table, Text, plots
from decision_service.watch.card_drift import CardDrift, InputDrift
from decision_service.watch.decisions import Span
from decision_service.watch.manifests import Manifests
from decision_service.watch.quality import Interval, Quality, share
from decision_service.watch.watching import Vintage, Watched

BARS_MAX: Final = 20
_DRIFT_NOTE: Final = (
    f"PSI from {PSI_SHIFTED:g} is a shift and above {PSI_MOVED:g} another distribution, if it is larger than what "
    f"chance alone makes once in {1 / CHANCE:.0f} samples of this size (`critical`). A shift of the null rate beyond "
    f"{NULL_SHIFT_MAX:.0%} is an alert."
)


def watch_report(found: Sequence[Watched], manifests: Manifests, span: Span) -> Report:
    """The whole report."""
    about = f"Decisions from {format_instant(span.since_ms)} to {format_instant(span.until_ms)}."
    if not found:
        return Report("Scorecards in production", about, (Section("Nothing", (Text("No decision has a score."),)),))
    sections = [_summary(found, manifests)]
    for one in found:
        sections += _sections(one)
    return Report("Scorecards in production", about, tuple(sections))


def _summary(found: Sequence[Watched], manifests: Manifests) -> Section:
    rows = [
        (f"{one.card} {one.role}", finding.severity, finding.code, finding.text)
        for one in found
        for finding in one.findings
    ]
    findings: Block = (
        Table(("scorecard", "severity", "finding", "what"), tuple(rows), "A trigger is a reason to rebuild.")
        if rows
        else Text("No reason to rebuild, and nothing to look at closer.")
    )  # fmt: skip
    overview = Table(
        ("scorecard", "decisions", "PSI", "critical", "AUC", "KS", "mean PD", "bad rate", "matured"),
        tuple(_overview(one) for one in found),
    )  # fmt: skip
    problems = "\n\n".join(f"{card}: {problem}" for card, problem in manifests.problems.items())
    return Section("Findings", (findings, overview, *([Text(problems)] if problems else [])))


def _overview(one: Watched) -> tuple[Cell, ...]:
    psi, critical = (None, None) if one.drift is None else (one.drift.score.drift.psi, one.drift.score.drift.critical)
    auc, ks, pd, bad, matured = _few(one.quality)
    return (
        f"{one.card} {one.role}", one.n, psi, critical, auc, ks, pd, bad, matured,
    )  # fmt: skip


def _few(quality: Quality | None) -> tuple[Cell, Cell, Cell, Cell, int]:
    """AUC, KS, mean PD, bad rate and rows."""
    if quality is None:
        return None, None, None, None, 0
    pd, bad = _percent(quality.pd_mean), _percent(quality.bad_rate)
    return quality.auc, _percent(quality.ks), pd, bad, quality.rows


def _sections(one: Watched) -> Iterator[Section]:
    name = f"{one.card} as {one.role}"
    if one.drift is not None and one.drift.n:
        yield Section(f"{name}: drift", tuple(_drift_blocks(one, one.drift)))
    yield Section(f"{name}: answers", tuple(_answer_blocks(one)))
    yield Section(f"{name}: outcomes", tuple(_outcome_blocks(one)))


# --- drift ----------------------------------------------------------------------------------------------------------


def _drift_blocks(one: Watched, found: CardDrift) -> Iterator[Block]:
    score = found.score.drift
    yield Facts(
        (
            ("verdict", score.verdict), ("PSI", score.psi), ("critical value", score.critical), ("bins", score.bins),
            ("scores", score.n), ("few rows a bin", score.thin), ("mean PD", _percent(found.pd_mean)),
        )
    )  # fmt: skip
    if len(found.score.cuts) > 1 and score.n:
        yield _distribution(one, found.score)
    bars = [(f.name, f.psi_over_critical) for f in found.worst_first if not math.isnan(f.psi_over_critical)]
    if bars:
        yield plots.bars(
            _figure(one, "features"), bars[:BARS_MAX], "PSI of features over what chance makes; 1 is chance.",
            "PSI over its critical value",
        )  # fmt: skip
    yield Table(
        ("feature", "verdict", "PSI", "critical", "rows", "bins", "null", "null in training", "null shift"),
        tuple(_feature(feature) for feature in (found.score, *found.worst_first)), _DRIFT_NOTE,
    )  # fmt: skip


def _feature(one: InputDrift) -> tuple[Cell, ...]:
    drift = one.drift
    shift = (
        f"{100 * one.null_shift:+.1f} pp{' (alert)' if one.null_alert else ''}"
        if not math.isnan(one.null_shift)
        else None
    )
    return (
        one.name, drift.verdict + (" (few rows)" if drift.thin and drift.n else ""), drift.psi, drift.critical, drift.n,
        drift.bins, _percent(one.null_rate), _percent(one.null_rate_trained), shift,
    )  # fmt: skip


def _distribution(one: Watched, score: InputDrift) -> Figure:
    cuts = np.array(score.cuts)
    width = float(np.median(np.diff(cuts)))
    edges = np.concatenate(([cuts[0] - width], cuts, [cuts[-1] + width]))
    now = np.array(score.counts) / max(sum(score.counts), 1)
    parts = [("training", np.array(score.shares)), ("now", now)]
    return plots.distribution(
        _figure(one, "points"), edges, parts, "Points now and in training; both ends are open.", "points"
    )  # fmt: skip


# --- answers --------------------------------------------------------------------------------------------------------


def _answer_blocks(one: Watched) -> Iterator[Block]:
    if one.refused:
        yield Table(("no score because", "decisions"), tuple(one.refused.items()))
    dates = [day.date for day in one.days]
    grades = sorted({grade for day in one.days for grade in day.grades})
    if len(dates) > 1:
        mix = [(grade, np.array([day.grades.get(grade, 0) / day.n for day in one.days])) for grade in grades[:8]]
        yield plots.lines(_figure(one, "grades"), dates, mix, "Grades by day.", "share of decisions", as_share=True)
        approved = np.array([day.approved / day.n for day in one.days])
        yield plots.lines(
            _figure(one, "approved"), dates, [("approved", approved)], "Approved by day.", "share of decisions",
            as_share=True,
        )  # fmt: skip
    yield Table(
        ("day", "decisions", "approved", "no score", *(f"grade {grade}" for grade in grades)),
        tuple(
            (day.date, day.n, _percent(day.approved / day.n), day.refused,
             *(_percent(day.grades.get(grade, 0) / day.n) for grade in grades))
            for day in one.days
        ),
    )  # fmt: skip


# --- outcomes -------------------------------------------------------------------------------------------------------


def _outcome_blocks(one: Watched) -> Iterator[Block]:
    counts = tuple((name.replace("_", " "), count) for name, count in one.outcomes.items())
    yield Facts((("target", str(one.target)), ("trained on observations until", one.trained_until or None), *counts))
    if one.quality is None:
        yield Text("No decision has matured yet: what the scores are worth is not known.")
    else:
        yield Table(_QUALITY, tuple(_qualities(one)), _quality_note(one))
        yield _calibration(one, one.quality)
    if len(one.vintages) > 1:
        yield from _vintage_figures(one)
    yield Table(
        ("month", "decisions", "matured", "bad rate", "95 %", "mean PD", "AUC", "KS", "unknown", "early", "early bad"),
        tuple(_vintage(vintage) for vintage in one.vintages),
        "Months by the instant a decision is about. Early are those that have not matured: only the bad ones of them "
        "are known, an indicator and never a rate to compare.",
    )  # fmt: skip


_QUALITY: Final = (
    "matured", "rows", "bad", "AUC", "±", "KS", "mean PD", "bad rate", "ECE", "HL p",
)  # fmt: skip


def _qualities(one: Watched) -> Iterator[tuple[Cell, ...]]:
    for what, quality in (("all", one.quality), ("last three months", one.recent), ("approved", one.approved_quality)):
        if quality is not None:
            yield (
                what, quality.rows, quality.bads, quality.auc, 1.96 * quality.auc_error, _percent(quality.ks),
                _percent(quality.pd_mean), _percent(quality.bad_rate), _percent(quality.calibration_error),
                quality.hosmer_lemeshow_p,
            )  # fmt: skip


def _quality_note(one: Watched) -> str:
    assert one.quality is not None
    thin = " There are too few bads or goods for more than an indication." if one.quality.thin else ""
    return (
        f"KS in training: {_percent(one.ks_trained) or 'not known'}. ± is half of the 95 % interval of AUC, ECE the "
        f"expected calibration error, HL Hosmer-Lemeshow. Every decision counts once.{thin}"
    )


def _calibration(one: Watched, quality: Quality) -> Figure:
    groups = []
    for group in quality.groups:
        interval = share(group.bads, group.rows)
        groups.append(plots.Group(group.pd_mean, group.bad_rate, interval.low, interval.high, group.rows))
    return plots.calibration(
        _figure(one, "calibration"), groups, "Predicted and observed, by tenths of the decisions that matured."
    )  # fmt: skip


def _vintage_figures(one: Watched) -> Iterator[Figure]:
    months = [vintage.month for vintage in one.vintages]
    known = [vintage.quality for vintage in one.vintages]
    bad = np.array([math.nan if q is None else q.bad_rate for q in known])
    pd = np.array([math.nan if q is None else q.pd_mean for q in known])
    if not np.isnan(bad).all():
        yield plots.lines(
            _figure(one, "bad-rate"), months, [("bad rate", bad), ("mean PD", pd)],
            "What was predicted and what came, by month; matured decisions only.", "share", as_share=True,
        )  # fmt: skip
    ks = np.array([math.nan if q is None else q.ks for q in known])
    if not np.isnan(ks).all():
        marks = [] if math.isnan(one.ks_trained) else [("training", one.ks_trained)]
        yield plots.lines(
            _figure(one, "ks"), months, [("KS", ks)], "KS by month; matured decisions only.", "KS", marks, as_share=True
        )  # fmt: skip


def _vintage(one: Vintage) -> tuple[Cell, ...]:
    auc, ks, pd, bad, _ = _few(one.quality)
    return (
        one.month, one.decisions, one.matured, bad, _interval(one.bad_rate), pd,
        auc, ks, one.unknown, one.early, one.early_bads,
    )  # fmt: skip


def _interval(one: Interval) -> str | None:
    return None if math.isnan(one.value) else f"{one.low:.1%}\N{EN DASH}{one.high:.1%}"


def _percent(value: float) -> str | None:
    return None if math.isnan(value) else f"{value:.2%}"


def _figure(one: Watched, what: str) -> str:
    """A figure's name: letters, digits and single dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{one.card} {one.role} {what}".lower()).strip("-")

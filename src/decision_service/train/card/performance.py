"""How well the scorecard tells good from bad, and whether its probabilities come true."""

from __future__ import annotations

import numpy as np

from decision_service.report import Block, Figure, Section, Table, Text, percent, plots
from decision_service.train.card.subject import Part, Subject
from decision_service.train.gains import cumulated, gains
from decision_service.watch.quality import roc, share

_KS_POINTS = 300  # values of the score at which the curves of KS are drawn


def performance(subject: Subject) -> Section:
    """Figures of each part, ROC, KS, gains and lift."""
    judged = subject.judged
    blocks: list[Block] = [_figures(subject), _roc(subject), _ks(subject), _gains(subject), _lift(judged)]
    return Section("Performance", (*blocks, _gains_table(judged)))


def _figures(subject: Subject) -> Table:
    rows = tuple(
        (
            part.title, f"{q.auc:.3f}", f"{q.auc_error:.3f}", f"{2 * q.auc - 1:.3f}", percent(q.ks), f"{q.brier:.5f}",
            percent(q.pd_mean, 2), percent(q.bad_rate, 2), percent(q.calibration_error, 2),
            f"{q.hosmer_lemeshow:.1f}", f"{q.hosmer_lemeshow_p:.3f}",
        )
        for part in subject.parts
        for q in [part.quality]
    )  # fmt: skip
    columns = ("part", "AUC", "standard error", "Gini", "KS", "Brier", "mean PD", "bad rate", "calibration error",
               "Hosmer-Lemeshow", "p")  # fmt: skip
    note = """
    Judge by the last line: the others had a hand in the model or its calibration. The standard error of AUC is Hanley
    and McNeil's; Gini is 2 AUC - 1; the calibration error is the mean distance of mean PD and bad rate over ten equal
    groups; Hosmer-Lemeshow is chi-squared over these groups, with a degree of freedom for each, and p is how likely
    chance alone makes it so large.
    """
    return Table(columns, rows, note)


def _roc(subject: Subject) -> Figure:
    curves = [plots.Curve(part.title, *roc(part.pds, part.bad == 1)) for part in _compared(subject)]
    return plots.roc("roc", curves, "ROC: of the bad, the share found, against the share of the good taken for bad.")


def _compared(subject: Subject) -> list[Part]:
    """Training, validation if there is one, and the judged rows."""
    return [part for part in subject.parts if part.title != "calibration"]


def _ks(subject: Subject) -> Figure:
    judged, scaling = subject.judged, subject.card.manifest.scaling
    exact = scaling.offset - scaling.factor * np.log(judged.pds / (1.0 - judged.pds))
    at, goods, bads = cumulated(np.clip(exact, scaling.points_min, scaling.points_max), judged.bad, _KS_POINTS)
    caption = f"KS, {judged.title}: shares of the good and the bad with at most so many points."
    return plots.ks("ks", plots.Curve("good", at, goods), plots.Curve("bad", at, bads), caption)


def _gains(subject: Subject) -> Figure:
    curves = []
    for part in (subject.fitted, subject.judged):
        false_positives, true_positives = roc(part.pds, part.bad == 1)
        rate = part.quality.bad_rate
        depth = true_positives * rate + false_positives * (1.0 - rate)
        curves.append(plots.Curve(part.title, depth, true_positives))
    return plots.gains("gains", curves, "Gains: the share of all bad that stands among the riskiest share of rows.")


def _lift(judged: Part) -> Figure:
    lifts = [gain.lift for gain in gains(judged.pds, judged.bad)]
    return plots.lift("lift", lifts, f"Lift, {judged.title}: bad rate of each tenth over that of all rows.")


def _gains_table(judged: Part) -> Table:
    rows = tuple(
        (
            str(i), gain.rows, gain.bads, percent(gain.pd_least, 2), percent(gain.bad_rate, 2), f"{gain.lift:.2f}",
            percent(gain.rows_so_far), percent(gain.bads_so_far),
        )
        for i, gain in enumerate(gains(judged.pds, judged.bad), 1)
    )  # fmt: skip
    columns = ("tenth", "rows", "bads", "PD from", "bad rate", "lift", "rows so far", "bads so far")
    return Table(columns, rows, title=f"Gains, {judged.title}, riskiest first")


def calibration(subject: Subject) -> Section:
    """Predicted and observed by tenths."""
    judged = subject.judged
    groups = judged.quality.groups
    intervals = [share(group.bads, group.rows) for group in groups]
    drawn = [
        plots.Group(group.pd_mean, group.bad_rate, interval.low, interval.high, group.rows)
        for group, interval in zip(groups, intervals, strict=True)
    ]
    rows = tuple(
        (str(i), group.rows, percent(group.pd_mean, 2), group.bads, percent(group.bad_rate, 2),
         f"{percent(interval.low, 2)} to {percent(interval.high, 2)}",
         "yes" if interval.low <= group.pd_mean <= interval.high else "no")
        for i, (group, interval) in enumerate(zip(groups, intervals, strict=True), 1)
    )  # fmt: skip
    columns = ("tenth", "rows", "mean PD", "bads", "bad rate", "95 % interval", "holds the PD")
    caption = f"Calibration, {judged.title}: the bad rate of each tenth with its interval, against what was predicted."
    missed = percent(1.0 - 0.95 ** len(groups), 0)
    note = f"Intervals are Wilson's. In {missed} of all samples one interval at least misses its PD by chance."
    figure = plots.calibration("calibration", drawn, caption)
    return Section("Calibration", (_verdict(judged), figure, Table(columns, rows, note, "By tenths, safest first")))


def _verdict(judged: Part) -> Text:
    quality = judged.quality
    ratio = quality.bad_rate / quality.pd_mean
    return Text(
        f"Among the {judged.title} rows {percent(quality.bad_rate, 2)} went bad where {percent(quality.pd_mean, 2)} "
        f"were predicted, {ratio:.2f} times as many. Hosmer-Lemeshow gives p = {quality.hosmer_lemeshow_p:.3f}: "
        + (
            "chance alone explains the differences by group."
            if quality.hosmer_lemeshow_p >= 0.05
            else "the differences by group are larger than chance makes them in one of twenty samples."
        )
    )

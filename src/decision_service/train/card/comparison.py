"""Beside the champion: the same rows, both scorecards."""

from __future__ import annotations

import math

import numpy as np

from decision_service.report import Block, Section, Table, Text, percent, plots
from decision_service.train.card.subject import Floats, Labels, Mask, Subject
from decision_service.watch.quality import Quality, quality, roc


def comparison(subject: Subject) -> Section:
    """Figures of both on the judged rows that both score, and who would change sides."""
    champion, judged = subject.trained.champion, subject.judged
    title = "Champion"
    if champion is None:
        return Section(title, (Text("There was no champion to compare with."),))
    old_pds, old_points = champion.pds[judged.mask], champion.points[judged.mask]
    both = np.isfinite(old_pds)
    bad = judged.bad[both]
    if not 0 < int(bad.sum()) < len(bad):
        return Section(title, (Text("The champion scores no rows on which both could be compared."),))
    names = (subject.card.version, champion.scorecard.version)
    pds = (judged.pds[both], old_pds[both])
    blocks: list[Block] = [_figures(names, pds, bad, int((~both).sum()))]
    curves = [plots.Curve(name, *roc(each, bad == 1)) for name, each in zip(names, pds, strict=True)]
    blocks.append(plots.roc("roc-champion", curves, f"ROC of both, {judged.title}, on the rows that both score."))
    blocks.append(_swaps(subject, judged.points[both], old_points[both], bad))
    return Section(title, tuple(blocks))


def _figures(names: tuple[str, str], pds: tuple[Floats, Floats], bad: Labels, unscored: int) -> Table:
    new, old = (quality(each, bad == 1) for each in pds)
    rows = (_line(names[0], new), _line(names[1], old), _difference(new, old))
    columns = ("version", "AUC", "KS", "Gini", "Brier", "calibration error", "mean PD")
    note = f"{len(bad):,} rows, {int(bad.sum()):,} bad. The champion does not score {unscored:,} further rows."
    return Table(columns, rows, note)


def _line(name: str, q: Quality) -> tuple[str, ...]:
    return (f"`{name}`", f"{q.auc:.3f}", percent(q.ks), f"{2 * q.auc - 1:.3f}", f"{q.brier:.5f}",
            percent(q.calibration_error, 2), percent(q.pd_mean, 2))  # fmt: skip


def _difference(new: Quality, old: Quality) -> tuple[str, ...]:
    def pp(change: float) -> str:
        return f"{100 * change:+.2f} pp"

    cells = ("difference", f"{new.auc - old.auc:+.3f}", pp(new.ks - old.ks), f"{2 * (new.auc - old.auc):+.3f}",
             f"{new.brier - old.brier:+.5f}", pp(new.calibration_error - old.calibration_error),
             pp(new.pd_mean - old.pd_mean))  # fmt: skip
    return tuple(cell.replace("-", "−") for cell in cells)


def _swaps(subject: Subject, new: Floats, old: Floats, bad: Labels) -> Table:
    """Both accept as many as the new one's grades above the worst two do."""
    least = subject.card.manifest.grades.points_from[-2]
    accepted = new >= least
    by_old = np.zeros(len(old), np.bool_)
    by_old[np.argsort(-old, kind="stable")[: int(accepted.sum())]] = True
    cells: tuple[tuple[str, Mask], ...] = (
        ("accepted by both", accepted & by_old), ("only by the new one", accepted & ~by_old),
        ("only by the champion", ~accepted & by_old), ("by neither", ~accepted & ~by_old),
    )  # fmt: skip
    rows = tuple(
        (name, int(mask.sum()), percent(float(mask.mean())), int(bad[mask].sum()),
         percent(float(bad[mask].mean()) if mask.any() else math.nan, 2))
        for name, mask in cells
    )  # fmt: skip
    note = f"Both accept the same number: what the new scorecard gives {least} points or more."
    return Table(("swap set", "rows", "share", "bads", "bad rate"), rows, note, "Who would change sides")

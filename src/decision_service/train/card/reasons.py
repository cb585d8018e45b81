"""Which reason codes the scorecard gives those it speaks against."""

from __future__ import annotations

import numpy as np

from decision_service.core.reasons import TEXTS
from decision_service.core.scorecards.adverse import REASONS_MAX
from decision_service.report import Section, Table, Text, percent, plots
from decision_service.train.card.subject import Subject, spread
from decision_service.train.explanations import reason_counts

_ROWS_MAX = 500


def reasons(subject: Subject) -> Section:
    """Frequencies of the first and the top reasons in the two worst grades."""
    card, judged = subject.card, subject.judged
    worst = card.manifest.grades.names[-2:]
    rejected = np.array([card.manifest.grades.of(int(each)) in worst for each in judged.points])
    rows = spread(judged.rows[rejected], _ROWS_MAX)
    grades = " and ".join(worst)
    if not len(rows):
        return Section("Reasons", (Text(f"No {judged.title} row has grade {grades}, so nobody gets a reason."),))
    first, among = reason_counts(card, rows)
    codes = sorted(among, key=lambda code: (-among[code], code))
    text = f"""
    Rules usually reject by the worst grades. Of the {judged.title} rows {int(rejected.sum()):,} have grade {grades};
    {len(rows):,} of them are explained as an answer would be: what features add to the risk of an unknown customer is
    netted by reason code, unknown features aside, and the heaviest codes are told, {REASONS_MAX} at most.
    """
    table = Table(
        ("reason", "what a customer is told", "first reason", "among the reasons"),
        tuple(
            (code, TEXTS[code], percent(first[code] / len(rows)), percent(among[code] / len(rows))) for code in codes
        ),
        f"{len(rows) - first.total():,} rows have no code that weighs against them.",
    )
    if not codes:
        return Section("Reasons", (Text(text), table))
    bars = [(f"{code} {TEXTS[code]}", among[code] / len(rows)) for code in codes]
    caption = f"How often each code is among the reasons of a row in grade {grades}."
    return Section("Reasons", (Text(text), plots.bars("reasons", bars, caption, "share of rows", as_share=True), table))

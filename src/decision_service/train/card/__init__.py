"""The model card of a scorecard: what it is for, what made it, how well it does, and where it must not be used.

    subject       the training run, seen by its parts and months
    purpose       in short, what for, limits
    data          sample design, rows and bads of each part and month
    performance   ROC, KS, gains, and whether probabilities come true
    points        their distribution, grades, and how steady they are by month
    features      what goes in, what it weighs, and whether promises of monotonicity are kept
    points_table  the bins of a points scorecard
    reasons       which reason codes the rejected get
    comparison    beside the champion
    origin        how to make the same scorecard again

Every figure is computed from the training run; nothing of the clock is in a card, so the same run gives the same bytes.
A section that has nothing to rest on (months of a table without dates, a champion where there is none) says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from decision_service.report import Report, ReportExtraMissing, write_html, write_markdown
from decision_service.train.card.comparison import comparison
from decision_service.train.card.data import data, design
from decision_service.train.card.features import features, monotonicity
from decision_service.train.card.origin import origin
from decision_service.train.card.performance import calibration, performance
from decision_service.train.card.points import points, stability
from decision_service.train.card.points_table import points_table
from decision_service.train.card.purpose import in_short, limits, purpose
from decision_service.train.card.reasons import reasons
from decision_service.train.card.subject import subject_of
from decision_service.train.trained import Trained

CARD_NAME: Final = "model_card"
_SECTIONS: Final = (
    in_short, purpose, design, data, performance, calibration, points, stability, features, points_table, monotonicity,
    reasons, comparison, limits, origin,
)  # fmt: skip

__all__ = ["CARD_NAME", "card_report", "write_card"]


def card_report(trained: Trained) -> Report:
    """The model card. Raises ReportExtraMissing."""
    subject = subject_of(trained)
    card = subject.card
    about = (
        f"Model card of the scorecard `{card.name}`, version `{card.version}`, written by the training run that made "
        "it. The page and the Markdown beside it say the same."
    )
    title = f"Scorecard {card.name} {card.version}"
    return Report(title, about, tuple(section(subject) for section in _SECTIONS))


def write_card(trained: Trained, say: Callable[[str], None]) -> Report | None:
    """The model card as `model_card.html` and `model_card.md`, with figures, beside the manifest; loading a scorecard
    ignores them. None from a run without the libraries for it, which says so and is no worse for it."""
    say("writing the model card")
    try:
        report = card_report(trained)
        write_html(report, trained.directory / f"{CARD_NAME}.html")
        write_markdown(report, trained.directory / f"{CARD_NAME}.md")
    except ReportExtraMissing as error:
        say(f"no model card: {error}")
        return None
    return report

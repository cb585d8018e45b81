"""Features: what goes in, what it weighs, and whether the scorecard keeps its promises of monotonicity."""

from __future__ import annotations

import numpy as np

from decision_service.core.reasons import TEXTS
from decision_service.core.scorecards.distribution import cuts_of
from decision_service.report import Block, Section, Table, Text, percent, plots
from decision_service.train.card.subject import Subject, spread
from decision_service.train.explanations import contributions, tree_use
from decision_service.train.gains import information_value
from decision_service.train.response import FeatureResponse, response

_ROWS_EXPLAINED = 400
_ROWS_MOVED = 120
_BARS = 30
_DIRECTIONS = {1: "rises", -1: "falls", 0: "either"}


def features(subject: Subject) -> Section:
    """One line for each feature, heaviest first."""
    card = subject.card
    parts = contributions(card, spread(subject.judged.rows, _ROWS_EXPLAINED))
    weights = np.abs(parts[:, :-1]).mean(axis=0)
    order = [int(i) for i in np.argsort(-weights, kind="stable")]
    total = float(weights.sum()) or 1.0
    bars = [(card.names[i], float(weights[i]) / total) for i in order[:_BARS]]
    caption = f"""
    Importance: the share of each feature in all contributions to the margin, by absolute size, over {len(parts):,}
    rows {subject.judged.title}.
    """
    figure = plots.bars("importance", bars, " ".join(caption.split()), "share of contributions", as_share=True)
    return Section("Features", (figure, _table(subject, order, weights / total), _codes(subject)))


def _table(subject: Subject, order: list[int], shares: np.ndarray) -> Table:
    card, fitted = subject.card, subject.fitted
    use = tree_use(subject.trained.fitted.model_text, len(card.names)) if card.manifest.model_kind == "lightgbm" else []
    rows = []
    for i in order:
        feature = card.manifest.features[i]
        iv = information_value(cuts_of(feature.deciles), fitted.rows[:, i], fitted.bad)
        trees = (use[i].splits, f"{use[i].gain:,.0f}") if use else ()
        rows.append(
            (f"`{feature.name}`", subject.meanings.get(feature.name), feature.reason, _DIRECTIONS[feature.monotone],
             percent(feature.null_rate), f"{iv:.3f}", percent(float(shares[i])), *trees)
        )  # fmt: skip
    columns = (
        "feature",
        "meaning",
        "reason",
        "with it, the PD",
        "null",
        "IV",
        "share",
        *(("splits", "gain") if use else ()),
    )
    note = """
    IV is the information value over the training rows, in the bins of the manifest's cut points and one of nulls: below
    0.02 it tells nothing, above 0.5 a feature may know the outcome already. Share is that of the figure.
    """ + ("Splits and gain are of the trees in training." if use else "")  # fmt: skip
    return Table(columns, tuple(rows), note, "Features, heaviest first")


def _codes(subject: Subject) -> Table:
    features = subject.card.manifest.features
    codes = sorted({feature.reason for feature in features})
    rows = tuple((code, TEXTS[code], sum(feature.reason == code for feature in features)) for code in codes)
    return Table(("reason", "what a customer is told", "features"), rows, title="Reason codes")


def monotonicity(subject: Subject) -> Section:
    """The response to every feature that promises a direction."""
    card = subject.card
    rows = spread(subject.judged.rows, _ROWS_MOVED)
    constrained = [i for i, feature in enumerate(card.manifest.features) if feature.monotone]
    if not constrained:
        return Section("Monotonicity", (Text("No feature promises a direction, so there is nothing to check."),))
    found = [response(card, rows, i) for i in constrained]
    broken = [each.name for each in found if each.broken]
    verdict = (
        f"{len(found)} of {len(card.names)} features promise that the PD only rises, or only falls, with them. "
        + (f"Broken by {', '.join(f'`{name}`' for name in broken)}." if broken else "All promises are kept.")
    )
    drawn = [each for each in found if len(each.values) > 1]
    blocks: list[Block] = [Text(verdict)]
    if drawn:
        panels = [plots.Response(each.name, each.values, each.pds, not each.broken) for each in drawn]
        caption = f"Mean PD of {len(rows):,} {subject.judged.title} rows while one feature takes the values that occur."
        blocks.append(plots.responses("responses", panels, caption))
    return Section("Monotonicity", (*blocks, _responses_table(found)))


def _responses_table(found: list[FeatureResponse]) -> Table:
    rows = tuple(
        (f"`{each.name}`", _DIRECTIONS[each.monotone], *_ends(each), percent(each.null_pd, 2), each.steps, each.broken,
         "broken" if each.broken else "kept")
        for each in found
    )  # fmt: skip
    columns = ("feature", "with it, the PD", "least", "PD at it", "most", "PD at it", "PD at null", "steps tried",
               "against the promise", "promise")  # fmt: skip
    note = "A step is one row and one value to the next larger; a promise is kept if no row ever goes against it."
    return Table(columns, rows, note)


def _ends(each: FeatureResponse) -> tuple[float | str | None, ...]:
    if not len(each.values):
        return None, None, None, None
    first, last = percent(float(each.pds[0]), 2), percent(float(each.pds[-1]), 2)
    return float(each.values[0]), first, float(each.values[-1]), last

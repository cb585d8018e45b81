"""The sample: how it was designed, who was left out, how many rows and bads each part and month has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from decision_service.report import Block, Cell, Facts, Section, Table, Text, percent, plots
from decision_service.train.card.subject import Part, Subject
from decision_service.train.sample_design import SampleDesign
from decision_service.watch.quality import quality

_TRAINING = (
    ("observed_from", "first observation"),
    ("observed_until", "last observation"),
    ("out_of_time", "out of time"),
    ("unreadable", "could not be read"),
    ("null_share", "nulls"),
)
_OBSERVED = """
A row is an observation: features are computed from what had been recorded up to that instant, by the very code that
serves decisions, and the outcome is read from the performance window behind it.
"""
_READY = (
    "Rows were ready: their features, their outcomes and what was known when are those of the table, not computed here."
)
_DIVIDED = (
    "Customers, not rows, are divided: whoever trains the model does not say when to stop, and whoever calibrates it "
    "does not judge it. Who was trained on is judged too, at a later time, as in production."
)
_AS_GIVEN = "Which rows are for what is as the table, or the split that was asked for, says."


def design(subject: Subject) -> Section:
    """The population, how it was observed, and who was left out."""
    config, sample = subject.trained.config, subject.trained.sample
    said = subject.card.manifest.training
    facts: list[tuple[str, Cell]] = [("data", said.get("data", "not said"))]
    facts += [("target", str(subject.card.manifest.target or "not said"))]
    facts += _design_facts(config.sample) if config.sample is not None else []
    facts += [(title, said[key]) for key, title in _TRAINING if key in said]
    divided = _AS_GIVEN if sample.given is not None else _DIVIDED
    texts = (_READY if config.sample is None else _OBSERVED, " ".join((divided, *_known_to_training(subject))))
    blocks: list[Block] = [Facts(tuple(facts)), Text("\n\n".join(texts))]
    if sample.waterfall:
        blocks.append(_waterfall(sample.waterfall))
    return Section("Population and sample design", tuple(blocks))


def _known_to_training(subject: Subject) -> Iterator[str]:
    """How many of the judged rows are of customers that training had, and whether they are judged more kindly."""
    customer, judged = subject.trained.sample.customer, subject.judged
    known = np.isin(customer[judged.mask], customer[subject.fitted.mask])
    if not known.any():
        return
    yield f"Of the judged rows {int(known.sum()):,} of {len(known):,} are of customers that training had."
    sides = [quality(judged.pds[mask], judged.bad[mask] == 1) if mask.any() else None for mask in (known, ~known)]
    seen, unseen = sides
    if seen is not None and unseen is not None and not np.isnan([seen.auc, unseen.auc]).any():
        yield (
            f"AUC is {seen.auc:.3f} on them and {unseen.auc:.3f} (standard error {unseen.auc_error:.3f}) on the "
            "others: a much higher one on them would mean that the model remembers people."
        )


def _design_facts(design: SampleDesign) -> list[tuple[str, Cell]]:
    every = f"every {design.observe_every_d} d back from the last possible instant, {design.observations} times"
    facts: list[tuple[str, Cell]] = [
        ("observation points", every if design.grain == "customer" else "every booked drawdown, at the asking"),
        ("history window", f"all that was recorded before, {design.history_min_d} d at least"),
        ("performance window", f"{design.target.performance_d} d"),
        ("whose outcome it is", f"the {design.bad_of}'s"),
        ("statuses", ", ".join(design.statuses)),
        ("days past due at the observation", f"{design.days_past_due_max} at most"),
        ("days on book", f"{design.days_on_book_min} at least"),
    ]
    if design.good_dpd_max is not None:
        facts.append(("neither good nor bad", f"over {design.good_dpd_max} days past due without being bad: left out"))
    if design.active_within_d is not None:
        facts.append(("active", f"a drawdown or a repayment within {design.active_within_d} d"))
    return facts


def _waterfall(steps: Sequence[tuple[str, int]]) -> Table:
    left, rows = 0, []
    for what, count in steps:
        left += count
        rows.append((what, count if count > 0 else f"−{-count:,}", left))
    return Table(("step", "rows", "left"), tuple(rows), title="Who was left out")


def data(subject: Subject) -> Section:
    """Rows and bads."""
    blocks: list[Block] = [_parts_table(subject)]
    everything = np.logical_or.reduce([part.mask for part in subject.parts])
    months = [(month, mask) for month, mask in subject.month_masks(everything) if mask.any()]
    if not months:
        blocks.append(Text("When a row was observed is not known, so there is no count by month."))
        return Section("Rows and bads", tuple(blocks))
    bad = subject.trained.sample.bad
    rows = [
        (month, int(mask.sum()), int(bad[mask].sum()), percent(float(bad[mask].mean()), 2)) for month, mask in months
    ]
    blocks.append(_bad_rates(subject, [month for month, _ in months]))
    blocks.append(Table(("month observed", "rows", "bads", "bad rate"), tuple(rows), title="By month"))
    return Section("Rows and bads", tuple(blocks))


def _parts_table(subject: Subject) -> Table:
    customers = subject.trained.sample.customer
    rows = tuple(_part_row(part, len(np.unique(customers[part.mask]))) for part in subject.parts)
    columns = ("part", "rows", "customers", "bads", "bad rate", "used to")
    return Table(columns, rows, title="By part")


def _part_row(part: Part, customers: int) -> tuple[str | int, ...]:
    quality = part.quality
    return part.title, quality.rows, customers, quality.bads, percent(quality.bad_rate, 2), part.purpose


def _bad_rates(subject: Subject, months: list[str]) -> Block:
    bad = subject.trained.sample.bad
    series = []
    for title, parts in (("in time", subject.parts[:-1]), (subject.judged.title, (subject.judged,))):
        mask = np.logical_or.reduce([part.mask for part in parts])
        of = dict(subject.month_masks(mask))
        rates = [float(bad[of[month]].mean()) if of[month].any() else float("nan") for month in months]
        series.append((title if title != "in time" else "other rows", rates))
    caption = "Bad rate of the rows observed in each month, of the judged rows and of all others."
    return plots.lines("bad-rate-by-month", months, series, caption, "bad rate", as_share=True)

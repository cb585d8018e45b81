"""The sample: how it was designed, who was left out, how many rows and bads each part and month has."""

from __future__ import annotations

import numpy as np

from decision_service.report import Block, Facts, Section, Table, Text, percent, plots
from decision_service.train.card.subject import Part, Subject

_DESIGN = (
    ("data", "data"),
    ("observed_from", "first observation"),
    ("observed_until", "last observation"),
    ("history", "history window"),
    ("performance_days", "performance window, days"),
    ("bad", "bad"),
    ("excluded", "left out"),
    ("out_of_time", "out of time"),
    ("null_share", "nulls"),
)


def design(subject: Subject) -> Section:
    """The population and how it was observed."""
    manifest = subject.card.manifest
    said = manifest.training
    facts = [(title, said[key]) for key, title in _DESIGN if key in said]
    facts.append(("target", str(manifest.target or "not said")))
    text = """
    A row is an observation: features are computed from what had been recorded up to that instant, by the very code that
    serves decisions, and the outcome is read from the performance window behind it. Customers, not rows, are divided
    into the parts, so that nobody helps to judge a model that has seen them.
    """
    return Section("Population and sample design", (Facts(tuple(facts)), Text(text)))


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

"""The report of `shadow report` as a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from decision_service.core.money import SCALES
from decision_service.report import Block, Cell, Report, Section, Table, Text, percent, plots
from decision_service.shadow_policy.report import Change, Example, Exposure, ShadowReport
from decision_service.shadow_policy.report_text import SWAP, about, title
from decision_service.telemetry.meters import OUTCOMES

PLOTTED_MAX: Final = 12
RULES_NOTE: Final = (
    "Decisions in which a rule had its say (it fired, or was unknown and taken for it). New: in the shadow only; lost: "
    "in what was answered only. Disagreement: new and lost, of all decisions that both judged."
)


def shadow_report(found: Sequence[ShadowReport]) -> Report:
    """A section for each part of each pair of policies."""
    sections = [section for one in found for section in _sections(one)]
    return Report(
        "A policy in shadow",
        "What a candidate would have answered beside the policy in force, on the same requests, states and instants. "
        "Its own answers would have changed what came after them; that is not in these figures.",
        tuple(sections),
    )  # fmt: skip


def _sections(one: ShadowReport) -> Iterator[Section]:
    yield Section(title(one), (Text(about(one) + "."), _matrix(one), *_terms(one)))
    yield Section(f"Paid out: {one.scene}, {one.shadow}", tuple(_exposure(one)))
    yield Section(f"Rules: {one.scene}, {one.shadow}", tuple(_rules(one)))
    if one.examples:
        yield Section(f"Examples: {one.scene}, {one.shadow}", tuple(_examples(one)))


def _matrix(one: ShadowReport) -> Table:
    rows = tuple(
        (active, *(one.outcomes.get((active, shadow), 0) for shadow in OUTCOMES), sum(
            count for (was, _), count in one.outcomes.items() if was == active
        ))
        for active in OUTCOMES
    )  # fmt: skip
    note = "Rows: what was answered; columns: what the shadow would have answered. On the diagonal both agree."
    return Table(("answered", *OUTCOMES, "together"), rows, note, "Outcomes")


def _terms(one: ShadowReport) -> Iterator[Block]:
    if one.terms:
        rows: tuple[tuple[Cell, ...], ...] = tuple((term, n, percent(one.share(n))) for term, n in one.terms.items())
        yield Table(("differs in", "decisions", "share"), rows)
    if one.holds:
        rows = tuple((active, shadow, count) for (active, shadow), count in sorted(one.holds.items()))
        yield Table(("held by the active", "by the shadow", "decisions"), rows, title="Kinds of hold")
    if set(one.rungs) - {"full"}:
        told = ", ".join(f"{rung} {count:,}" for rung, count in one.rungs.items())
        yield Text(
            f"Rungs of the shadow: {told}. With `no_links` it looks at entity logs that the policy in force does not "
            "read: those features were null to it."
        )


def _exposure(one: ShadowReport) -> Iterator[Block]:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (SWAP[name], one.swap.get(name, 0), percent(one.share(one.swap.get(name, 0)))) for name in SWAP
    )
    yield Table(("paid out", "decisions", "share"), rows)
    if one.exposure:
        money = tuple(map(_money, one.exposure))
        yield Table(("currency", "answered", "shadow", "more by the shadow", "less by the shadow"), money)


def _money(one: Exposure) -> tuple[Cell, ...]:
    scale = SCALES[one.currency]
    minors = (one.active_minor, one.shadow_minor, one.more_minor, one.less_minor)
    return one.currency, *(minor / scale for minor in minors)


def _rules(one: ShadowReport) -> Iterator[Block]:
    moved = [change for change in one.rules if change.changed]
    if moved:
        name = re.sub(r"[^a-z0-9]+", "-", f"rules {one.scene} {one.active} {one.shadow}".lower()).strip("-")
        shares = [(change.name, one.share(change.changed)) for change in moved[:PLOTTED_MAX]]
        yield plots.bars(name, shares, "Disagreement by rule, the largest first.", "disagreement", as_share=True)
    yield _table(one, "rule", one.rules, RULES_NOTE)
    cells = [change for change in one.cells if change.changed]
    if cells:
        yield _table(one, "cell of a matrix, table or tree", cells, "Only those that changed.")


def _table(one: ShadowReport, sort: str, changes: Sequence[Change], note: str) -> Table:
    rows = tuple((c.name, c.both, c.new, c.lost, percent(one.share(c.changed), 2)) for c in changes)
    return Table((sort, "both", "new", "lost", "disagreement"), rows, note)


def _examples(one: ShadowReport) -> Iterator[Block]:
    yield Text(
        "Some decisions that both judged differently; `GET /v1/decisions/{id}` tells more. "
        "The last column: rules that had their say on this side only."
    )
    yield Table(
        ("decision", "side", "outcome", "paid out", "hold", "reasons", "rules only here"),
        tuple(row for example in one.examples for row in _sides(example)),
    )


def _sides(one: Example) -> Iterator[tuple[Cell, ...]]:
    answer, said = one.answer or {}, one.said or {}
    if not answer or not said:
        yield one.decision_id, "both", f"{one.active_outcome} -> {one.shadow_outcome}", None, None, None, None
        return
    scale = SCALES[answer["currency"]]
    yield (
        one.decision_id, "answered", answer["decision"], float(answer["approved_amount"]),
        None if answer["hold"] is None else answer["hold"]["kind"],
        ", ".join(dict.fromkeys(reason["code"] for reason in answer["reasons"])),
        ", ".join(said["rules_lost"]),
    )  # fmt: skip
    yield (
        "", "shadow", said["outcome"], said["approved_minor"] / scale, said["hold"],
        ", ".join(dict.fromkeys(said["reasons"])), ", ".join(said["rules_new"]),
    )  # fmt: skip

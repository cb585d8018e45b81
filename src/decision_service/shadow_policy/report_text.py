"""What `shadow report` says on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from decision_service.core.money import SCALES
from decision_service.shadow_policy.report import Change, Example, ShadowReport

SHOWN_MAX: Final = 15
SWAP: Final = {
    "kept": "paid out by both", "in": "by the shadow only", "out": "by the active only", "held": "by neither",
}  # fmt: skip


def report_text(found: Sequence[ShadowReport]) -> str:
    """All of them, one below the other."""
    return "\n\n".join("\n".join(_lines(one)) for one in found)


def title(one: ShadowReport) -> str:
    """Which policies, in which scene."""
    return f"{one.shadow} ({one.shadow_label}) in shadow of {one.active} ({one.active_label}), {one.scene}"


def about(one: ShadowReport) -> str:
    """How many decisions of which days, and how many disagree."""
    differ = one.judged - one.agreed
    problems = f"; of {one.problems:,} more the shadow said nothing" if one.problems else ""
    return (
        f"{one.judged:,} decisions from {one.first_day} to {one.last_day}: {differ:,} differ "
        f"({_share(one, differ)}){problems}"
    )


def _lines(one: ShadowReport) -> Iterator[str]:
    yield title(one)
    yield "  " + about(one)
    yield "  outcome, active -> shadow:"
    for (active, shadow), count in sorted(one.outcomes.items(), key=lambda item: -item[1]):
        yield f"    {active:<12} -> {shadow:<12} {count:>10,}  {_share(one, count)}"
    if one.terms:
        yield "  differ in: " + ", ".join(f"{term} {count:,}" for term, count in one.terms.items())
    yield "  " + ", ".join(f"{text} {one.swap.get(name, 0):,}" for name, text in SWAP.items())
    for money in one.exposure:
        scale = SCALES[money.currency]
        yield (
            f"  {money.currency} paid out {money.active_minor / scale:,.2f} -> {money.shadow_minor / scale:,.2f} "
            f"(+{money.more_minor / scale:,.2f}, -{money.less_minor / scale:,.2f})"
        )
    for sort, changes in (("rule", one.rules), ("cell", one.cells)):
        yield from _changes(one, sort, changes)
    for example in one.examples:
        yield "  " + example_text(example)


def _changes(one: ShadowReport, sort: str, changes: Sequence[Change]) -> Iterator[str]:
    moved = [change for change in changes if change.changed][:SHOWN_MAX]
    if moved:
        yield f"  {sort:<40} {'both':>10} {'new':>10} {'lost':>10}  disagreement"
    for change in moved:
        share = _share(one, change.changed)
        yield f"  {change.name:<40} {change.both:>10,} {change.new:>10,} {change.lost:>10,}  {share}"


def example_text(one: Example) -> str:
    """One decision by both, in a line."""
    said, answer = one.said or {}, one.answer or {}
    ours = ", ".join(reason["code"] for reason in answer.get("reasons", ())) or "no reason"
    theirs = ", ".join(said.get("reasons") or ()) or "no reason"
    lost = "" if one.said and one.answer else " (no longer kept in the store)"
    return f"{one.decision_id}: {one.active_outcome} ({ours}) -> {one.shadow_outcome} ({theirs}){lost}"


def _share(one: ShadowReport, number: int) -> str:
    return "–" if not one.judged else f"{one.share(number):.2%}"

"""What `models compare` says on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from decision_service.api.instants import format_instant
from decision_service.watch.comparing import Compared, Difference, Side, Swap
from decision_service.watch.decisions import Span
from decision_service.watch.quality import Interval


def compare_text(found: Compared, span: Span) -> str:
    """Sides, shares, differences and swap sets."""
    between = f"from {format_instant(span.since_ms)} to {format_instant(span.until_ms)}"
    lines = [f"{found.scorecard} {between}; bad is {found.target}", *map(_side, found.sides), _shares(found)]
    if found.differences:
        lines += ["challenger less champion, 95 % interval:", *map(_difference, found.differences)]
    for swap in found.swaps:
        lines += _swap(swap)
    return "\n".join(lines)


def _side(one: Side) -> str:
    quality = one.quality
    worth = "" if quality is None else f", KS {quality.ks:.1%}, AUC {quality.auc:.3f}"
    return (
        f"  {one.card} as {one.role}: {one.decisions:,} decisions of {one.customers:,} customers, "
        f"{one.refused:,} without a score, approved {interval(one.approved)}, mean PD {one.pd_mean:.2%}; "
        f"{one.matured:,} matured, bad rate {interval(one.bad_rate)}{worth}"
    )


def _shares(found: Compared) -> str:
    if found.share_holds is None:
        return f"  challenger's share of customers {interval(found.realised_share)}; none is declared"
    verdict = "as declared" if found.share_holds else "NOT as declared"
    return f"  challenger's share of customers {interval(found.realised_share)}, {verdict} ({found.declared_share:.1%})"


def _difference(one: Difference) -> str:
    value = one.value
    told = f"{value.value:+.4g} ({value.low:+.4g} to {value.high:+.4g})" if not math.isnan(value.value) else "not known"
    return f"  {one.figure:<24} {told}{'' if math.isnan(one.p) else f', p {one.p:.2g}'}"


def _swap(one: Swap) -> Iterator[str]:
    yield (
        f"shadow {one.shadow}: {one.both_scored:,} decisions scored by both, at an approval rate of "
        f"{one.approval_rate:.1%}; rank correlation {one.pd_correlation:.3f}"
    )
    for cell in one.cells:
        yield f"  {cell.cell:<5} {cell.customers:,}, {cell.matured:,} matured, bad rate {interval(cell.bad_rate)}"
    yield f"  bad rate of those in less those out {interval(one.in_less_out)}"


def interval(one: Interval) -> str:
    """`4.1 % (3.2 % to 5.3 %)`, or that it is not known."""
    return "not known" if math.isnan(one.value) else f"{one.value:.2%} ({one.low:.2%} to {one.high:.2%})"

"""What `models watch` says on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from decision_service.api.instants import format_instant
from decision_service.watch.decisions import Span
from decision_service.watch.manifests import Manifests
from decision_service.watch.quality import Quality
from decision_service.watch.watching import Watched

FEATURES_TOLD: Final = 5


def watch_text(found: Sequence[Watched], manifests: Manifests, span: Span) -> str:
    """One paragraph a version and role."""
    between = f"from {format_instant(span.since_ms)} to {format_instant(span.until_ms)}"
    if not found:
        return f"no decision with a score {between}"
    lines = [f"decisions {between}"]
    for one in found:
        lines += ["", *_lines(one)]
    lines += [f"{card}: {problem}" for card, problem in manifests.problems.items()]
    return "\n".join(lines)


def _lines(one: Watched) -> Iterator[str]:
    yield f"{one.card} as {one.role}: {one.n:,} decisions of {one.customers:,} customers"
    if one.drift is not None:
        score = one.drift.score.drift
        yield f"  points    {score.verdict}: PSI {score.psi:.3f}, by chance {score.critical:.3f}, {score.bins} bins"
        yield f"  features  {_features(one)}"
    yield f"  refused   {_counts(one.refused.items())}"
    yield f"  outcomes  {_counts(one.outcomes.items())} ({one.target})"
    if one.quality is not None:
        yield f"  quality   {_quality(one.quality)}"
    for finding in one.findings:
        yield f"  {finding.severity.upper():<9} {finding.text}"


def _features(one: Watched) -> str:
    assert one.drift is not None
    worst = one.drift.worst_first[:FEATURES_TOLD]
    return ", ".join(f"{f.name} {f.drift.psi:.3f} (by chance {f.drift.critical:.3f})" for f in worst)


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts if count) or "none"


def _quality(quality: Quality) -> str:
    thin = "; too few bads or goods for more than an indication" if quality.thin else ""
    return (
        f"AUC {quality.auc:.3f}, KS {quality.ks:.1%}, mean PD {quality.pd_mean:.2%}, bad rate {quality.bad_rate:.2%}, "
        f"calibration error {quality.calibration_error:.2%}{thin}"
    )

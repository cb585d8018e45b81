"""Two load runs beside each other, commits or machines: every figure's difference, and whether it is more than noise.

Runs are matched by name; rounds of one name count together. What `noise` says holds for what was measured the same
way: where workload, machine or options differ, the report says so first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from decision_service.report import Block, Facts, Report, Section, Table, Text, write_html
from load_report import figures
from load_report.document import PERCENTILES, STAGES, Document, Run, by_name, curve, failures, number, options, slug
from load_report.html import validity
from load_report.noise import Difference, compared

_SAME: Final = ("workload", "machine", "options")
_RATE_DIFFERS: Final = 0.01
_PASSING: Final = ("load_before",)  # of the machine: another every time


def write(first: Document, second: Document, path: Path) -> None:
    """The page at `path`. Raises ReportExtraMissing."""
    write_html(report(first, second), path)


def report(first: Document, second: Document) -> Report:
    """The report on two documents."""
    matched = matches(first, second)
    names = (title(first), title(second))
    sections = [Section("In short", tuple(_in_short(first, second, matched, names)))]
    for i, (name, rounds) in enumerate(matched.items()):
        sections.append(Section(f"Run: {name}", tuple(_run(i, name, rounds, names))))
    sections.append(Section("Wanted and got", tuple(_ratios(first, second))))
    about = f"First {names[0]}, second {names[1]}."
    return Report("Two load runs", about, tuple(section for section in sections if section.blocks))


def title(document: Document) -> str:
    """What a document is called beside another."""
    return f"`{document.get('commit', 'unknown')}` ({document.get('at', 'at an unknown time')})"


def matches(first: Document, second: Document) -> dict[str, tuple[list[Run], list[Run]]]:
    """The rounds of the runs that both have, by name."""
    others = by_name(second)
    return {name: (rounds, others[name]) for name, rounds in by_name(first).items() if name in others}


def differences(rounds: tuple[list[Run], list[Run]]) -> list[Difference]:
    """Every figure that both runs may have."""
    found = [compared("requests a second", "/s", rounds, ("per_s",), _rate_is_better(rounds))]
    found += [compared(f"latency {name}", "us", rounds, ("latency_us", name)) for name in PERCENTILES]
    found += [compared(f"service time {name}", "us", rounds, ("service_time_us", name)) for name in ("p50", "p99")]
    found += [compared(f"CPU of the {who}", "us", rounds, ("cpu_us", who)) for who in ("server", "store")]
    found += [compared(f"stage {stage}, mean", "us", rounds, ("stages_us", stage, "mean")) for stage in STAGES]
    operations = {name: None for runs in rounds for run in runs for name in run.get("operations", {})}
    if len(operations) > 1:
        found += [
            compared(f"{name} {percentile}", "us", rounds, ("operations", name, "latency_us", percentile))
            for name in operations
            for percentile in ("p50", "p99")
        ]
    return [one for one in found if not math.isnan(one.first) or not math.isnan(one.second)]


def as_json(first: Document, second: Document) -> dict[str, Any]:
    """The comparison for a program."""
    return {
        "first": {"commit": first.get("commit"), "at": first.get("at"), "valid": first.get("valid")},
        "second": {"commit": second.get("commit"), "at": second.get("at"), "valid": second.get("valid")},
        "differ": unlike(first, second),
        "runs": {
            name: [
                {
                    "what": one.what, "unit": one.unit, "first": _known(one.first), "second": _known(one.second),
                    "relative": _known(one.relative), "noise": one.noise, "beyond_noise": one.beyond_noise,
                    "says": one.says,
                }
                for one in differences(rounds)
            ]
            for name, rounds in matches(first, second).items()
        },
    }  # fmt: skip


def unlike(first: Document, second: Document) -> list[str]:
    """What was not the same of the two besides the commit, as sentences' ends."""
    found = []
    for name in _SAME:
        one, other = (options(which) if name == "options" else which.get(name) for which in (first, second))
        if isinstance(one, dict) and isinstance(other, dict):
            keys = [key for key in {**one, **other} if key not in _PASSING and one.get(key) != other.get(key)]
            found += [f"{name} {key}: {one.get(key)} and {other.get(key)}" for key in keys]
        elif one != other:
            found.append(f"{name}: {one} and {other}")
    for name, rounds in matches(first, second).items():
        asked = [number(runs[0], "wanted_per_s") for runs in rounds]
        if abs(asked[1] - asked[0]) > _RATE_DIFFERS * asked[0]:  # never of closed loops: NaN
            found.append(f"the rate asked for in {name}: {asked[0]:,.0f}/s and {asked[1]:,.0f}/s")
    return found


def _in_short(
    first: Document, second: Document, matched: dict[str, tuple[list[Run], list[Run]]], names: tuple[str, str]
) -> Iterator[Block]:
    for document, name in zip((first, second), names, strict=True):
        if not document.get("valid"):
            yield Text(f"{name}: {validity(document)}")
    if differ := unlike(first, second):
        yield Text("These differ besides the commit, so a difference may come from them:\n\n" + _list(differ))
    all_of_them = [(name, one) for name, rounds in matched.items() for one in differences(rounds)]
    beyond = [f"{name}: {_sentence(one)}" for name, one in all_of_them if one.beyond_noise]
    within = sum(one.beyond_noise is False for _, one in all_of_them)
    unknown = sum(one.beyond_noise is None for _, one in all_of_them)
    if beyond:
        yield Text("Beyond the noise:\n\n" + _list(beyond))
    else:
        yield Text("No figure differs by more than its noise.")
    yield Text(
        f"{within} figures differ by no more than their noise; of {unknown} the noise is not known. The noise is the "
        "difference that chance would make in one of a hundred comparisons, from rounds, or from the parts of a run's "
        "timeline, which is the least it can be."
    )
    missing = [name for name in {**by_name(first), **by_name(second)} if name not in matched]
    if missing:
        yield Text("Only one of the two has: " + ", ".join(missing) + ".")


def _sentence(one: Difference) -> str:
    says = one.says.partition(",")[0]
    return (
        f"{one.what} {says}: {_amount(one.first)} to {_amount(one.second)} {one.unit} ({100 * one.relative:+.1f} %, "
        f"noise ±{_noise_percent(one)} %)"
    )


def _run(index: int, name: str, rounds: tuple[list[Run], list[Run]], names: tuple[str, str]) -> Iterator[Block]:
    failed = [sum(map(failures, runs)) for runs in rounds]
    yield Facts(
        (("failures", f"{failed[0]:,} and {failed[1]:,}"), ("rounds", f"{len(rounds[0])} and {len(rounds[1])}"))
    )
    last = [
        (label, runs[-1]) for label, runs in zip(("first", "second"), rounds, strict=True) if len(curve(runs[-1])[0])
    ]
    if last:
        yield figures.percentiles(
            f"percentiles-{index}-{slug(name)}",
            last,
            f"Latency by percentile, the last round of each: first {names[0]}, second {names[1]}.",
        )
    found = differences(rounds)
    drawn = [
        (one.what, one.relative, one.noise / abs(one.first) if one.noise is not None else math.nan)
        for one in found
        if not math.isnan(one.relative)
    ]
    if drawn:
        yield figures.deltas(
            f"deltas-{index}", drawn, "A point outside of its grey bar differs by more than noise; without a bar the "
            "noise is not known.",
        )  # fmt: skip
    yield Table(
        ("figure", "first", "second", "difference", "noise", "says"),
        tuple(
            (
                f"{one.what}, {one.unit}",
                one.first,
                one.second,
                f"{100 * one.relative:+.1f} %" if not math.isnan(one.relative) else None,
                f"±{_noise_percent(one)} %" if one.noise is not None and one.first else None,
                one.says,
            )
            for one in found
        ),
        note="Medians over the rounds.",
    )


def _ratios(first: Document, second: Document) -> Iterator[Block]:
    got = [{row["name"]: row for row in document.get("ratios", [])} for document in (first, second)]
    names = list({**got[0], **got[1]})
    if names:
        yield Table(
            ("what", "wanted", "first", "second", "met"),
            tuple(
                (
                    name,
                    str((got[1].get(name) or got[0][name])["wanted"]),
                    *(side.get(name, {}).get("got") for side in got),
                    " and ".join({True: "yes", False: "no"}.get(side.get(name, {}).get("met"), "-") for side in got),
                )
                for name in names
            ),
        )


def _rate_is_better(rounds: tuple[list[Run], list[Run]]) -> bool | None:
    """The rate of an open loop is the caller's choice: neither more nor less of it is better."""
    return None if rounds[0][0].get("kind") == "open" else False


def _noise_percent(one: Difference) -> str:
    return f"{100 * (one.noise or 0.0) / abs(one.first):.1f}" if one.first else "?"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _list(items: list[str]) -> str:
    return "\n".join(f"- {item}" for item in items)

"""One load run as a report: is it valid, what was wanted and got, then latencies, stages, rates and operations.

`write(document, path)` makes the page; `report(document)` what it is made of, which `run.py` prints as tables too.
Every plot has its numbers in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from decision_service.report import Block, Cell, Facts, Report, Section, Table, Text, write_html
from load_report import figures
from load_report.document import (
    PERCENTILES,
    STAGES,
    Document,
    Run,
    by_name,
    curve,
    failures,
    number,
    options,
    ramps,
    slug,
    timeline,
)

ROWS_OF_TIME_MAX: Final = 12
TIMELINES_MAX: Final = 12  # plots of latency over time; a ramp has a plot of its own
KEPT_UP: Final = 0.98  # of the rate that was asked for
FAILED_MAX: Final = 0.001
SLOWER_MAX: Final = 10.0  # times the p99 of the slowest step


def write(document: Document, path: Path) -> None:
    """The page of a document at `path`. Raises ReportExtraMissing."""
    write_html(report(document), path)


def report(document: Document) -> Report:
    """The report on one document."""
    sections = [
        Section("What was run", tuple(_what(document))),
        Section("Wanted and got", tuple(_ratios(document))),
        Section("Latency", tuple(_latency(document))),
        Section("Over time", tuple(_over_time(document))),
        Section("Stages of a decision", tuple(_stages(document))),
        Section("Rate and knee", tuple(_ramps(document))),
        Section("Operations", tuple(_operations(document))),
        Section("Processors and the generator", tuple(_processors(document))),
        Section("Failures and rungs", tuple(_failures(document))),
    ]
    about = f"Workload `{document.get('workload', 'unknown')}` at commit `{document.get('commit', 'unknown')}`."
    return Report("Load run", about, tuple(section for section in sections if section.blocks))


def validity(document: Document) -> str:
    """Whether the document's figures say something, in a sentence."""
    if document.get("valid"):
        return "The run is valid: nothing disturbed it that the generator could see."
    reasons = "".join(f"\n- {reason}" for reason in document.get("why_not", []) or ["it does not say why"])
    return f"**Not valid.** Its figures must not be quoted:\n\n{reasons}".replace("**", "")


def facts(document: Document) -> Facts:
    """The machine, the moment and the options."""
    machine: dict[str, Any] = document.get("machine", {})
    named = [(name.replace("_", " "), value) for name, value in machine.items()]
    given = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in options(document).items())
    pairs = [
        ("workload", document.get("workload")), ("commit", document.get("commit")), ("at", document.get("at")),
        *named, ("options", given or None),
    ]  # fmt: skip
    return Facts(tuple((name, value if isinstance(value, Cell) else str(value)) for name, value in pairs))


def labelled(document: Document) -> list[tuple[str, Run]]:
    """Every run under a name of its own: rounds are numbered."""
    return [
        (f"{name}, round {i}" if len(rounds) > 1 else name, run)
        for name, rounds in by_name(document).items()
        for i, run in enumerate(rounds, 1)
    ]


def knee_of(ramp: Sequence[Run]) -> Run | None:
    """The last step of a ramp, by rising rate, before the first that was not kept up with; None if the first was not.

    Kept up: 98 % of the rate served, at most 0.1 % failed, p99 at most 10 times that of the first step; or what the
    document itself says (`too_much`).
    """
    knee = None
    for step in ramp:
        if step.get("too_much", _too_much(step, ramp[0])):
            break
        knee = step
    return knee


def _too_much(step: Run, first: Run) -> bool:
    served = number(step, "per_s") >= KEPT_UP * number(step, "wanted_per_s")
    failed = failures(step) > FAILED_MAX * number(step, "requests")
    slower = number(step, "latency_us", "p99") > SLOWER_MAX * number(first, "latency_us", "p99")
    return not served or failed or slower


def ms(microseconds: float) -> float:
    """Milliseconds."""
    return microseconds / 1e3


def _what(document: Document) -> Iterator[Block]:
    yield Text(validity(document))
    yield facts(document)


def _ratios(document: Document) -> Iterator[Block]:
    rows = [
        (row["name"], str(row["wanted"]), row["got"], {True: "yes", False: "no", None: ""}[row.get("met")])
        for row in document.get("ratios", [])
    ]
    if rows:
        yield Table(("what", "wanted", "got", "met"), tuple(rows))


def _latency(document: Document) -> Iterator[Block]:
    runs = labelled(document)
    curves = [(label, run) for label, run in runs if len(curve(run)[0])]
    for first in range(0, len(curves), figures.CURVES_MAX):
        part = curves[first : first + figures.CURVES_MAX]
        yield figures.percentiles(
            f"percentiles-{first}",
            part,
            "Latency from the instant a request was meant to be sent. Each nine takes as much room as the one before.",
        )
    yield Table(
        ("run", "loop", "wanted/s", "got/s", *(f"{name} ms" for name in PERCENTILES)),
        tuple((label, *_rate_cells(run), *_latency_cells(run, "latency_us")) for label, run in runs),
        title="From the intended send time",
        note="An open loop sends at its rate whatever the server does; a closed loop waits for each answer, and its "
        "latencies are those of a saturated server.",
    )
    yield Table(
        ("run", *(f"{name} ms" for name in PERCENTILES)),
        tuple((label, *_latency_cells(run, "service_time_us")) for label, run in runs),
        title="From the real send time",
        note="What a generator that does not count coordinated omission would have said.",
    )


def _rate_cells(run: Run) -> tuple[Cell, ...]:
    return run.get("kind", ""), number(run, "wanted_per_s"), number(run, "per_s")


def _latency_cells(run: Run, which: str) -> tuple[Cell, ...]:
    return tuple(ms(number(run, which, name)) for name in PERCENTILES)


def _no_steps(document: Document) -> list[tuple[str, Run]]:
    """All runs but the steps of ramps, which have a section of their own; the steps where there is nothing else."""
    of_ramps = {id(step) for steps in ramps(document).values() for step in steps}
    return [(label, run) for label, run in labelled(document) if id(run) not in of_ramps] or labelled(document)


def _over_time(document: Document) -> Iterator[Block]:
    plotted = [(label, run) for label, run in _no_steps(document) if run.get("timeline")]
    for i, (label, run) in enumerate(plotted[:TIMELINES_MAX]):
        yield figures.over_time(f"time-{i}-{slug(label)}", run, f"{label}: each interval by itself.")
        yield Table(
            ("until s", "requests", "failures", "p50 ms", "p99 ms", "max ms"),
            tuple(
                (f"{row['t_s']:g}", int(row["requests"]), int(row["failures"]), ms(row["p50_us"]), ms(row["p99_us"]),
                 ms(row["max_us"]))
                for row in timeline(run, ROWS_OF_TIME_MAX)
            ),
            title=f"{label}, over time",
            note=_marks(run) + "p50 and p99 are medians over the intervals of a row.",
        )  # fmt: skip
    if len(plotted) > TIMELINES_MAX:
        yield Text(f"{len(plotted) - TIMELINES_MAX} more runs are not plotted over time.")


def _marks(run: Run) -> str:
    said = ", ".join(f"{mark['text']} at {mark['t_s']:g} s" for mark in run.get("marks", []))
    return f"Marked: {said}. " if said else ""


def _stages(document: Document) -> Iterator[Block]:
    runs = [(label, run) for label, run in _no_steps(document) if run.get("stages_us")]
    if not runs:
        return
    yield figures.stages("stages", runs, "Mean of each stage. Reading and committing are mostly waiting for the store.")
    yield Table(
        ("run", "of a decision, us", *STAGES, "together"),
        tuple((label, which, *_stage_cells(run, which)) for label, run in runs for which in ("mean", "p99")),
        note="Percentiles of stages do not add up to the percentile of the whole, so they have no sum.",
    )


def _stage_cells(run: Run, which: str) -> tuple[Cell, ...]:
    cells = [number(run, "stages_us", stage, which) for stage in STAGES]
    return *cells, sum(cell for cell in cells if not math.isnan(cell)) if which == "mean" else None


def _ramps(document: Document) -> Iterator[Block]:
    for i, (name, steps) in enumerate(ramps(document).items()):
        knee = knee_of(steps)
        yield figures.ramp(
            f"ramp-{i}",
            steps,
            knee,
            f"{name}: the knee is the last rate before the first not kept up with: {100 * KEPT_UP:g} % served, at "
            f"most {100 * FAILED_MAX:g} % failed, p99 at most {SLOWER_MAX:g} times that of the lowest rate.",
        )
        yield Table(
            ("wanted/s", "got/s", "p50 ms", "p99 ms", "p99.9 ms", "failures", "server cores", "knee"),
            tuple(_step_cells(step, step is knee) for step in steps),
            title=name,
        )


def _step_cells(step: Run, is_knee: bool) -> tuple[Cell, ...]:
    latencies = (ms(number(step, "latency_us", name)) for name in ("p50", "p99", "p99.9"))
    wanted = f"{number(step, 'wanted_per_s'):,.0f}"
    cores = number(step, "core_share", "server")
    return wanted, number(step, "per_s"), *latencies, failures(step), cores, "here" if is_knee else ""


def _operations(document: Document) -> Iterator[Block]:
    for i, (label, run) in enumerate(_no_steps(document)):
        done: dict[str, Run] = run.get("operations", {})
        if len(done) < 2:
            continue
        rows = [
            (name, *(ms(number(one, "latency_us", percentile)) for percentile in ("p50", "p99", "max")))
            for name, one in done.items()
        ]
        yield figures.operations(f"operations-{i}", rows, f"{label}: from p50 to the slowest of each operation.")
        yield Table(
            ("operation", "requests", "share", *(f"{name} ms" for name in PERCENTILES)),
            tuple(
                (name, int(number(one, "requests")), _share(number(one, "requests"), done.values()),
                 *_latency_cells(one, "latency_us"))
                for name, one in done.items()
            ),
            title=label,
        )  # fmt: skip


def _share(requests: float, of: Any) -> str:
    total = sum(number(one, "requests") for one in of)
    return f"{100 * requests / total:.1f} %" if total else ""


def _processors(document: Document) -> Iterator[Block]:
    yield Table(
        ("run", "server us", "store us", "generator us", "server cores", "store cores", "generator cores",
         "sent late p99 ms", "sent late max ms"),
        tuple(
            (
                label,
                *(number(run, "cpu_us", who) for who in ("server", "store", "generator")),
                *(number(run, "core_share", who) for who in ("server", "store", "generator")),
                ms(number(run, "send_lag_us", "p99")),
                ms(number(run, "send_lag_us", "max")),
            )
            for label, run in labelled(document)
        ),
        note="us: CPU of a request. cores: how much of one core was used. Sent late: the generator itself was behind "
        "its own timetable; that is in the latencies and is no fault of the server.",
    )  # fmt: skip


def _failures(document: Document) -> Iterator[Block]:
    yield Table(
        ("run", "seconds", "requests", "failed", "of which", "rungs"),
        tuple(
            (label, number(run, "seconds"), int(number(run, "requests")), failures(run),
             _counts(run.get("failures", {})), _counts(run.get("rungs", {})))
            for label, run in labelled(document)
        ),
    )  # fmt: skip


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "none"

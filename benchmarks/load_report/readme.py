"""The README's tables of speed, from the results that are kept under benchmarks/results.

Where there is no result yet a table says how to make one: nothing stands there that was not measured. `targets.json` is
a load run's document (`load_report/run.py --keep`), `peers.json` what `benchmarks/peers/run.py --json` wrote.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from decision_service.report.blocks import UNKNOWN
from load_report.document import STAGES, Run, failures, number

RESULTS: Final = Path(__file__).parents[1] / "results"
_MET: Final = {True: "yes", False: "**no**", None: ""}
_ASSEMBLED: Final = "benchmarks/peers"  # targets that another benchmark measures say so in their name


def kept(name: str, results: Path = RESULTS) -> dict[str, Any] | None:
    """A result that is kept, or None."""
    path = results / f"{name}.json"
    found: dict[str, Any] | None = json.loads(path.read_text("utf-8")) if path.is_file() else None
    return found


def targets(results: Path = RESULTS) -> str:
    """Every target: wanted, got, met."""
    found, peers = kept("targets", results), kept("peers", results)
    if found is None:
        return _how(
            "the targets",
            "python benchmarks/load/run.py targets --json targets.json",
            "python benchmarks/load_report/run.py targets.json --keep",
        )
    rows = [
        (row["name"], row["wanted"], _got(row["got"]), _MET[row["met"]])
        for row in found["ratios"]
        if row["wanted"] and not (peers and _ASSEMBLED in row["name"])
    ]
    for part in (peers or {}).get("parts", []):
        rows += [
            (row["name"], f">= {row['wanted']:g}", _got(row["got"]), _MET[row["met"]])
            for row in part["ratios"]
            if row["wanted"] is not None
        ]
    return "\n\n".join(filter(None, (_table(("target", "wanted", "got", "met"), rows), _floor(found), _told(found))))


def _floor(found: dict[str, Any]) -> str:
    """What the machine and the generator take by themselves; "" where that was not measured."""
    run = next((run for run in found["runs"] if run["name"] == "steady: bare app"), None)
    if run is None:
        return ""
    took = ", ".join(f"{which} {_ms(number(run, 'latency_us', which))} ms" for which in ("p50", "p99", "p99.9"))
    return (
        f"At the same rate, in turn with the service, the bare app took: {took}. That is the machine's and the "
        f"generator's part; its host took {number(run, 'stolen_share'):.1%} of a core away meanwhile."
    )


def budget(results: Path = RESULTS) -> str:
    """Where the time of a decision goes, in the run at half of the peak."""
    found = kept("targets", results)
    run = None if found is None else budget_run(found["runs"])
    if run is None:
        return "It comes with the targets."
    rows: list[Sequence[str]] = [
        (stage, *(_us(number(run, "stages_us", stage, which)) for which in ("mean", "p50", "p99")))
        for stage in STAGES
        if stage in run["stages_us"]
    ]
    together = sum(number(run, "stages_us", stage, "mean") for stage in STAGES if stage in run["stages_us"])
    rows.append(("together", _us(together), "", ""))
    rows.append(("answer, as its caller sees it", *(_us(number(run, "latency_us", w)) for w in ("mean", "p50", "p99"))))
    rows.append(("CPU of the service", _us(number(run, "cpu_us", "server")), "", ""))
    rows.append(("CPU of the store", _us(number(run, "cpu_us", "store")), "", ""))
    name = str(run["name"]).partition(": ")[2] or run["name"]
    rate = f"{number(run, 'per_s'):,.0f} decisions/s"
    return _table(("us of a decision", "mean", "p50", "p99"), rows) + f"\n\nMeasured in the run `{name}`, {rate}."


def budget_run(runs: list[Run]) -> Run | None:
    """The run whose stages the budget shows: the steady one at half of the peak, else the first that has stages."""
    with_stages = [run for run in runs if run.get("stages_us")]
    steady = [run for run in with_stages if run["name"].startswith("steady") and run.get("kind") == "open"]
    return next(iter(steady + with_stages), None)


def load(results: Path = RESULTS) -> str:
    """The runs behind the targets."""
    found = kept("targets", results)
    if found is None:
        return "They come with the targets."
    rows = [
        (
            run["name"],
            run.get("kind", ""),
            f"{number(run, 'per_s'):,.0f}",
            *(_ms(number(run, "latency_us", which)) for which in ("p50", "p99", "p99.9", "max")),
            _us(number(run, "cpu_us", "server")),
            f"{failures(run):,}",
        )
        for run in found["runs"]
    ]
    columns = ("run", "loop", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "CPU us", "failed")
    return _table(columns, rows)


def peers(results: Path = RESULTS) -> str:
    """How many times better this service is than each peer, with what was checked."""
    found = kept("peers", results)
    if found is None:
        return _how("the comparison", "python benchmarks/peers/run.py --json benchmarks/results/peers.json")
    rows = [
        (part["title"], row["name"], _got(row["got"]), "" if row["wanted"] is None else f">= {row['wanted']:g}",
         _MET[row["met"]])
        for part in found["parts"]
        for row in part["ratios"]
    ]  # fmt: skip
    rows += [(part["title"], part["problem"], "", "", "") for part in found["parts"] if part.get("problem")]
    return _table(("beside", "ratio", "got", "wanted", "met"), rows) + "\n\n" + _told(found)


def _told(found: dict[str, Any]) -> str:
    """Where and when, and whether it may be trusted."""
    machine = found["machine"]
    said = (
        f"Commit `{found['commit']}`, {found['at']}, {machine['cpu']}, {machine['cores']} cores, Python "
        f"{machine['python']}; load before {machine['load_before']}."
    )
    if found.get("valid", True):
        return said
    return f"{said} **Not valid**: {'; '.join(found['why_not'])}."


def _how(what: str, *commands: str) -> str:
    lines = "\n".join(commands)
    return (
        f"No result of {what} is kept yet. On a machine that does nothing else:\n\n```sh\n{lines}\n"
        "make reference    # writes these tables\n```"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _got(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.3g}" if abs(value) < 1_000 else f"{value:,.0f}"


def _us(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ms(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value / 1e3:,.3g}"

"""What a comparison came to, for people and for machines.

A `Part` is one comparison: a table, ratios with what was wanted of them, and notes on what is fair about it and what is
not. The notes stand under the table and in the JSON document: a figure without them is not the comparison.
"""

from __future__ import annotations

import html
import os
import platform
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

FORMAT: Final = "decision-service-peers/1"
WIDTH: Final = 118
Cell = str | float | int | None


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times better this service is than a peer; `wanted` is None where there is no target."""

    name: str
    got: float
    wanted: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met."""
        return None if self.wanted is None else self.got >= self.wanted


@dataclass(slots=True)
class Part:
    """One comparison. The first column of a row says who; numbers are shown to three digits."""

    name: str
    title: str
    notes: list[str]
    columns: tuple[str, ...] = ()
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    checked: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    problem: str = ""  # why there is no figure, or why it is not to be trusted


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def document(parts: Sequence[Part], quick: bool, root: Path) -> dict[str, Any]:
    """Everything as one JSON object."""
    return {
        "format": FORMAT, "commit": _commit(root), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "python": platform.python_version(),
                    "load_before": round(os.getloadavg()[0], 2)},
        "options": {"quick": quick},
        "parts": [
            asdict(part) | {"ratios": [asdict(ratio) | {"met": ratio.met} for ratio in part.ratios]} for part in parts
        ],
    }  # fmt: skip


def _commit(root: Path) -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def shown(part: Part) -> str:
    """A part as text."""
    lines = [part.title, "-" * len(part.title)]
    lines += [f"PROBLEM: {part.problem}"] if part.problem else []
    lines += _wrapped("same answers: ", part.checked) if part.checked else []
    lines += _table(part)
    for ratio in part.ratios:
        wanted = "" if ratio.wanted is None else f"   wanted >= {ratio.wanted:g}: {'met' if ratio.met else 'NOT met'}"
        lines.append(f"{ratio.name}: {_cell(ratio.got)} x{wanted}")
    for note in part.notes:
        lines += _wrapped("note: ", note)
    return "\n".join(lines)


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def _table(part: Part) -> list[str]:
    if not part.rows:
        return []
    table = [part.columns, *(tuple(_cell(cell) for cell in row) for row in part.rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(part.columns))]
    sides = [str.ljust, *[str.rjust] * (len(widths) - 1)]
    return ["  ".join(side(*cell) for side, *cell in zip(sides, row, widths, strict=True)) for row in table]


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def page(found: dict[str, Any], parts: Sequence[Part]) -> str:
    """The same as one HTML page: no scripts, nothing fetched."""
    body = "".join(_section(part) for part in parts)
    machine = html.escape(
        f"{found['machine']['cpu']}, {found['machine']['cores']} cores, commit {found['commit']}, {found['at']}"
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Peers, side by side</title><style>"
        "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{padding:.25rem .8rem;text-align:right;border-bottom:1px solid #ddd}"
        "td:first-child,th:first-child{text-align:left}li{color:#555}.no{color:#b00}</style>"
        f"<h1>Peers, side by side</h1><p>{machine}</p>{body}</html>"
    )


def _section(part: Part) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in part.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(cell))}</td>" for cell in row) + "</tr>" for row in part.rows
    )
    ratios = "".join(
        f"<p class='{'no' if ratio.met is False else 'yes'}'>{html.escape(ratio.name)}: {_cell(ratio.got)} x</p>"
        for ratio in part.ratios
    )
    said = "".join(f"<p>{html.escape(text)}</p>" for text in (part.problem, part.checked) if text)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in part.notes)
    return f"<h2>{html.escape(part.title)}</h2>{said}<table><tr>{head}</tr>{rows}</table>{ratios}<ul>{notes}</ul>"


# --- calls in turns --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Spent:
    """What calls of one kind took: wall seconds of each, and CPU seconds of each round over its calls."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def us(self, percent: float) -> float:
        """A percentile of the wall times in microseconds."""
        return float(np.percentile(self.wall_s, percent)) * 1e6

    @property
    def cpu_us(self) -> float:
        """CPU microseconds a call: the median of the rounds."""
        return float(np.median(self.cpu_s)) * 1e6

    def row(self, name: str) -> tuple[Cell, ...]:
        """A row of IN_TURNS_COLUMNS but for the ratio."""
        return (name, self.us(50), self.us(99), self.us(99.9), self.cpu_us)


IN_TURNS_COLUMNS: Final = ("", "p50 us", "p99 us", "p99.9 us", "CPU us", "x CPU")


def in_turns(calls: dict[str, Callable[[int], object]], rounds: int, seconds: float) -> dict[str, Spent]:
    """Time every call in alternating rounds of `seconds` each: a busy machine is busy for all of them alike."""
    spent = {name: Spent() for name in calls}
    for call in calls.values():
        for i in range(20):
            call(i)
    for _ in range(rounds):
        for name, call in calls.items():
            _round(call, seconds, spent[name])
    return spent


def _round(call: Callable[[int], object], seconds: float, spent: Spent) -> None:
    clock, i = time.perf_counter, 0
    until, cpu = clock() + seconds, time.process_time()
    while (began := clock()) < until or i == 0:
        call(i)
        spent.wall_s.append(clock() - began)
        i += 1
    spent.cpu_s.append((time.process_time() - cpu) / i)


def in_turns_rows(spent: dict[str, Spent], ours: str) -> list[tuple[Cell, ...]]:
    """Rows of IN_TURNS_COLUMNS."""
    return [(*found.row(name), found.cpu_us / spent[ours].cpu_us) for name, found in spent.items()]

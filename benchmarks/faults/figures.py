"""What a fault benchmark says: figures with what was wanted of them, as JSON, as a table, and as an exit status.

    {"script": "kills", "size": "quick" | "full", "seconds": 1301.2, "cores": 2,
     "figures": [{"what": "acknowledged decisions lost", "found": 0, "wanted": 0, "sense": "at most", "unit": ""}],
     "notes": {"kills": {"store": 740, "worker": 250, "everything": 10}, ...}}

`sense` says how found and wanted are compared: `at most`, `at least`, or `told` for a figure that nothing is asked of.
`notes` hold what a reader needs to judge the figures; they decide nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Sense = Literal["at most", "at least", "told"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. `found` None: it could not be measured, which misses what was wanted."""

    what: str
    found: float | None
    wanted: float | None = None
    sense: Sense = "at most"
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it is as good as wanted."""
        if self.sense == "told" or self.wanted is None:
            return True
        if self.found is None:
            return False
        return self.found <= self.wanted if self.sense == "at most" else self.found >= self.wanted

    def cells(self) -> list[str]:
        """What, found, wanted, met: as a table shows them."""
        wanted = "" if self.wanted is None else f"{self.sense} {_number(self.wanted)} {self.unit}".rstrip()
        found = "not measured" if self.found is None else f"{_number(self.found)} {self.unit}".rstrip()
        return [self.what, found, wanted, "" if self.wanted is None else "yes" if self.met else "**no**"]


@dataclass(slots=True)
class Result:
    """What one script found."""

    script: str
    size: str
    seconds: float = 0.0
    cores: int = 0
    figures: list[Figure] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """The options every script has."""
    parser = argparse.ArgumentParser(
        description=(doc or "").partition("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small run of under a minute")
    parser.add_argument("--json", action="store_true", help="the result as JSON instead of a table")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn at random")
    return parser


def run(script: str, args: argparse.Namespace, measure: Callable[[Result], None]) -> int:
    """Measure, print, and the exit status: 1 if a figure is not as good as wanted."""
    result = Result(script, "quick" if args.quick else "full", cores=len(os.sched_getaffinity(0)))
    began = time.monotonic()
    measure(result)
    result.seconds = round(time.monotonic() - began, 1)
    if args.json:
        print(json.dumps(asdict(result), indent=1))
    else:
        print(text(asdict(result)))
    return 0 if all(figure.met for figure in result.figures) else 1


def say(message: str) -> None:
    """Progress, on standard error."""
    print(message, file=sys.stderr, flush=True)


def figures_in(result: Mapping[str, Any]) -> list[Figure]:
    """The figures of a result that went through JSON."""
    return [Figure(**one) for one in result["figures"]]


HEAD = ("what was done to it", "found", "wanted", "met")


def rows_of(results: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """One row a figure, of all scripts."""
    return [figure.cells() for result in results.values() for figure in figures_in(result)]


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of the README."""
    lines = [HEAD, ["---"] * len(HEAD), *rows_of(results)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text(result: Mapping[str, Any]) -> str:
    """One script's result for a terminal."""
    rows: list[Sequence[str]] = [HEAD, *(figure.cells() for figure in figures_in(result))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    table = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    notes = "\n".join(f"  {name}: {json.dumps(value)}" for name, value in result["notes"].items())
    head = f"{result['script']} ({result['size']}, {result['seconds']:.0f} s, {result['cores']} cores)"
    return f"{head}\n{table}\n{notes}"

"""The document of a load run (`decision-service-load/1`): what is read of it, and its histograms as curves.

Latencies are microseconds from the instant a request was meant to be sent, so a server that stands still is seen by
every request that it kept waiting (coordinated omission is counted); `service_time_us` are from the instant it was
really sent. Documents are plain dicts as JSON gives them; whatever is absent is shown as unknown, never as 0.
"""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FORMAT: Final = "decision-service-load/1"
PERCENTILES: Final = ("p50", "p90", "p99", "p99.9", "p99.99", "max")
STEPS_MIN: Final = 3
_WHERE_RESULTS_WENT: Final = ("json", "html")
STAGES: Final = ("parse", "read", "features", "score", "rules", "commit", "serialise")

Document = dict[str, Any]
Run = dict[str, Any]
Floats = npt.NDArray[np.float64]


class NotALoadRun(Exception):
    """A file that is no document of a load run."""


def read(path: Path) -> Document:
    """The document in a file. Raises NotALoadRun, which says what is wrong with which file."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise NotALoadRun(f"{path}: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise NotALoadRun(f"{path}: expected a document of format {FORMAT!r}")
    if not document.get("runs"):
        raise NotALoadRun(f"{path}: it holds no runs")
    return document


def number(run: Run, *path: str) -> float:
    """A figure by its path, NaN where it is not known."""
    found: Any = run
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else math.nan


def options(document: Document) -> dict[str, Any]:
    """The options that were given: none that was left open, of paths the last part (a checkout lies anywhere), and not
    where the results went.
    """
    given = {name: value for name, value in document.get("options", {}).items() if name not in _WHERE_RESULTS_WENT}
    return {
        name: value.rstrip("/").rpartition("/")[2] if isinstance(value, str) else value
        for name, value in given.items()
        if value not in (None, "", [], (), "()")
    }


def failures(run: Run) -> int:
    """How many requests failed, whatever the cause."""
    return sum(run.get("failures", {}).values())


def by_name(document: Document) -> dict[str, list[Run]]:
    """Runs of one name are rounds of the same thing; names in the order of the document."""
    rounds: dict[str, list[Run]] = {}
    for run in document["runs"]:
        rounds.setdefault(run["name"], []).append(run)
    return rounds


def ramps(document: Document) -> dict[str, list[Run]]:
    """The ramps by name, each with its steps by rising rate: open runs whose names differ only in their numbers, at
    three different rates or more.
    """
    alike: dict[str, list[Run]] = {}
    for run in document["runs"]:
        if run.get("kind") == "open" and run.get("wanted_per_s"):
            alike.setdefault(re.sub(r"[\d.,]+", "…", run["name"]), []).append(run)
    return {
        f"ramp {name}" if name.startswith("…") else name: sorted(steps, key=lambda run: float(run["wanted_per_s"]))
        for name, steps in alike.items()
        if len({run["wanted_per_s"] for run in steps}) >= STEPS_MIN
    }


def curve(run: Run) -> tuple[Floats, Floats]:
    """Latency in us (y) at 1 / (1 - share of requests below) (x, from 1 to the number of requests), rising in both.

    From the histogram, else from the few percentiles that the document names.
    """
    encoded = run.get("histogram")
    return _decoded(encoded) if encoded else _named(run)


def _decoded(encoded: str) -> tuple[Floats, Floats]:
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram.decode(encoded)
    found = [
        (float(item.value_iterated_to), item.total_count_to_this_value) for item in histogram.get_recorded_iterator()
    ]
    if not found:
        return np.array([]), np.array([])
    values = np.array([value for value, _ in found])
    reached = np.array([count for _, count in found], np.float64)
    before = np.concatenate(([0.0], reached[:-1]))  # requests that were faster than each value
    total = reached[-1]
    x = total / (total - before)
    return np.append(x, max(total, x[-1])), np.append(values, values[-1])


def _named(run: Run) -> tuple[Floats, Floats]:
    requests = max(1.0, number(run, "requests"))
    points = [(1.0 / (1.0 - float(name[1:]) / 100.0), number(run, "latency_us", name)) for name in PERCENTILES[:-1]]
    points = [(x, y) for x, y in points if not math.isnan(y) and x < requests]
    if not math.isnan(most := number(run, "latency_us", "max")):
        points.append((requests, most))
    return np.array([x for x, _ in points]), np.array([y for _, y in points])


def intervals(run: Run) -> list[dict[str, Any]]:
    """The timeline with `t_s` where each interval ends. A document whose first interval is at 0 tells where they begin,
    and is set right.
    """
    told = run.get("timeline", [])
    if not told or told[0]["t_s"] > 0:
        return list(told)
    begins = [float(row["t_s"]) for row in told]
    ends = (
        [*begins[1:], begins[-1] + float(np.median(np.diff(begins)))] if len(begins) > 1 else [number(run, "seconds")]
    )
    return [row | {"t_s": end} for row, end in zip(told, ends, strict=True)]


def timeline(run: Run, rows_max: int) -> list[dict[str, float]]:
    """The timeline in at most `rows_max` rows of equally many intervals: requests and failures added up, the median of
    the p50 and the p99 of the intervals, the worst of their maxima; `t_s` is where a row ends."""
    all_of_it = intervals(run)
    rows = min(rows_max, len(all_of_it))
    edges = [round(i * len(all_of_it) / rows) for i in range(rows + 1)] if rows else []
    return [_merged(all_of_it[first:last]) for first, last in pairwise(edges)]


def _merged(rows: list[dict[str, Any]]) -> dict[str, float]:
    def values(name: str) -> list[float]:
        return [float(i[name]) for i in rows if i.get(name) is not None and (i["requests"] or name[0] != "p")]

    def median(name: str) -> float:
        return float(np.median(values(name))) if values(name) else math.nan

    return {
        "t_s": float(rows[-1]["t_s"]), "requests": sum(values("requests")), "failures": sum(values("failures")),
        "p50_us": median("p50_us"), "p99_us": median("p99_us"), "max_us": max(values("max_us"), default=math.nan),
    }  # fmt: skip


def slug(text: str) -> str:
    """A name for an anchor: a-z, 0-9 and single dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"

"""Meters of the shadow policy: files of cells of their own beside those of `telemetry`, one a worker and one a shadow
process, added up by whichever worker is asked for its metrics.

The process counts what it evaluated; the worker what never got there. So `evaluated` + `failed` + `dropped` + `lost`
are all decisions that were made while a shadow was on.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from decision_service.core.request import SCENES
from decision_service.shadow_policy.record import Compared, changes
from decision_service.telemetry.cells import OTHER_NAME, CellFile, Layout, fold_retired, read_totals
from decision_service.telemetry.meters import OUTCOMES

PREFIX: Final = "decision_service_shadow_policy_"
RESULTS: Final = ("agreed", "differed", "failed", "dropped", "lost")
"""What becomes of a decision: both answer the same, or not; the shadow raised or has no such scene; there was no room;
it was on its way when the process ended, or its record could not be kept."""
BREAKS: Final = ("ended", "hung", "slow", "failing")  # why a process was ended and left alone
RULES_MAX: Final = 512  # rules and what became of them (`both`, `new`, `lost`), told by name; the rest together
_GAUGES: Final = ("running", "waiting")


class ShadowMeters:
    """One process's counters."""

    def __init__(self, directory: Path) -> None:
        groups = {
            **{gauge: [""] for gauge in _GAUGES},
            "decisions": list(RESULTS),
            "outcomes": [" ".join(labels) for labels in product(SCENES, OUTCOMES, OUTCOMES)],
            "breaks": list(BREAKS),
            "seconds": [""],
        }
        self._start: dict[str, int] = {}
        names: list[str] = []
        for group, members in groups.items():
            self._start[group] = len(names)
            names += [f"shadow_policy_{group} {member}" for member in members]
        self._layout = Layout(tuple(names), gauges=len(_GAUGES), named=RULES_MAX)
        self.directory = directory
        fold_retired(directory, self._layout)
        self._file = CellFile(directory, self._layout)
        self._pairs = {labels: i for i, labels in enumerate(product(SCENES, OUTCOMES, OUTCOMES))}

    def count(self, result: str, number: int = 1) -> None:
        """So many decisions, by one of RESULTS."""
        self._file.cells[self._start["decisions"] + RESULTS.index(result)] += number

    def count_compared(self, one: Compared) -> None:
        """One decision by both policies."""
        if one.shadow is None:
            self.count("failed")
            return
        self.count("agreed" if one.agrees else "differed")
        pair = self._pairs[one.scene, one.active.outcome, one.shadow.outcome]
        self._file.cells[self._start["outcomes"] + pair] += 1.0
        for rule, change in changes(one.active.rules, one.shadow.rules):
            self._file.count_named(f"{one.scene} {change} {rule}")

    def count_break(self, kind: str) -> None:
        """One shadow process ended and left alone, by one of BREAKS."""
        self._file.cells[self._start["breaks"] + BREAKS.index(kind)] += 1.0

    def add_seconds(self, seconds: float) -> None:
        """CPU time of evaluating."""
        self._file.cells[self._start["seconds"]] += seconds

    def set_running(self, running: bool) -> None:
        """Whether this worker's decisions are evaluated in shadow."""
        self._file.cells[self._start["running"]] = running

    def set_waiting(self, number: int) -> None:
        """How many decisions wait to be sent."""
        self._file.cells[self._start["waiting"]] = number

    def collect(self) -> Iterator[Metric]:
        """All families, of all workers of this host."""
        totals = read_totals(self.directory, self._layout)

        def cell(group: str, at: int = 0) -> float:
            return float(totals.cells[self._start[group] + at])

        yield GaugeMetricFamily(PREFIX + "running", "Workers whose decisions a shadow evaluates", cell("running"))
        yield GaugeMetricFamily(PREFIX + "waiting", "Decisions that wait for the shadow", cell("waiting"))
        text = "Decisions in shadow by what became of them"
        family = CounterMetricFamily(PREFIX + "decisions", text, labels=("result",))
        for i, result in enumerate(RESULTS):
            family.add_metric((result,), cell("decisions", i))
        yield family
        text = "Decisions in shadow by both outcomes"
        family = CounterMetricFamily(PREFIX + "outcomes", text, labels=("scene", "active", "shadow"))
        for labels, i in self._pairs.items():
            if count := cell("outcomes", i):
                family.add_metric(labels, count)
        yield family
        text = "Rules that had their say in both policies, newly in the shadow, or no longer there"
        family = CounterMetricFamily(PREFIX + "rules", text, labels=("scene", "rule", "change"))
        for name, count in sorted(totals.named.items()):
            scene, change, rule = (OTHER_NAME,) * 3 if name == OTHER_NAME else name.split(" ", 2)
            family.add_metric((scene, rule, change), count)
        yield family
        family = CounterMetricFamily(PREFIX + "breaks", "Shadows switched off for a while, by why", labels=("reason",))
        for i, kind in enumerate(BREAKS):
            family.add_metric((kind,), cell("breaks", i))
        yield family
        yield CounterMetricFamily(PREFIX + "evaluating_seconds", "CPU time of evaluating shadows", cell("seconds"))

    def close(self) -> None:
        """Release the file."""
        self._file.close()

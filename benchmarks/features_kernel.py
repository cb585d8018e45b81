"""Microseconds that features cost a decision, beside NumPy and pandas doing the same, and in the worst cases.

    python benchmarks/features_kernel.py                   # everything, about a minute once the kernel is compiled
    python benchmarks/features_kernel.py --calls 200       # a quick look
    python benchmarks/features_kernel.py --json            # the same as one JSON object

Five tables, each the median and the 99th percentile of many single calls on one core:

    features   100 and 300 features spread evenly over the catalogue's, and all of them, by the length of the history;
               the call from Python is included, compiling and planning are not
    offline    the same through `compute_many`, a row each, which is how feature tables are built
    by hand    sixty features of one customer by the kernel, by NumPy and by pandas (`features_by_hand`): the answers
               are compared, and a difference fails the run
    decisions  whole decisions of the shipped policy, and the part of them that is features
    worst      300 features over histories of 4,096 records built to be slow (`feature_histories`), against a usual one

Features of the customer's own log only: those of devices, payees and networks read other logs with plans of their own.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.decide import STAGES, decide
from decision_service.core.event import Words, device_key, facility_key
from decision_service.core.features.catalogue import Catalogue, read_features
from decision_service.core.features.closure import Closure
from decision_service.core.features.grains import CUSTOMER, log_read_by
from decision_service.core.features.plan import FeaturePlan, compile_plan
from decision_service.core.limits import DAY_MS, EVENTS_PER_CUSTOMER_MAX, HOUR_MS
from decision_service.core.policy import Policy
from decision_service.core.rules.attributes import AttributeSpec, input_vocabulary, lay_out, read_attributes
from decision_service.core.source import Findings
from decision_service.core.state import CustomerState
from decision_service.core.zone import zone_named
from decision_service.policies.files import read_document
from decision_service.policies.loading import load_policy
from decision_service.warm import LINE, REQUEST
from feature_histories import T_MS, WORST, packed, usual_events
from features_by_hand import NAMES, by_numpy, by_pandas, columns_of, frame_of

ROOT: Final = Path(__file__).parents[1]
RULES: Final = ROOT / "rules"
ZONE: Final = "Asia/Shanghai"
LENGTHS: Final = (0, 20, 200, 2_000, EVENTS_PER_CUSTOMER_MAX)
MANY_ROWS: Final = 200
CLOSE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Cost:
    """One line of a table; `p50_us` and `p99_us` of single calls."""

    table: str
    what: str
    events: int
    p50_us: float
    p99_us: float

    def render(self) -> str:
        """As printed."""
        return f"{self.table:<10}{self.what:<34}{self.events:>7}{self.p50_us:>12.1f}{self.p99_us:>12.1f}"


def _attributes() -> dict[str, AttributeSpec]:
    document = read_document(RULES / "attributes.yaml", "attributes.yaml", Findings())
    return {} if document is None else read_attributes(document, Findings())


ATTRIBUTES = _attributes()
SLOTS = {name: slot for slot, name in enumerate(lay_out(ATTRIBUTES).names)}


def catalogue() -> Catalogue:
    """Everything under rules/features; stops with the diagnostics if it does not compile."""
    findings = Findings()
    documents = [read_document(path, path.name, findings) for path in sorted((RULES / "features").glob("*.yaml"))]
    declared = read_features([d for d in documents if d is not None], input_vocabulary(ATTRIBUTES), findings)
    if findings.errors:
        sys.exit("\n".join(d.render() for d in findings.errors))
    return declared


def a_request() -> q.RequestWords:
    """The kernel's row about a drawdown of 4,990 yuan."""
    row = np.zeros(q.REQUEST_WORDS, np.int64)
    row[:19] = (
        T_MS, 499_000, 100, facility_key("f"), device_key("d"), 5, 7, 1, 1, 31_000_000, 121_000_000, 3,
        T_MS - 500 * DAY_MS, 5_000_000, 1_000_000, 0, 4_000_000, q.ABSENT, 8 * 3_600_000,
    )  # fmt: skip
    return row


def timed(call: Callable[[], object], calls: int) -> tuple[float, float]:
    """Median and 99th percentile of the call, in microseconds."""
    call()
    spent = np.empty(calls)
    for k in range(calls):
        start = time.perf_counter_ns()
        call()
        spent[k] = time.perf_counter_ns() - start
    return float(np.median(spent)) / 1_000, float(np.quantile(spent, 0.99)) / 1_000


def customer_names(declared: Catalogue) -> list[str]:
    """What analysts see and the customer's own log suffices for."""
    return [
        spec.name
        for spec in declared.specs
        if not spec.internal and not spec.surge_of
        and all(log_read_by(part.grain) == CUSTOMER for part in Closure(declared, [spec.name]).specs.values())
    ]  # fmt: skip


def plan_of(declared: Catalogue, names: list[str] | tuple[str, ...]) -> FeaturePlan:
    """A plan for these features."""
    return compile_plan(declared, names, SLOTS, len(SLOTS), zone_named(ZONE))


def spread(declared: Catalogue, count: int) -> list[str]:
    """`count` features, every so many of the catalogue's."""
    names = customer_names(declared)
    return [names[int(k * len(names) / count)] for k in range(count)]


def call_of(plan: FeaturePlan, log: Words) -> Callable[[], object]:
    """A call of the kernel as a decision makes it."""
    return partial(plan.compute, log, a_request(), np.ones(len(SLOTS) + len(plan.names)))


def features(declared: Catalogue, calls: int) -> list[Cost]:
    """Online: one request a call."""
    costs = []
    for count in (100, 300, len(customer_names(declared))):
        plan = plan_of(declared, spread(declared, count))
        for n in LENGTHS:
            costs.append(
                Cost("features", f"{count} features", n, *timed(call_of(plan, packed(usual_events(n))), calls))
            )
    return costs


def offline(declared: Catalogue, calls: int) -> list[Cost]:
    """Many requests a call, per row."""
    costs = []
    for count in (100, 300):
        plan, log = plan_of(declared, spread(declared, count)), packed(usual_events(200))
        starts = np.zeros(MANY_ROWS, np.int64)
        ends, rows = starts + len(log), np.repeat(a_request()[None], MANY_ROWS, 0)
        numbers = np.ones((MANY_ROWS, len(SLOTS) + len(plan.names)))
        call = partial(plan.compute_many, log, starts, ends, rows, numbers)
        p50, p99 = timed(call, max(calls // MANY_ROWS, 10))
        costs.append(Cost("offline", f"{count} features, a row", 200, p50 / MANY_ROWS, p99 / MANY_ROWS))
    return costs


def by_hand(declared: Catalogue, calls: int) -> list[Cost]:
    """Three ways to the same sixty numbers. Stops the run if they differ."""
    costs = []
    plan = plan_of(declared, NAMES)
    slots = [len(SLOTS) + plan.names.index(name) for name in NAMES]
    for n in LENGTHS[1:]:
        log, numbers = packed(usual_events(n)), np.ones(len(SLOTS) + len(plan.names))
        columns = columns_of(log, T_MS)
        frame = frame_of(columns)
        kernel = partial(plan.compute, log, a_request(), numbers)
        kernel()
        for way, values in (("NumPy", by_numpy(columns, T_MS)), ("pandas", by_pandas(frame, T_MS))):
            compare(way, n, numbers[slots].tolist(), values)
        few = max(calls // 20, 10)
        costs += [
            Cost("by hand", "60 features, kernel", n, *timed(kernel, calls)),
            Cost("by hand", "60 features, NumPy", n, *timed(partial(by_numpy, columns, T_MS), few)),
            Cost("by hand", "60 features, pandas", n, *timed(partial(by_pandas, frame, T_MS), few)),
        ]
    return costs


def compare(way: str, events: int, ours: list[float], theirs: list[float]) -> None:
    """Exit with the first feature on which the kernel and another way part."""
    for name, a, b in zip(NAMES, ours, theirs, strict=True):
        if not (math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE) or (math.isnan(a) and math.isnan(b))):
            sys.exit(f"{name} over {events} events: kernel {a}, {way} {b}")


def shipped_policy() -> Policy:
    """The policy under rules."""
    return load_policy(RULES, ROOT / "models", ZONE, 48 * HOUR_MS)[0]


def decisions(calls: int) -> list[Cost]:
    """Whole decisions, without store and HTTP."""
    policy = shipped_policy()
    line = replace(LINE, as_of_ms=T_MS - DAY_MS, granted_at_ms=T_MS - 500 * DAY_MS, limit_minor=50_000_000)
    request = replace(REQUEST, occurred_at_ms=T_MS, facility=line)
    costs = []
    for n in (0, 20, 200, EVENTS_PER_CUSTOMER_MAX):
        state = CustomerState(log=packed(usual_events(n)).tobytes(), facilities={line.facility_id: line})
        marks: list[int] = []
        instants: list[float] = []

        def mark(stage: int, marks: list[int] = marks, instants: list[float] = instants) -> None:
            if stage == 0:
                marks.append(time.perf_counter_ns())
            elif stage == STAGES.index("features"):
                instants.append((time.perf_counter_ns() - marks[-1]) / 1_000)

        whole = timed(lambda state=state, mark=mark: decide(request, state, policy, T_MS, "0" * 36, mark), calls)
        name = f"policy, {len(policy.drawdown.plan.names)} features"
        costs.append(Cost("decisions", name, n, *whole))
        part = float(np.median(instants)), float(np.quantile(instants, 0.99))
        costs.append(Cost("decisions", "  of it features", n, *part))
    return costs


def worst(declared: Catalogue, calls: int) -> list[Cost]:
    """The usual history first, then those built to be slow."""
    plan, n = plan_of(declared, spread(declared, 300)), EVENTS_PER_CUSTOMER_MAX
    histories = {"usual": usual_events(n)} | {name: build(n) for name, build in WORST.items()}
    return [
        Cost("worst", name, n, *timed(call_of(plan, packed(events)), max(calls // 5, 10)))
        for name, events in histories.items()
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="What features cost a decision, in microseconds on one core.")
    parser.add_argument("--calls", type=int, default=2_000, help="single calls measured per line (default 2000)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    arguments = parser.parse_args()
    if arguments.calls < 1:
        parser.error("--calls: at least 1")
    declared, calls = catalogue(), arguments.calls
    costs: list[Cost] = []
    gc.disable()
    if not arguments.json:
        print(f"{'table':<10}{'what':<34}{'events':>7}{'p50 us':>12}{'p99 us':>12}")
    for table in (features, offline, by_hand, worst):
        costs += (lines := table(declared, calls))
        if not arguments.json:
            print(*(cost.render() for cost in lines), sep="\n", flush=True)
    costs += (lines := decisions(calls))
    print(json.dumps({"calls": calls, "costs": [asdict(c) for c in costs]}) if arguments.json
          else "\n".join(cost.render() for cost in lines))  # fmt: skip


if __name__ == "__main__":
    main()

"""Microseconds a decision spends on features: every declared feature, for logs of 200, 2,000 and 4,096 events.

Run: `python benchmarks/features_kernel.py`. Prints the median of runs for all features of `rules/features` and for the
first 100 and 300 of them; the dispatcher's call from Python is included, compiling and planning are not.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

from decision_service.core import inputs as q
from decision_service.core.event import Event, Geo, Words, device_key, facility_key, header, words_of
from decision_service.core.features.catalogue import Catalogue, read_features
from decision_service.core.features.plan import FeaturePlan, compile_plan
from decision_service.core.limits import DAY_MS
from decision_service.core.rules.attributes import read_attributes
from decision_service.core.source import Findings
from decision_service.core.vocabulary import BASE_NUMBERS, BASE_STRINGS, Kind, NameSpec, Vocabulary
from decision_service.core.zone import zone_named
from decision_service.policy_files import read_document

RULES = Path(__file__).parents[1] / "rules"
T_MS = 1_790_000_000_000
RUNS = 400


def attributes() -> tuple[NameSpec, ...]:
    """The declared attributes, which some features read."""
    findings = Findings()
    document = read_document(RULES / "attributes.yaml", "attributes.yaml", findings)
    return tuple(a.spec for a in read_attributes(document, findings).values()) if document is not None else ()


SLOTS = {
    spec.name: slot
    for slot, spec in enumerate([*BASE_NUMBERS, *(a for a in attributes() if a.kind is not Kind.STRING)])
}


def catalogue() -> Catalogue:
    """Everything under rules/features; stops with the diagnostics if it does not compile."""
    findings = Findings()
    documents = [read_document(path, path.name, findings) for path in sorted((RULES / "features").glob("*.yaml"))]
    base = Vocabulary({spec.name: spec for spec in (*BASE_NUMBERS, *BASE_STRINGS, *attributes())})
    declared = read_features([d for d in documents if d is not None], base, findings)
    if findings.errors:
        sys.exit("\n".join(d.render() for d in findings.errors))
    return declared


def a_log(n: int) -> Words:
    """`n` events in order: half drawdowns, the rest repayments, purchases, logins, changes."""
    rng = np.random.default_rng(7)
    kinds = rng.choice([1, 1, 1, 2, 5, 11], n)
    statuses = rng.choice([1, 1, 1, 1, 2, 3, 4], n)
    times = np.sort(T_MS - rng.integers(0, 400 * DAY_MS, n))
    events = (
        Event(
            i + 1, int(kinds[i]), int(statuses[i]), int(times[i]), int(rng.integers(1, 500)) * 1_000, channel=1,
            facility=facility_key("f"), device=device_key("d"), counterparty=int(rng.integers(1, 30)),
            code=int(rng.integers(1, 5)), geo=Geo(31_000_000 + int(rng.integers(0, 10**6)), 121_000_000, 3),
        )
        for i in range(n)
    )  # fmt: skip
    return words_of(header() + b"".join(event.pack() for event in events))


def a_request() -> q.RequestWords:
    """The kernel's row about a drawdown of 4,990 yuan."""
    row = np.zeros(q.REQUEST_WORDS, np.int64)
    row[:19] = (
        T_MS, 499_000, 100, facility_key("f"), device_key("d"), 5, 7, 1, 1, 31_000_000, 121_000_000, 3,
        T_MS - 500 * DAY_MS, 5_000_000, 1_000_000, 0, 4_000_000, q.ABSENT, 8 * 3_600_000,
    )  # fmt: skip
    return row


def median_us(plan: FeaturePlan, words: Words) -> float:
    """Median microseconds of one call."""
    numbers = np.ones(len(SLOTS) + len(plan.names))
    row = a_request()
    plan.compute(words, row, numbers)
    spent = []
    for _ in range(RUNS):
        start = time.perf_counter_ns()
        plan.compute(words, row, numbers)
        spent.append(time.perf_counter_ns() - start)
    return statistics.median(spent) / 1_000


def main() -> None:
    """Print the table."""
    declared = catalogue()
    visible = [spec.name for spec in declared.specs if not spec.internal and not spec.surge_of]
    zone = zone_named("Asia/Shanghai")
    print(f"{'features':>9} {'events':>7} {'us/decision':>12}")
    for count in (100, 300, len(visible)):
        step = len(visible) / count
        wanted = [visible[int(i * step)] for i in range(count)]
        plan = compile_plan(declared, wanted, SLOTS, len(SLOTS), zone)
        for events in (0, 200, 2_000, 4_096):
            print(f"{count:>9} {events:>7} {median_us(plan, a_log(events)):>12.1f}", flush=True)


if __name__ == "__main__":
    main()

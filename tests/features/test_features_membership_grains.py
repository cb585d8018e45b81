"""Explanations of other grains, delays, labels and shares agree with the kernel as well: facility, loan and payee."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from cases import random_case
from kernel_runner import SLOTS, catalogue_of, inputs_of, log_of, row_of
from oracle import Case

from decision_service.core import inputs as q
from decision_service.core.event import FLAG_LOAN, KINDS, Event, code_key, words_of
from decision_service.core.features.catalogue import Catalogue, FeatureSpec
from decision_service.core.features.contributions import OF, contributions_of, span_of
from decision_service.core.features.membership import Judge, facts_of
from decision_service.core.features.plans import compile_plans
from decision_service.core.links import LINK_GRAINS, entity_header, link_record
from decision_service.core.source import Findings
from decision_service.core.zone import zone_named

TEXTS = 'unit: n, en: "x", zh: "x"'
TEXT = f"""
segments:
  draw: kind == "drawdown"
  fraud: kind == "drawdown" and label == "fraud"
  mine: kind == "drawdown" and customer == request.customer_id
features:
  own_fraud: {{agg: count, of: fraud, windows: [30d, 365d], null: Z, {TEXTS}}}
  line: {{agg: sum, of: draw, windows: [7d, 90d], grain: facility, null: Z, {TEXTS}}}
  loan: {{agg: count, of: draw, window: life, grain: loan, null: Z, {TEXTS}}}
  late: {{agg: count, of: draw, windows: [7d, 90d], delay: 7d, null: Z, {TEXTS}}}
  late_b: {{agg: sum, of: draw, buckets: 3 x 30d, delay: 5d, null: Z, {TEXTS}}}
  share: {{agg: share, of: fraud, among: draw, windows: [30d, 365d], delay: 3d, null: D, {TEXTS}}}
  pay_cnt: {{agg: count, of: draw, windows: [1d, 30d, 365d], grain: payee, null: Z, {TEXTS}}}
  pay_mine: {{agg: count, of: mine, window: 365d, grain: payee, null: Z, {TEXTS}}}
  pay_cust: {{agg: distinct, by: customer, of: draw, window: 365d, grain: payee, null: Z, {TEXTS}}}
  pay_fraud: {{agg: share, of: fraud, among: draw, windows: [30d, 365d], delay: 7d, grain: payee, null: D, {TEXTS}}}
"""


def labelled(case: Case, rng: random.Random) -> Case:
    """The case with labels about some of its events, two kinds of them, some before what they are about."""
    about = [e for e in case.events if not e.settles and rng.random() < 0.4]
    labels = [
        Event(10**7 + i, KINDS["label"], 1, case.t - rng.randrange(0, 200 * 86_400_000),
              code=code_key(rng.choice(("fraud", "disputed"))), settles=event.key)
        for i, event in enumerate([*about, *about[::3]])
    ]  # fmt: skip
    assert all(label.pack()[35] & FLAG_LOAN for label in labels)
    return replace(case, events=[*case.events, *labels])


def payee_log(case: Case, rng: random.Random) -> bytes:
    """All events of the case as three customers' events at one payee."""
    records = [event.pack() for event in case.events]
    return entity_header("payee") + b"".join(link_record(r, rng.choice((77, 78, 2**63 + 9))) for r in records)


def explained(spec: FeatureSpec, catalogue: Catalogue, log: bytes, row: q.RequestWords, case: Case) -> float | None:
    """What the contributions of a feature add up to."""
    facts = facts_of(words_of(log), row, zone_named(case.zone), spec.grain)
    span = span_of(spec.variant, case.t, spec.row.delay_ms)
    found = contributions_of(spec, span, catalogue.segments, facts, Judge(row, inputs_of(case)))
    parts = [one.contribution or 0.0 for one in found if one.role == OF]
    if spec.row.plain("agg", spec.variant) == "share":
        return sum(parts) / len(parts) if parts else None
    return math.fsum(parts)


@pytest.mark.parametrize("seed", range(8))
def test_explained_events_of_other_grains_add_up_as_well(seed: int) -> None:
    """Counts, sums, distinct customers and shares, of the request's line, of a loan, of a payee, and with a delay."""
    findings = Findings()
    catalogue = catalogue_of(TEXT, findings)
    assert findings.diagnostics == []
    rng = random.Random(seed)
    case = labelled(random_case(seed, 60 + 20 * seed), rng)
    row = row_of(case)
    row[q.CUSTOMER], row[q.COUNTERPARTY] = 77, 21
    row[q.LOAN] = next(e.key for e in case.events if e.kind == KINDS["drawdown"])
    logs = {"payee": payee_log(case, rng)}
    plans = compile_plans(catalogue, list(catalogue.by_name), SLOTS, len(SLOTS), zone_named(case.zone))
    numbers = np.full(len(SLOTS) + len(plans.names), np.nan)
    for name, slot in SLOTS.items():
        numbers[slot] = inputs_of(case).get(name, math.nan)
    plans.compute(words_of(log_of(case)), {"payee": words_of(logs["payee"])}, row, numbers)
    values = dict(zip(plans.names, numbers[len(SLOTS) :].tolist(), strict=True))
    wrong = []
    for spec in catalogue.specs:
        log = logs["payee"] if spec.grain in LINK_GRAINS else log_of(case)
        mine, kernel = explained(spec, catalogue, log, row, case), values[spec.name]
        if not ((mine is None and kernel != kernel) or (mine is not None and math.isclose(mine, kernel, rel_tol=1e-9))):
            wrong.append(f"{spec.name}: kernel {kernel}, explained {mine}")
    assert wrong == []
    assert values["pay_cust"] > 1
    assert values["own_fraud_365d"] > 0

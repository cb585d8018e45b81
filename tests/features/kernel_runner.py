"""Runs the shipped catalogue through the real plan and kernel for a test case."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from oracle import Case

from decision_service.core import inputs as q
from decision_service.core.event import header, words_of
from decision_service.core.features.catalogue import Catalogue, read_features
from decision_service.core.features.closure import Closure
from decision_service.core.features.grains import CUSTOMER, log_read_by
from decision_service.core.features.plan import FeaturePlan, compile_plan
from decision_service.core.features.plans import FeaturePlans, compile_plans
from decision_service.core.rules.attributes import AttributeSpec, input_vocabulary, lay_out, read_attributes
from decision_service.core.source import Findings
from decision_service.core.zone import zone_named
from decision_service.policies.files import read_document, read_text

RULES = Path(__file__).parents[2] / "rules" / "features"


def shipped_attributes() -> dict[str, AttributeSpec]:
    """Everything under rules/attributes.yaml."""
    findings = Findings()
    document = read_document(RULES.parent / "attributes.yaml", "attributes.yaml", findings)
    assert document is not None
    attributes = read_attributes(document, findings)
    assert not findings.diagnostics, "\n".join(d.render() for d in findings.diagnostics)
    return attributes


ATTRIBUTES = shipped_attributes()
BASE = input_vocabulary(ATTRIBUTES)
SLOTS = {name: slot for slot, name in enumerate(lay_out(ATTRIBUTES).names)}


@lru_cache
def shipped_catalogue() -> Catalogue:
    """Everything under rules/features."""
    findings = Findings()
    documents = [read_document(path, path.name, findings) for path in sorted(RULES.glob("*.yaml"))]
    catalogue = read_features([d for d in documents if d is not None], BASE, findings)
    assert not findings.diagnostics, "\n".join(d.render() for d in findings.diagnostics)
    return catalogue


def catalogue_of(text: str, findings: Findings) -> Catalogue:
    """A catalogue from the text of one file."""
    document = read_text(text, "test.yaml", findings)
    return read_features([document] if document else [], BASE, findings)


@lru_cache
def customer_names() -> tuple[str, ...]:
    """Shipped features that need no log but the customer's."""
    catalogue = shipped_catalogue()
    return tuple(
        spec.name
        for spec in catalogue.specs
        if all(log_read_by(part.grain) == CUSTOMER for part in Closure(catalogue, [spec.name]).specs.values())
    )


@lru_cache
def shipped_plan(zone: str) -> FeaturePlan:
    """All shipped features of the customer's own log in one plan."""
    return compile_plan(shipped_catalogue(), customer_names(), SLOTS, len(SLOTS), zone_named(zone))


@lru_cache
def shipped_plans(zone: str) -> FeaturePlans:
    """All shipped features, a plan a log."""
    catalogue = shipped_catalogue()
    return compile_plans(catalogue, [s.name for s in catalogue.specs], SLOTS, len(SLOTS), zone_named(zone))


def signed(key: int) -> int:
    """A 64-bit key as the row holds it."""
    return key - (1 << 64) if key >= 1 << 63 else key


def row_of(case: Case) -> q.RequestWords:
    """The kernel's row about the request."""
    row = np.zeros(q.REQUEST_WORDS, np.int64)
    lat, lon, accuracy = case.place or (0, 0, 0)
    row[:19] = (
        case.t, case.amount, case.scale, case.facility, case.device, signed(case.party), case.code, case.channel,
        int(case.place is not None), lat, lon, accuracy, case.granted, case.limit, case.outstanding, case.reserved,
        case.limit - case.outstanding - case.reserved, q.ABSENT, zone_named(case.zone).offset_at(case.t),
    )  # fmt: skip
    row[q.LOAN] = signed(case.loan)
    return row


def inputs_of(case: Case) -> dict[str, float]:
    """The base numbers of a case; what it does not say is null."""
    major = {name: getattr(case, name) / case.scale for name in ("limit", "outstanding", "reserved")}
    days_past_due = math.nan if case.days_past_due is None else case.days_past_due
    days_to_due = math.nan if case.days_to_due is None else case.days_to_due
    local_ms = case.t + zone_named(case.zone).offset_at(case.t)
    return {
        "request.amount": case.amount / case.scale,
        "request.local_hour": float(local_ms // 3_600_000 % 24),
        **{f"facility.{name}": value for name, value in major.items()},
        "facility.available": (case.limit - case.outstanding - case.reserved) / case.scale,
        "facility.days_past_due": days_past_due,
        "facility.days_to_due": days_to_due,
        "facility.age_d": (case.t - case.granted) / 86_400_000,
        "customer.outstanding": major["outstanding"],
        "customer.limit": major["limit"],
        **case.inputs,
    }


def log_of(case: Case) -> bytes:
    """The packed log of a case."""
    return header(0, case.trimmed_through) + b"".join(event.pack() for event in case.events)


def computed(
    case: Case, plan: FeaturePlan | FeaturePlans | None = None, links: Mapping[str, bytes] | None = None
) -> dict[str, float | None]:
    """Every feature of the plan (or plans, with entity logs by grain) for a case; null is None."""
    plan = plan or shipped_plans(case.zone)
    numbers = np.full(len(SLOTS) + len(plan.names), np.nan)
    given = inputs_of(case)
    for name, slot in SLOTS.items():
        numbers[slot] = given.get(name, math.nan)
    if isinstance(plan, FeaturePlan):
        plan.compute(words_of(log_of(case)), row_of(case), numbers)
    else:
        logs = {grain: words_of(log) for grain, log in (links or {}).items()}
        plan.compute(words_of(log_of(case)), logs, row_of(case), numbers)
    values = numbers[len(SLOTS) :].tolist()
    return {name: None if value != value else value for name, value in zip(plan.names, values, strict=True)}


def differences(got: dict[str, float | None], expected: dict[str, float | None]) -> list[str]:
    """Names whose values differ by more than rounding, with both values."""
    wrong = []
    for name, value in expected.items():
        mine = got[name]
        same = mine is value or (
            mine is not None and value is not None and math.isclose(mine, value, rel_tol=1e-9, abs_tol=1e-9)
        )
        if not same:
            wrong.append(f"{name}: kernel {mine}, definition {value}")
    return wrong

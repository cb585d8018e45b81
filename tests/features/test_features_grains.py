"""Grains, delays and shares: what an analyst is told, and how the plans of several logs stand together."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_runner import SLOTS, catalogue_of

from decision_service.core.features.plan import compile_plan
from decision_service.core.features.plans import compile_plans
from decision_service.core.source import Findings
from decision_service.core.zone import zone_named

ZONE = zone_named("Asia/Shanghai")
SEGMENTS = (
    'segments: {draws: kind == "drawdown", fraud: label == "fraud", here: device == request.device_id,'
    " mine: facility == request.facility_id}\n"
)
TEXTS = 'unit: n, en: "x", zh: "x"'
COUNT = f"agg: count, of: draws, window: 7d, null: Z, {TEXTS}"


def mistakes(rows: str) -> list[tuple[str, str]]:
    """Message and expectation of every finding for rows under `features`."""
    findings = Findings()
    catalogue_of(SEGMENTS + rows, findings)
    return [(d.message, d.expected or "") for d in findings.diagnostics]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{COUNT}, grain: shop", "unknown grain `shop`"),
        (f"{COUNT}, delay: soon", "`soon` is no delay"),
        (f"{COUNT}, delay: life", "`life` is no delay"),
        (f"{COUNT}, delay: [1d]", "`` is no delay"),
        (f"{COUNT}, delay: 1d, incl: true", "the request is not as old as the delay"),
        (f"{COUNT}, grain: loan, incl: true", "a request is no event of an earlier loan"),
        (f"agg: count, of: here, window: 7d, null: Z, grain: payee, {TEXTS}",
         "an event in the log of a payee has no `device`"),
        (f"agg: count_since, of: draws, since: mine, window: 7d, null: Z, grain: ip, {TEXTS}",
         "an event in the log of a network has no `facility`"),
        (f"agg: distinct, by: device, of: draws, window: 7d, null: Z, grain: device, {TEXTS}",
         "an event in the log of a device has no `device`"),
        (f"agg: count, of: draws, window: 7d, null: H, grain: device, {TEXTS}",
         "a device is not as old as the customer's line"),
        (f"agg: days_over, of: draws, repaid: draws, least: 1, window: 7d, null: Z, grain: device, {TEXTS}",
         "`days_over` looks at a line's balance or terms, which a device does not have"),
        (f"agg: open_loans, of: draws, against: customer.outstanding, window: 7d, null: Z, delay: 1d, {TEXTS}",
         "`open_loans` looks at the line as it stands now"),
        (f"agg: coverage, window: 7d, null: Z, grain: loan, {TEXTS}", "`coverage` has no grain `loan`"),
        (f"agg: coverage, window: 7d, null: Z, delay: 1d, {TEXTS}", "`coverage` has no delay"),
        (f"agg: share, of: fraud, window: 7d, null: D, {TEXTS}", "`share` needs `among`"),
        (f"agg: share, of: fraud, among: drws, window: 7d, null: D, {TEXTS}", "unknown segment `drws`"),
        (f"agg: share, of: fraud, among: draws, buckets: 3 x 30d, null: D, {TEXTS}", "`share` has no form per bucket"),
    ],
)  # fmt: skip
def test_mistakes_of_grain_and_delay_are_named(row: str, message: str) -> None:
    """Each thing that cannot be had is one diagnostic that says so."""
    assert [found for found, _ in mistakes(f"features: {{a: {{{row}}}}}\n")] == [message]


@pytest.mark.parametrize("key", ["grain: payee", "delay: 1d"])
def test_a_derived_row_has_no_grain(key: str) -> None:
    """A formula may mix grains, so it has none and no delay either."""
    row = f"derived: {{a: {{expr: facility.limit, null: Z, {key}, {TEXTS}}}}}\n"
    assert mistakes(row)[0][0] == f"a derived row has no `{key.split(':')[0]}`"


def test_a_link_row_that_uses_a_customers_names_is_told_what_is_there_instead() -> None:
    """The expectation says that an entity's log carries the customer in place of facility and device."""
    (found,) = mistakes(f"features: {{a: {{agg: count, of: mine, window: 7d, null: Z, grain: payee, {TEXTS}}}}}\n")
    assert "carries the customer in their place" in found[1]


def test_a_loan_is_not_compared_with_a_text() -> None:
    """Nothing names a loan in a segment; the diagnostic says how a row is about one."""
    findings = Findings()
    catalogue_of('segments: {one: loan == "d-1"}\n', findings)
    (found,) = findings.diagnostics
    assert "a loan has no name to compare with" in found.message
    assert "grain: loan" in found.message


MIXED = (
    f"features:\n  own: {{{COUNT}}}\n  dev: {{{COUNT}, grain: device}}\n  pay: {{{COUNT}, grain: payee}}\n"
    f"  net: {{{COUNT}, grain: ip}}\n"
    f"derived:\n  most: {{expr: 'max(own, dev, pay)', null: Z, {TEXTS}}}\n"
)


def test_plans_stand_in_the_order_of_the_logs_and_only_where_they_are_needed() -> None:
    """Link grains come first, the customer's plan last; a log nobody asks for has no plan."""
    findings = Findings()
    catalogue = catalogue_of(SEGMENTS + MIXED, findings)
    assert findings.diagnostics == []
    plans = compile_plans(catalogue, ["most"], SLOTS, len(SLOTS), ZONE)
    assert (plans.names, plans.link_grains, list(plans.plans)) == (
        ("dev", "pay", "own", "most"), ("device", "payee"), ["device", "payee", "customer"],
    )  # fmt: skip
    assert compile_plans(catalogue, ["own"], SLOTS, len(SLOTS), ZONE).link_grains == ()


def test_one_plan_does_not_read_two_logs() -> None:
    """Asking one plan for features of two logs is refused, not answered from the wrong log."""
    catalogue = catalogue_of(SEGMENTS + MIXED, Findings())
    with pytest.raises(ValueError, match="read several logs"):
        compile_plan(catalogue, ["most"], SLOTS, len(SLOTS), ZONE)


def test_a_policy_without_features_still_has_the_customers_plan() -> None:
    """Nothing needed: one plan, no names."""
    plans = compile_plans(catalogue_of(SEGMENTS + MIXED, Findings()), [], SLOTS, len(SLOTS), ZONE)
    assert (plans.names, list(plans.plans)) == ((), ["customer"])
    assert np.isfinite(plans.first_slot)

"""A plan computes what is asked for and what that needs, whatever the log's size and flags."""

from __future__ import annotations

import math

import numpy as np
from cases import random_case
from kernel_runner import SLOTS, catalogue_of, computed, customer_names, inputs_of, log_of, row_of, shipped_catalogue

from decision_service.core.event import words_of
from decision_service.core.features.plan import FeaturePlan, compile_plan
from decision_service.core.source import Findings
from decision_service.core.zone import zone_named

ZONE = zone_named("Asia/Shanghai")


def plan_for(*names: str) -> FeaturePlan:
    """A plan for some shipped features."""
    return compile_plan(shipped_catalogue(), names, SLOTS, len(SLOTS), ZONE)


def test_only_what_is_needed_is_planned() -> None:
    """A ratio brings its two parts and nothing else; a bucket brings its whole row."""
    assert plan_for("vol_fail_rate_7d").names == ("vol_fail_cnt_7d", "vol_req_cnt_7d", "vol_fail_rate_7d")
    assert set(plan_for("trd_amt_mom").names) == {*(f"b_m{k}" for k in range(12)), "trd_amt_mom"}


def test_small_plans_agree_with_the_full_one() -> None:
    """Each feature has the same bits in a plan of its own as in the plan of all."""
    case = random_case(5, 80)
    whole = computed(case)
    for name in customer_names()[::23]:
        assert computed(case, plan_for(name))[name] == whole[name]


def test_no_feature_needs_no_slot() -> None:
    """A policy without features still has a plan, which writes nothing."""
    assert computed(random_case(1, 10), plan_for()) == {}


def test_inputs_stay_as_they_were_and_calls_do_not_leak() -> None:
    """Computing twice, with another customer between, gives the same bits and leaves the inputs alone."""
    plan = plan_for("vol_ok_amt_30d", "dsp_amt_iqr_90d", "con_payee_hhi_90d", "vol_max_day_amt_30d")
    one, other = random_case(11, 90), random_case(12, 200)
    first = computed(one, plan)
    computed(other, plan)
    assert computed(one, plan) == first


def test_writable_and_read_only_logs_and_longer_ones() -> None:
    """The store's read-only bytes, a writable copy, and a log larger than the buffers are all accepted."""
    plan = plan_for("vol_req_cnt_365d")
    case = random_case(4, 1_500)
    numbers = np.full(len(SLOTS) + len(plan.names), math.nan)
    for name, value in inputs_of(case).items():
        numbers[SLOTS[name]] = value
    frozen = words_of(log_of(case))
    plan.compute(frozen, row_of(case), numbers)
    before = numbers.tobytes()
    plan.compute(frozen.copy(), row_of(case), numbers)
    assert numbers.tobytes() == before


def test_segments_are_three_valued() -> None:
    """An event without a device is neither from this device nor from another one."""
    text = (
        "segments: {same: device == request.device_id, other: not device == request.device_id,"
        " unsure: not (device == request.device_id and amount > 0)}\n"
        "features:\n"
        + "".join(
            f"  {name}: {{agg: count, of: {name}, window: life, null: Z, unit: n, en: x, zh: x}}\n"
            for name in ("same", "other", "unsure")
        )
    )
    findings = Findings()
    catalogue = catalogue_of(text, findings)
    assert findings.diagnostics == []
    plan = compile_plan(catalogue, ["same", "other", "unsure"], SLOTS, len(SLOTS), ZONE)
    case = random_case(21, 60)
    case.device = 11
    seen = [e for e in case.events if not e.settles and e.occurred_at_ms <= case.t]
    assert computed(case, plan) == {
        "same": sum(e.device == 11 for e in seen),
        "other": sum(e.device not in (0, 11) for e in seen),
        "unsure": sum(e.device not in (0, 11) or e.amount_minor == 0 for e in seen),
    }


def test_a_new_feature_needs_no_new_machine_code() -> None:
    """A segment with arithmetic, a literal list and a nested condition runs on the kernel already compiled."""
    text = (
        "constants: {odd: [3, 5]}\n"
        "segments:\n"
        '  s: kind in ["drawdown", "purchase"] and (amount * 2 >= request.amount - 1 or local_hour in odd)\n'
        "features:\n  f: {agg: sum, of: s, windows: [90d], null: Z, unit: money, en: x, zh: x}\n"
        'derived:\n  g: {expr: "clip(sqrt(f_90d), 0, 5) if f_90d > 0 else 0", null: Z, unit: n, en: x, zh: x}\n'
    )
    findings = Findings()
    plan = compile_plan(catalogue_of(text, findings), ["g"], SLOTS, len(SLOTS), ZONE)
    assert findings.diagnostics == []
    got = computed(random_case(8, 100), plan)
    assert got["f_90d"] > 0  # type: ignore[operator]
    assert got["g"] == 5


def test_more_group_keys_than_a_stream_holds() -> None:
    """Ten ways to group one segment are split over streams and each counts its own keys."""
    keys = ("counterparty", "device", "facility", "channel", "category", "local_day", "local_hour", "local_dow", "city",
            "first_digit")  # fmt: skip
    text = 'segments: {s: kind == "drawdown"}\nfeatures:\n' + "".join(
        f"  by_{key}: {{agg: distinct, of: s, by: {key}, window: life, null: Z, unit: n, en: x, zh: x}}\n"
        for key in keys
    )
    findings = Findings()
    catalogue = catalogue_of(text, findings)
    assert findings.diagnostics == []
    case = random_case(31, 120)
    together = computed(case, compile_plan(catalogue, [f"by_{k}" for k in keys], SLOTS, len(SLOTS), ZONE))
    for key in keys:
        alone = computed(case, compile_plan(catalogue, [f"by_{key}"], SLOTS, len(SLOTS), ZONE))
        assert alone[f"by_{key}"] == together[f"by_{key}"]
        assert alone[f"by_{key}"] is not None

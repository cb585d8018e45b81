"""Properties that hold whatever the history: scaling, order, additivity, monotony, shifts."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from cases import random_case
from kernel_runner import computed, shipped_catalogue
from oracle import Case, D

SEEDS = range(8)
WINDOWS = ("10m", "1h", "24h", "7d", "30d", "90d", "180d", "365d")
ORDERLESS = ("vol_req", "vol_ok", "vol_fail_cnt", "vol_fail_amt", "vol_odd", "con_amt", "con_payee", "dsp_amt")
CALENDAR = ("tod_", "dsp_dow", "rpy_", "facility")


def near(a: float | None, b: float | None) -> bool:
    """Equal up to rounding, or both null."""
    return a is b if a is None or b is None else a == pytest.approx(b, rel=1e-9, abs=1e-9)


def scaled(case: Case, k: int) -> Case:
    """The same case with all money k times as large."""
    events = [
        replace(e, amount_minor=e.amount_minor * k, value=e.value * (k if e.kind == 14 else 1)) for e in case.events
    ]
    more = {"limit": case.limit * k, "outstanding": case.outstanding * k, "reserved": case.reserved * k}
    inputs = case.inputs | {"customer.outstanding": case.inputs["customer.outstanding"] * k}
    return replace(case, events=events, amount=case.amount * k, inputs=inputs, **more)


@pytest.mark.parametrize("seed", SEEDS)
def test_money_scales_and_ratios_do_not(seed: int) -> None:
    """Three times the money: money features of V, C, D and R triple, their ratios and counts stay."""
    case = random_case(seed, 60)
    before, after = computed(case), computed(scaled(case, 3))
    for spec in shipped_catalogue().specs:
        if not spec.name.startswith(("vol_", "con_", "dsp_", "trd_", "utl_")) or before[spec.name] is None:
            continue
        factor = 3 if spec.unit == "money" else 1
        assert near(after[spec.name], before[spec.name] * factor), spec.name  # type: ignore[operator]


@pytest.mark.fault("D12")
@pytest.mark.parametrize("seed", SEEDS)
def test_recorded_order_does_not_matter_to_sets(seed: int) -> None:
    """V, C and D rows over sets of events are the same however the log was written."""
    case = random_case(seed, 60)
    settlements = [e for e in case.events if e.settles]
    others = [e for e in case.events if not e.settles]
    random.Random(seed).shuffle(others)
    before, after = computed(case), computed(replace(case, events=others + settlements))
    for name, value in before.items():
        if name.startswith(ORDERLESS):
            assert near(after[name], value), name


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_and_sums_add_over_disjoint_parts(seed: int) -> None:
    """A log split in two gives counts and sums that add up to the whole's."""
    case = random_case(seed, 60)
    case = replace(case, events=[e for e in case.events if not e.settles])
    left, right = (computed(replace(case, events=case.events[part::2])) for part in (0, 1))
    whole = computed(case)
    for window in WINDOWS:
        for name in (f"vol_req_cnt_{window}", f"vol_ok_amt_{window}", f"vol_fail_amt_{window}"):
            assert near(whole[name], left[name] + right[name])  # type: ignore[operator]


@pytest.mark.parametrize("seed", SEEDS)
def test_one_more_event_lowers_no_count(seed: int) -> None:
    """Counts of requests, draws, days and payees only grow."""
    case = random_case(seed, 60)
    fewer, more = computed(replace(case, events=case.events[:-1])), computed(case)
    if case.events[-1].settles:
        pytest.skip("a settlement changes an earlier draw; it is no event of its own")
    for name in fewer:
        if name.startswith(("vol_req_cnt", "vol_ok_cnt", "vol_active_days", "con_payee_cnt", "vol_odd_cnt")):
            assert more[name] >= fewer[name], name  # type: ignore[operator]


@pytest.mark.parametrize("seed", SEEDS)
def test_coefficient_of_variation_is_std_over_mean(seed: int) -> None:
    """D01 = D03 / C01 wherever both are known, bit for bit."""
    got = computed(random_case(seed, 60))
    for window in WINDOWS[3:]:
        cv, std, mean = (got[f"{name}_{window}"] for name in ("dsp_amt_cv", "dsp_amt_std", "con_amt_mean"))
        assert cv is None or cv == std / mean  # type: ignore[operator]


@pytest.mark.parametrize("n", [2, 3, 7, 60])
@pytest.mark.parametrize("amount", [1, 333, 9_999_999, 10**14 // 7])
def test_equal_amounts_have_no_deviation(n: int, amount: int) -> None:
    """C04 = 1 implies D03 = 0 exactly."""
    case = random_case(n, 0)
    drawn = [replace(_draw(case), key=i + 1, occurred_at_ms=case.t - i, amount_minor=amount) for i in range(n)]
    got = computed(replace(case, events=drawn))
    assert got["con_mode_share_30d"] == 1
    assert got["dsp_amt_std_30d"] == 0


def _draw(case: Case):  # type: ignore[no-untyped-def]
    from decision_service.core.event import Event

    return Event(1, 1, 1, case.t, 100, facility=case.facility)


@pytest.mark.fault("D15")
@pytest.mark.parametrize("seed", SEEDS)
def test_whole_days_later_nothing_changes_but_the_calendar(seed: int) -> None:
    """Everything moved by 14 days, in a zone without daylight saving: only calendar rows may differ."""
    case = random_case(seed, 60)
    shift = 14 * D
    moved = [replace(e, occurred_at_ms=e.occurred_at_ms + shift) for e in case.events]
    trimmed = case.trimmed_through if case.trimmed_through < -(2**61) else case.trimmed_through + shift
    later = replace(case, events=moved, t=case.t + shift, granted=case.granted + shift, trimmed_through=trimmed)
    before, after = computed(case), computed(later)
    assert [name for name in before if not name.startswith(CALENDAR) and before[name] != after[name]] == []

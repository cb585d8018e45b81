"""Window edges to the millisecond, null codes, and the traps met in public feature libraries."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases import ME, T
from kernel_runner import computed
from oracle import Case, D, H, M

from decision_service.core.event import KINDS, Event, Geo

_WINDOWS = {"10m": 10 * M, "1h": H, "24h": 24 * H, "7d": 7 * D, "30d": 30 * D, "365d": 365 * D}


def draw(at: int, amount: int = 10_000, *, key: int = 0, status: int = 1, **more: object) -> Event:
    """A drawdown of `amount` minor units."""
    return Event(key or at, KINDS["drawdown"], status, at, amount, facility=ME, **more)  # type: ignore[arg-type]


def case_of(*events: Event, **more: object) -> Case:
    """A case at T on a line granted long ago."""
    base: dict[str, object] = {"granted": T - 900 * D, "facility": ME, "amount": 20_000}
    case = Case(list(events), T, **(base | more))  # type: ignore[arg-type]
    case.inputs["facility.age_d"] = (T - case.granted) / D
    return case


@pytest.mark.fault("D15")
@pytest.mark.parametrize(("label", "width"), _WINDOWS.items())
def test_windows_exclude_their_far_edge(label: str, width: int) -> None:
    """An event exactly W old is out; one millisecond younger is in."""
    assert computed(case_of(draw(T - width)))[f"vol_ok_cnt_{label}"] == 0
    assert computed(case_of(draw(T - width + 1)))[f"vol_ok_cnt_{label}"] == 1


@pytest.mark.fault("D12")
def test_same_millisecond_is_inside_and_the_future_is_not() -> None:
    """An event of the same millisecond recorded earlier counts; one dated later does not."""
    assert computed(case_of(draw(T), draw(T + 1)))["vol_ok_cnt_10m"] == 1


@pytest.mark.fault("D12")
def test_two_requests_in_one_second_count_twice() -> None:
    """A sliding window is not keyed by the second."""
    got = computed(case_of(draw(T - 5, key=1), draw(T - 5, key=2), draw(T - 900, key=3)))
    assert got["vel_req_cnt_1m"] == 4
    assert got["vel_burst10"] == 4


@pytest.mark.fault("D15")
def test_bucket_edges_belong_to_the_older_bucket() -> None:
    """An event exactly 30 days old is in bucket 1, not in bucket 0."""
    got = computed(case_of(draw(T - 30 * D), draw(T - 30 * D + 1)))
    assert (got["c_m0"], got["c_m1"]) == (1, 1)


def test_std_is_no_variance_and_cv_divides_it_by_the_mean() -> None:
    """100 and 300 yuan: std 100, cv 0.5."""
    got = computed(case_of(draw(T - H, 10_000), draw(T - 2 * H, 30_000)))
    assert got["dsp_amt_std_30d"] == 100
    assert got["dsp_amt_cv_30d"] == 0.5


def test_periods_do_not_overlap() -> None:
    """Period over previous period compares disjoint months."""
    got = computed(case_of(draw(T - 10 * D, 40_000), draw(T - 40 * D, 10_000)))
    assert got["trd_ppratio_1m"] == 4


def test_strictly_rising_months_can_be_one() -> None:
    """Three months of 100, 200 and 300 yuan rise strictly."""
    got = computed(case_of(draw(T - 70 * D, 10_000), draw(T - 40 * D, 20_000), draw(T - 10 * D, 30_000)))
    assert got["trd_m_strict_up_3m"] == 1
    assert got["trd_m_strict_down_3m"] == 0


def test_never_is_null_and_not_zero() -> None:
    """Without a draw, months since the largest and seconds since the last are unknown."""
    got = computed(case_of())
    assert got["trd_months_since_max"] is None
    assert got["vol_last_ok_gap_s"] is None


def test_surge_from_nothing_is_flagged_and_never_huge() -> None:
    """v/0 is null and its companion is 1; 0/0 is null and its companion is 0."""
    got = computed(case_of(draw(T - D)))
    assert (got["trd_amt_mom"], got["trd_amt_mom__new"]) == (None, 1)
    got = computed(case_of())
    assert (got["trd_amt_mom"], got["trd_amt_mom__new"]) == (None, 0)


def test_young_lines_have_no_trend() -> None:
    """H90: one millisecond short of 90 days is null, 90 days is not."""
    young = case_of(draw(T - D), granted=T - 90 * D + 1)
    assert computed(young)["trd_amt_1m_over_3mavg"] is None
    assert computed(replace(young, granted=T - 90 * D))["trd_amt_1m_over_3mavg"] == pytest.approx(3)


def test_settlement_decides_what_became_of_a_draw() -> None:
    """An approved draw that failed later is a failure, and its settlement is no request."""
    settlement = Event(99, KINDS["drawdown"], 4, T - H, settles=7)
    got = computed(case_of(draw(T - 2 * H, key=7, status=2), settlement))
    assert (got["vol_req_cnt_24h"], got["vol_ok_cnt_24h"], got["vol_fail_cnt_24h"]) == (1, 0, 1)


def test_settlement_dated_later_is_not_seen() -> None:
    """At t the draw is still approved when its failure is dated after t."""
    settlement = Event(99, KINDS["drawdown"], 4, T + 1, settles=7)
    assert computed(case_of(draw(T - H, key=7, status=2), settlement))["vol_ok_cnt_24h"] == 1


def test_retention_is_reported() -> None:
    """A window that reaches past what was trimmed says so and gives the share it covers."""
    got = computed(case_of(trimmed_through=T - 45 * D))
    assert (got["hist_cov_30d"], got["hist_truncated_30d"]) == (1, 0)
    assert (got["hist_cov_90d"], got["hist_truncated_90d"]) == (0.5, 1)


def test_window_that_ends_exactly_at_the_trim_is_whole() -> None:
    """The window (t - W, t] loses nothing when the last trimmed event is exactly W old."""
    got = computed(case_of(trimmed_through=T - 30 * D))
    assert (got["hist_cov_30d"], got["hist_truncated_30d"]) == (1, 0)


def test_unknown_device_is_no_device() -> None:
    """Without a device id, device features are null and the distinct count ignores absent ones."""
    got = computed(case_of(draw(T - H), device=0))
    assert (got["dev_is_new"], got["dev_age_d"], got["vel_cust_dev_cnt_7d"]) == (None, None, 0)


def test_impossible_journey_needs_two_good_fixes() -> None:
    """Beijing an hour after Shanghai is impossible with GPS, and unproven with a coarse fix."""
    here = (39_900_000, 116_400_000, 3)
    far = draw(T - H, geo=Geo(31_230_000, 121_470_000, 3))
    coarse = draw(T - H, geo=Geo(31_230_000, 121_470_000, 12))
    assert computed(case_of(far, place=here))["geo_impossible"] == 1
    assert computed(case_of(coarse, place=here))["geo_impossible"] == 0
    assert computed(case_of(far))["geo_impossible"] is None


@pytest.mark.fault("D15")
def test_local_hours_follow_daylight_saving() -> None:
    """07:30 UTC is 02:30 in New York in winter (odd) and 03:30 in summer (odd); 06:30 is 01:30 and 02:30."""
    winter, summer = 1_768_462_200_000, 1_784_100_600_000  # 2026-01-15 07:30Z and 2026-07-15 07:30Z
    for t, expected in ((winter, 1), (winter - H, 0), (summer, 1), (summer - H, 1), (summer - 2 * H, 0)):
        case = Case([draw(t)], t + M, 20_000, "America/New_York", facility=ME, granted=t - D)
        case.inputs["facility.age_d"] = 1.0
        assert computed(case)["vol_odd_cnt_24h"] == expected

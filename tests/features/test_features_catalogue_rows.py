"""Every row of the catalogue's families U, Y and K is declared, under its name, with all its windows."""

from __future__ import annotations

import pytest
from kernel_runner import ATTRIBUTES, shipped_catalogue

# id: names, `|` between them, windows in brackets
ROWS = """
U01: utl_now
U02: utl_after
U03: utl_max[30d 90d 180d 365d] | utl_avg[30d 90d 180d 365d] | utl_min[30d 90d 180d 365d]
U04: utl_inc_months[3m 6m 12m]
U05: utl_delta[30d 90d]
U06: utl_slope[30d 90d]
U07: utl_days_over90[30d 90d 180d]
U08: utl_streak90
U09: utl_vol[90d]
U10: utl_avail
U11: utl_jump7[90d]
U12: utl_all
U13: utl_limit_age_d | utl_limit_up_cnt[365d] | utl_limit_down_cnt[365d]
U14: utl_overlimit_cnt[365d]
U15: utl_revolve_share[90d]
U16: utl_peak_gap[365d]
Y01: rpy_dpd_now
Y02: rpy_dpd_max[90d 180d 365d]
Y03: rpy_od_cnt[3m 6m 12m]
Y04: rpy_m1_cnt[1m 3m 6m 12m] | rpy_m2_cnt[1m 3m 6m 12m] | rpy_m3_cnt[1m 3m 6m 12m]
Y05: rpy_ever30[12m 24m]
Y06: rpy_months_since_od[24m]
Y07: rpy_consec_od
Y08: rpy_ratio_mean[3m 6m 12m] | rpy_ratio_min[3m 6m 12m] | rpy_ratio_max[3m 6m 12m]
Y09: rpy_minpay_cnt[6m 12m]
Y10: rpy_days_late_avg[6m 12m]
Y11: rpy_late_trend[6m 12m]
Y12: rpy_early_cnt[12m]
Y13: rpy_prepay_ratio[12m]
Y14: rpy_autodebit_fail[30d 90d]
Y15: rpy_partial_cnt[90d]
Y16: rpy_third_party_share[90d]
Y17: rpy_bounced_cnt[90d]
Y18: rpy_due30_amt
Y19: rpy_due_over_inflow
Y20: rpy_pre_due7_inflow
Y21: rpy_dti
Y22: rpy_income_drop | rpy_income_drop_hit
Y23: rpy_salary_missing[6m]
Y24: rpy_od_amt_share
Y25: rpy_forborne
Y26: rpy_clean_months
Y27: rpy_cash_share[90d]
K01: mkt_never_drawn
K02: mkt_silent_d
K03: mkt_offer_resp[180d]
K04: mkt_touch_cnt[7d 30d]
K05: chn_balance_decay
K06: chn_full_payoff[90d]
K07: chn_freq_drop
K08: chn_elsewhere_up[90d]
K09: chn_rate_gap
K10: chn_complaint_open
K11: chn_limit_headroom_used[6m]
K12: mkt_consent
C20: con_facility_share
R29: trd_util_then_amt
S08: hist_cov[24h 7d 30d 90d 180d 365d 450d 455d 720d]
"""
UNITS = {"utl_avail": "money", "utl_slope_30d": "1/d", "rpy_late_trend_6m": "d/month", "chn_rate_gap": "bps"}


def rows() -> dict[str, list[str]]:
    """The names of every row by its id."""
    found = {}
    for text in ROWS.strip().splitlines():
        row, _, names = text.partition(": ")
        found[row] = [full for name in names.split(" | ") for full in expanded(name)]
    return found


def expanded(name: str) -> list[str]:
    """`a[1d 2d]` as a_1d, a_2d."""
    bare, _, windows = name.rstrip("]").partition("[")
    return [f"{bare}_{w}" for w in windows.split()] or [bare]


@pytest.mark.parametrize(("row", "names"), rows().items())
def test_every_row_is_declared(row: str, names: list[str]) -> None:
    """A row's names are features that analysts see, or declared attributes; each with a meaning."""
    attributes = set(ATTRIBUTES)
    for name in names:
        spec = shipped_catalogue().by_name.get(name)
        assert name in attributes or spec is not None, row
        assert spec is None or (not spec.internal and spec.meaning_en and spec.meaning_zh and spec.null.codes)


def test_no_id_of_the_families_is_left_out() -> None:
    """U01 to U16, Y01 to Y27 and K01 to K12."""
    ids = {f"{family}{k:02}" for family, count in (("U", 16), ("Y", 27), ("K", 12)) for k in range(1, count + 1)}
    assert ids <= rows().keys()


@pytest.mark.parametrize(("name", "unit"), UNITS.items())
def test_units(name: str, unit: str) -> None:
    """Slopes and rate gaps say what they are measured in."""
    assert shipped_catalogue().by_name[name].unit == unit

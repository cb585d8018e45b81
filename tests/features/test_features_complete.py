"""Every row of the feature catalogue is declared, under its name, with exactly its windows.

The table below is the catalogue itself, copied by hand: id, name, windows. `3M` is three months (a suffix `3m` over
rolling 30-day months), `10m` ten minutes. A row of one window carries no suffix; `@` says which window it looks at.
"""

from __future__ import annotations

import re

import pytest
from kernel_runner import ATTRIBUTES, BASE, shipped_catalogue

from decision_service.core.features.catalogue import FeatureSpec
from decision_service.core.features.durations import LIFE_MS, duration_ms
from decision_service.core.features.references import everything_behind

ALL = "10m 1h 24h 7d 30d 90d 180d 365d"
LONG = "7d 30d 90d 180d 365d"
ROWS = f"""
V01 vol_req_cnt {ALL}
V02 vol_req_amt {ALL}
V03 vol_ok_cnt {ALL}
V04 vol_ok_amt {ALL}
V05 vol_fail_cnt {ALL}
V06 vol_fail_amt {ALL}
V07 vol_fail_rate 24h 7d 30d 90d
V08 vol_fail_amt_rate 24h 7d 30d 90d
V09 vol_odd_cnt 24h 7d 30d 90d 180d 365d
V10 vol_odd_amt 24h 7d 30d 90d 180d 365d
V11 vol_risk_decline_cnt 24h 7d 30d 90d
V12 vol_fail_streak @life
V13 vol_active_days {LONG}
V14 vol_active_months 3M 6M 12M
V15 vol_zero_months 3M 6M 12M
V16 vol_max_amt {LONG}
V16 vol_min_amt {LONG}
V17 vol_max_day_amt 30d 90d 365d
V18 vol_max_day_cnt 30d 90d
V19 vol_life_ok_cnt @life
V19 vol_life_ok_amt @life
V20 vol_last_ok_gap_s @life
V21 vol_first_ok_age_d @life
V22 vol_open_loan_cnt
V23 vol_pending_amt
V24 vol_longest_sleep_d @365d
R01 trd_cnt_1m_over_3mavg
R02 trd_amt_1m_over_3mavg
R03 trd_cnt_mom
R04 trd_amt_mom
R05 trd_cnt_3m_over_3to6m
R06 trd_amt_3m_over_3to6m
R07 trd_amt_inc_streak {LONG}
R08 trd_amt_dec_streak {LONG}
R09 trd_amt_inc_maxrun {LONG}
R09 trd_amt_dec_maxrun {LONG}
R10 trd_m_inc_cnt 6M 12M
R11 trd_m_dec_cnt 6M 12M
R12 trd_m_eq_cnt 6M 12M
R13 trd_m_strict_up 3M 6M
R14 trd_m_strict_down 3M 6M
R15 trd_cav_amt 6M 12M
R16 trd_cmm_amt 6M 12M
R17 trd_cur_over_max 6M 12M
R18 trd_cur_over_min 6M 12M
R19 trd_max_rise 6M 12M
R19 trd_max_fall 6M 12M
R20 trd_months_since_max @12M
R21 trd_ppratio 1M 3M 6M
R22 trd_ppdiff 1M 3M 6M
R23 trd_slope_amt 6M 12M
R24 trd_slope_cnt 6M 12M
R25 trd_accel
R26 trd_ewma_ratio @90d
R27 trd_ticket_ratio @30d @90d
R28 trd_gap_ratio @180d
R29 trd_util_then_amt @6M
R30 trd_yoy @90d @365d @455d
C01 con_amt_mean {LONG}
C02 con_cnt_mean_m 3M 6M 12M
C03 con_amt_mode {LONG}
C04 con_mode_share {LONG}
C05 con_amt_p10 30d 90d 180d 365d
C05 con_amt_p25 30d 90d 180d 365d
C05 con_amt_p50 7d 30d 90d 180d 365d
C05 con_amt_p75 30d 90d 180d 365d
C05 con_amt_p90 30d 90d 180d 365d
C06 con_mean_minus_median {LONG}
C07 con_mean_over_median {LONG}
C08 con_skew2 90d 365d
C09 con_trim_mean 90d 365d
C10 con_payee_cnt {LONG}
C11 con_payee_hhi 30d 90d 365d
C12 con_payee_top1 30d 90d
C13 con_new_payee_share @30d
C14 con_month_hhi 6M 12M
C15 con_day_top1 30d 90d
C16 con_top3_share 90d 365d
C17 con_gini 90d 365d
C18 con_channel_top1 @90d
C19 con_purpose_top1 @365d
C19 con_purpose_cnt @365d
C20 con_facility_share
D01 dsp_amt_cv {LONG}
D02 dsp_amt_iqr {LONG}
D03 dsp_amt_std {LONG}
D04 dsp_m_cnt_cv_12m @12M
D05 dsp_m_amt_cv 6M 12M
D06 dsp_qcd 90d 365d
D07 dsp_amt_mad 90d 365d
D08 dsp_amt_range {LONG}
D09 dsp_gap_mean 30d 90d 180d
D09 dsp_gap_min 30d 90d
D10 dsp_gap_cv 90d 180d
D11 dsp_burstiness 90d 180d
D12 dsp_hour_entropy 90d 365d
D13 dsp_dow_entropy 90d 365d
D14 dsp_hour_circ_std 90d 365d
D15 dsp_z_now 90d 365d
D16 dsp_robust_z_now 90d 365d
D17 dsp_x_over_max @365d
D18 dsp_x_pctile @365d
N01 ano_secs_grant_to_now
N02 ano_since_grant_take 10m 1h 24h 72h
N03 ano_fast_full 10m 1h 24h 72h
N04 ano_secs_grant_to_first @life
N05 ano_secs_limitup_to_now @life
N06 ano_limitup_take @72h
N07 vel_req_cnt 1m 5m 10m 1h 24h
N08 vel_amt_over_limit @24h
N09 vel_secs_since_prev_req @48h
N10 vel_burst10 @24h
N11 vel_1h_over_30d @1h @30d
N12 vel_repay_redraw_s @life
N13 vel_redraw_cnt 30d 90d
N14 vel_redraw_ratio @90d
N15 vel_first_after_sleep @life
N16 vel_probe_then_big @1h
N17 vel_dev_cust_cnt 24h 7d 30d
N18 vel_ip_cust_cnt 1h 24h
N19 vel_payee_cust_cnt 24h 7d
N20 vel_cust_dev_cnt 7d 30d
N21 vel_login_fail_cnt 1h 24h
N22 vel_secs_pwdreset_to_now @life
N22 vel_secs_phonechg_to_now @life
N23 vel_decline_retry @24h
P01 amt_is_sens
P02 amt_sens_cnt 1h 24h 7d 30d
P03 amt_sens_share @30d
P04 amt_ends9_share @90d
P05 amt_eq_run @48h
P06 amt_eq_cnt 1h 24h 7d
P07 amt_max_mult 24h 7d 30d
P08 amt_distinct_ratio 30d 90d
P09 amt_below_thr
P09 amt_below_thr_50000
P09 amt_below_thr_200000
P09 amt_below_thr_300000
P09 amt_below_thr_500000
P09 amt_below_thr_which
P10 amt_below_thr_cnt_50000 24h 7d 30d
P10 amt_below_thr_cnt_200000 24h 7d 30d
P10 amt_below_thr_cnt_300000 24h 7d 30d
P10 amt_below_thr_cnt_500000 24h 7d 30d
P11 amt_split_sum_50000 24h 72h
P11 amt_split_sum_200000 24h 72h
P11 amt_split_sum_300000 24h 72h
P11 amt_split_sum_500000 24h 72h
P12 amt_split_hit_50000 24h 72h
P12 amt_split_hit_200000 24h 72h
P12 amt_split_hit_300000 24h 72h
P12 amt_split_hit_500000 24h 72h
P13 amt_is_round
P13 amt_is_round_100
P13 amt_is_round_10000
P14 amt_round_share 30d 90d
P15 amt_has_cents
P16 amt_over_avail
P17 amt_is_all
P18 amt_escalation @30d
P19 amt_benford_mad 365d
P20 amt_over_income
T01 tod_is_odd
T02 tod_odd_share 30d 90d
T03 tod_odd_amt_share 30d 90d
T04 tod_first_odd @365d
T05 tod_hour_prob @365d
T06 tod_dow_prob @365d
T07 tod_weekend_share @90d
T08 tod_is_holiday
T09 tod_days_to_due
T10 tod_days_from_payday @45d
T11 tod_draw_on_due @90d
G01 geo_km_prev @48h
G02 geo_secs_prev @48h
G03 geo_kmh @48h
G04 geo_impossible @48h
G05 geo_km_home @90d
G06 geo_new_city @365d
G07 geo_city_cnt 1d 7d 30d
G08 geo_ip_gps_mismatch
G09 geo_overseas
G09 geo_high_risk_area
G10 geo_rg 30d
G11 dev_is_new @life
G12 dev_age_d @life
G13 dev_emulator
G13 dev_rooted
G13 dev_vpn
G13 dev_hook
G14 dev_secs_bind_to_now @life
G15 dev_blacklist_deg 365d
U01 utl_now
U02 utl_after
U03 utl_max 30d 90d 180d 365d
U03 utl_avg 30d 90d 180d 365d
U03 utl_min 30d 90d 180d 365d
U04 utl_inc_months 3M 6M 12M
U05 utl_delta 30d 90d
U06 utl_slope 30d 90d
U07 utl_days_over90 30d 90d 180d
U08 utl_streak90
U09 utl_vol 90d
U10 utl_avail
U11 utl_jump7 90d
U12 utl_all
U13 utl_limit_age_d
U13 utl_limit_up_cnt 365d
U13 utl_limit_down_cnt 365d
U14 utl_overlimit_cnt 365d
U15 utl_revolve_share 90d
U16 utl_peak_gap 365d
Y01 rpy_dpd_now
Y02 rpy_dpd_max 90d 180d 365d
Y03 rpy_od_cnt 3M 6M 12M
Y04 rpy_m1_cnt 1M 3M 6M 12M
Y04 rpy_m2_cnt 1M 3M 6M 12M
Y04 rpy_m3_cnt 1M 3M 6M 12M
Y05 rpy_ever30 12M 24M
Y06 rpy_months_since_od 24M
Y07 rpy_consec_od
Y08 rpy_ratio_mean 3M 6M 12M
Y08 rpy_ratio_min 3M 6M 12M
Y08 rpy_ratio_max 3M 6M 12M
Y09 rpy_minpay_cnt 6M 12M
Y10 rpy_days_late_avg 6M 12M
Y11 rpy_late_trend 6M 12M
Y12 rpy_early_cnt 12M
Y13 rpy_prepay_ratio 12M
Y14 rpy_autodebit_fail 30d 90d
Y15 rpy_partial_cnt 90d
Y16 rpy_third_party_share 90d
Y17 rpy_bounced_cnt 90d
Y18 rpy_due30_amt
Y19 rpy_due_over_inflow
Y20 rpy_pre_due7_inflow
Y21 rpy_dti
Y22 rpy_income_drop
Y22 rpy_income_drop_hit
Y23 rpy_salary_missing 6M
Y24 rpy_od_amt_share
Y25 rpy_forborne
Y26 rpy_clean_months
Y27 rpy_cash_share 90d
X01 ext_inq_cnt 7d 30d 90d 180d
X02 ext_inq_delta
X03 ext_new_acct_cnt 90d
X04 ext_debt_delta 90d
X05 ext_lender_cnt 30d 90d
X06 ext_od_elsewhere
X07 ext_active_elsewhere 30d
X08 ext_litigation
X08 ext_executed
X08 ext_dishonest
X09 ext_biz_change 90d
X10 ext_sentiment_neg 30d
X11 ext_collateral_seized
X12 ext_ltv
X13 prf_contact_chg_cnt 30d 90d 180d
X14 prf_contact_unreachable 30d
X15 prf_emerg_overlap 365d
X16 ext_social_gap 6M
X17 ext_watch_hit
X17 ext_watch_list
X18 app_active_days 30d
X18 app_login_chg 30d @90d
X19 csr_complaint_cnt 90d
X20 csr_voice_risk 30d
F01 use_restricted_hit
F02 use_restricted_share 72h 30d
F03 use_secs_to_out 72h
F04 use_loop_back 7d
F05 use_purpose_mismatch
F06 use_entrust_required
F07 use_evidence_missing
F08 use_same_payee_multi_cust 7d
S01 scr_b_now
S02 scr_b_delta 30d 90d
S03 scr_b_min 90d
S04 scr_b_low_months 6M
S05 scr_loan_level
S06 scr_fraud
S07 mob_months
S08 hist_cov 24h 7d 30d 90d 180d 365d 450d 455d 720d
S09 feat_age_s_drawdown @life
S09 feat_age_s_repayment @life
S09 feat_age_s_login @life
S09 feat_age_s_bureau
S10 src_bureau_ok
K01 mkt_never_drawn @life
K02 mkt_silent_d @life
K03 mkt_offer_resp 180d
K04 mkt_touch_cnt 7d 30d
K05 chn_balance_decay
K06 chn_full_payoff 90d
K07 chn_freq_drop
K08 chn_elsewhere_up 90d
K09 chn_rate_gap
K10 chn_complaint_open
K11 chn_limit_headroom_used 6M
K12 mkt_consent
"""
COUNTS = {"V": 24, "R": 30, "C": 20, "D": 18, "N": 23, "P": 20, "T": 11, "G": 15, "U": 16, "Y": 27, "X": 20, "F": 8,
          "S": 10, "K": 12}  # fmt: skip
LINES = [line.split() for line in ROWS.split("\n") if line]
MONTH_MS = 30 * 86_400_000


def shown() -> dict[str, FeatureSpec]:
    """The features analysts see."""
    return {s.name: s for s in shipped_catalogue().specs if not s.internal and not s.surge_of}


def names_of(stem: str, windows: list[str]) -> dict[str, str]:
    """Declared name -> window, of one line of the table."""
    several = [w for w in windows if not w.startswith("@")]
    return {f"{stem}_{w.lower()}": w for w in several} or {stem: ""}


def length_ms(window: str) -> int:
    """Milliseconds of `3M`, `10m`, `7d` or `life`."""
    return int(window[:-1]) * MONTH_MS if window.endswith("M") else duration_ms(window) or 0


def windows_behind(name: str) -> set[int]:
    """Lengths of everything the feature looks at, in ms; months count as 30 days."""
    catalogue = shipped_catalogue()
    found: set[int] = set()
    for part in everything_behind([name], catalogue) & set(catalogue.by_name):
        variant = catalogue.by_name[part].variant
        found |= {variant.window_ms, variant.months * MONTH_MS}
    return found


def test_no_row_is_forgotten() -> None:
    """The table holds every id of every family."""
    ids = [row_id for row_id, *_ in LINES]
    assert {f: len({i for i in ids if i[0] == f}) for f in COUNTS} == COUNTS
    assert set(ids) == {f"{family}{k:02}" for family, count in COUNTS.items() for k in range(1, count + 1)}


@pytest.mark.parametrize(("row_id", "stem", "windows"), [(i, stem, windows) for i, stem, *windows in LINES])
def test_the_row_is_declared(row_id: str, stem: str, windows: list[str]) -> None:
    """Under its name and windows, as a feature, an attribute or a fact about a source, and with the window it says."""
    declared = shown()
    for name, window in names_of(stem, windows).items():
        assert name in declared or name in BASE, f"{row_id}: {name}"
        spec = declared.get(name)
        if window and spec is not None and (spec.variant.window_ms or spec.variant.months):
            assert length_ms(window) in windows_behind(name), name
    for window in windows:
        if window.startswith("@"):
            expected = LIFE_MS if window == "@life" else length_ms(window[1:])
            name = next(iter(names_of(stem, windows)))
            assert expected in windows_behind(name), f"{row_id}: {name} does not look at {window}"


def test_no_row_has_other_windows() -> None:
    """No declared name is a row of the table with a window the table does not give it."""
    wanted = {name for _, stem, *windows in LINES for name in names_of(stem, windows)}
    stems = {stem for _, stem, *_ in LINES}
    extra = []
    for name in {*shown(), *ATTRIBUTES} - wanted:
        match = re.fullmatch(r"(.+)_\d+[mhd]", name)
        if name in stems or (match and match[1] in stems):
            extra.append(name)
    assert sorted(extra) == []


def test_every_row_is_explained() -> None:
    """Every feature and attribute says in English and Chinese what it is, its unit and when it is null."""
    for spec in shown().values():
        assert spec.meaning_en and spec.meaning_zh and spec.unit and spec.null.codes, spec.name  # noqa: PT018
    for name, attribute in ATTRIBUTES.items():
        assert attribute.spec.meaning and attribute.meaning_zh and attribute.ttl_ms > 0, name  # noqa: PT018

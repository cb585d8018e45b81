"""Families U, Y and K: the kernel equals the definition, to the millisecond and across changes of the clock."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cases import ME, OTHER
from credit_cases import AUTUMN, SPRING, ZONES, line_case, line_cases
from definition import features
from hypothesis import given, settings
from kernel_runner import SLOTS, catalogue_of, computed, differences, shipped_catalogue
from oracle import Case, D, H

from decision_service.core.event import KINDS, Event, code_key
from decision_service.core.features.plan import compile_plan
from decision_service.core.source import Findings
from decision_service.core.zone import zone_named

NAN = float("nan")
FAMILIES = ("utl_", "rpy_", "mkt_", "chn_")
SIZES = (0, 1, 2, 3, 5, 8, 13, 21, 40, 90)


def noon(zone: str = "Asia/Shanghai", day: str = "2026-09-21") -> int:
    """Local noon of a day, in ms."""
    return round(datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def event(kind: str, at: int, amount: int = 0, value: float = NAN, *, category: str = "", **more: object) -> Event:
    """A booked event of the line; amounts in minor units."""
    base: dict[str, object] = {"status": 1, "facility": ME, "code": code_key(category) if category else 0}
    key = random.Random(f"{kind}{at}{amount}").getrandbits(60)
    return Event(key, KINDS[kind], occurred_at_ms=at, amount_minor=amount, value=value, **(base | more))  # type: ignore[arg-type]


def line(*events: Event, t: int = noon(), zone: str = "Asia/Shanghai", **more: object) -> Case:
    """A line of 1,000.00 granted long ago, nothing outstanding unless said."""
    base: dict[str, object] = {"granted": t - 900 * D, "limit": 100_000, "outstanding": 0, "facility": ME}
    case = Case(list(events), t, 1_000, zone, **(base | more))  # type: ignore[arg-type]
    case.inputs["facility.age_d"] = (t - case.granted) / D
    return case


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("n", SIZES)
def test_credit_rows_equal_their_definition(n: int, zone: str) -> None:
    """Late, out of order, in one millisecond, failed, reversed, on several lines: every row is as defined."""
    for seed in range(5):
        case = line_case(10_000 * n + seed, n, zone=zone)
        assert differences(computed(case), features(case)) == []


@given(line_cases())
@settings(max_examples=80, deadline=None)
def test_credit_rows_equal_their_definition_on_any_history(case: Case) -> None:
    """Hypothesis finds no line on which kernel and definition part, on days of 23 and 25 hours too."""
    assert differences(computed(case), features(case)) == []


# --- days -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("midnight", "hours"), [(SPRING - 2 * H, 23), (AUTUMN - 3 * H, 25)])
def test_a_day_of_the_changing_clock_is_one_day(midnight: int, hours: int) -> None:
    """In Berlin a draw right after midnight of a day of 23 or 25 hours belongs to that day, one before to the last."""
    t = midnight + hours * H + H  # 01:00 of the day after
    for at, days in ((midnight - 1, 3), (midnight, 2), (midnight + hours * H - 1, 2), (midnight + hours * H, 1)):
        case = line(event("drawdown", at, 95_000), t=t, zone="Europe/Berlin", outstanding=95_000)
        assert computed(case)["utl_streak90"] == days
        assert computed(case)["utl_days_over90_30d"] == days


def test_closing_use_is_walked_back_from_now() -> None:
    """Draws and repayments of later days are undone; those of the day itself are in its close."""
    t = noon()
    case = line(event("drawdown", t - 10 * D, 80_000), event("repayment", t - 4 * D, 30_000), outstanding=50_000, t=t)
    got = computed(case)
    assert (got["utl_max_30d"], got["utl_min_30d"]) == (0.8, 0)
    assert got["utl_avg_30d"] == pytest.approx((6 * 0.8 + 5 * 0.5) / 30)
    assert got["utl_jump7_90d"] == pytest.approx(0.8)
    assert got["utl_peak_gap_365d"] == pytest.approx(0.3)


def test_an_earlier_day_has_the_limit_of_that_day() -> None:
    """A limit doubled yesterday halves the use from yesterday on, not before; a failed change changes nothing."""
    t = noon()
    raised = event("limit_change", t - D, 200_000, 1_000.0)
    case = line(raised, event("limit_change", t - 2 * D, 0, 500.0, status=4), outstanding=95_000, limit=200_000, t=t)
    got = computed(case)
    assert (got["utl_max_30d"], got["utl_min_30d"]) == (0.95, 0.475)
    assert (got["utl_days_over90_30d"], got["utl_streak90"]) == (28, 0)
    assert got["utl_delta_30d"] == pytest.approx(-0.475)
    assert (got["utl_limit_age_d"], got["utl_limit_up_cnt_365d"], got["utl_limit_down_cnt_365d"]) == (1, 1, 0)


def test_a_line_has_no_days_before_its_grant() -> None:
    """Granted 4 local days ago: 5 days, enough for a slope; granted 3 days ago: unknown. Windows need their age."""
    t = noon()
    assert computed(line(t=t, granted=t - 4 * D))["utl_slope_30d"] == 0
    assert computed(line(t=t, granted=t - 3 * D))["utl_slope_30d"] is None
    assert computed(line(t=t, granted=t - 30 * D))["utl_max_30d"] == 0
    assert computed(line(t=t, granted=t - 30 * D + 1))["utl_max_30d"] is None
    assert computed(line(t=t, granted=t - 7 * D))["utl_jump7_90d"] == 0
    assert computed(line(t=t, granted=t - 6 * D))["utl_jump7_90d"] is None


def test_over_the_limit_counts_rows_of_days() -> None:
    """Two spells above the limit, the second lasting three days, are two; exactly at the limit is none."""
    t = noon()
    moves = [(20, 110_000), (19, -50_000), (9, 60_000), (6, -120_000), (3, 100_000)]
    events = [event("drawdown" if a > 0 else "repayment", t - d * D, abs(a)) for d, a in moves]
    assert computed(line(*events, outstanding=100_000, t=t))["utl_overlimit_cnt_365d"] == 2


def test_use_exactly_so_long_ago_to_the_millisecond() -> None:
    """A draw 30 days old to the millisecond was used then; one a millisecond younger was not."""
    t = noon()
    for at, change in ((t - 30 * D, 0), (t - 30 * D + 1, 0.5)):
        assert computed(line(event("drawdown", at, 50_000), outstanding=50_000, t=t))["utl_delta_30d"] == change


def test_paid_off_after_three_active_months() -> None:
    """Paid off today after months with a balance; a month without one, or a balance left, is no pay-off."""
    t = noon()
    drawn, paid = event("drawdown", t - 200 * D, 50_000), event("repayment", t - D, 50_000)
    assert computed(line(drawn, paid, t=t))["chn_full_payoff_90d"] == 1
    assert computed(line(drawn, replace(paid, occurred_at_ms=t - 40 * D), t=t))["chn_full_payoff_90d"] == 0
    assert computed(line(drawn, t=t, outstanding=50_000))["chn_full_payoff_90d"] == 0


# --- terms ----------------------------------------------------------------------------------------------------------


def monthly(t: int, *payments: tuple[int, int], dues: int = 3, amount: int = 30_000, least: float = NAN) -> Case:
    """Terms 30 days apart, the newest 10 days old, and payments `(days before t, amount)`."""
    events = [event("due", t - (10 + 30 * k) * D, amount, least) for k in range(dues)]
    return line(*events, *(event("repayment", t - d * D, a) for d, a in payments), t=t)


def test_days_late_run_from_the_due_day_to_the_day_it_is_covered() -> None:
    """In time on the day itself, five days late, and ten days late so far."""
    got = computed(monthly(noon(), (70, 30_000), (35, 30_000)))
    assert got["rpy_days_late_avg_6m"] == pytest.approx((0 + 5 + 10) / 3)
    assert got["rpy_late_trend_6m"] == pytest.approx(5)
    assert (got["rpy_consec_od"], got["rpy_clean_months"]) == (1, 0)


def test_the_end_of_the_due_day_is_in_time_and_the_next_midnight_is_late() -> None:
    """The last millisecond of the local due day covers it in time; one later is one day late."""
    t = noon()
    midnight = t - 10 * D + 12 * H
    for at, late in ((midnight - 1, 0), (midnight, 1)):
        case = line(event("due", t - 10 * D, 30_000), event("repayment", at, 30_000), t=t)
        assert computed(case)["rpy_days_late_avg_6m"] == late
        assert computed(case)["rpy_clean_months"] == 1 - late


def test_repayments_cover_the_oldest_term_first() -> None:
    """One payment of two terms' amount, after both fell due, covers the two older of three."""
    got = computed(monthly(noon(), (5, 60_000)))
    assert (got["rpy_consec_od"], got["rpy_days_late_avg_6m"]) == (1, pytest.approx((65 + 35 + 10) / 3))


def test_what_is_paid_before_it_falls_due_is_early_and_is_not_carried_further() -> None:
    """Two terms' money paid a week early settles the next term early, not the one after."""
    got = computed(monthly(noon(), (47, 60_000), dues=2))
    assert (got["rpy_early_cnt_12m"], got["rpy_consec_od"]) == (1, 1)
    assert got["rpy_prepay_ratio_12m"] == 1


def test_a_term_due_today_is_judged_when_it_is_covered_or_the_day_is_over() -> None:
    """Still open today it is in no statistic; covered today it is a clean one; tomorrow it is overdue."""
    t = noon()
    due = event("due", t - H, 30_000)
    got = computed(line(due, t=t))
    assert (got["rpy_ratio_mean_3m"], got["rpy_consec_od"], got["rpy_clean_months"]) == (None, 0, 0)
    got = computed(line(due, event("repayment", t, 30_000), t=t))
    assert (got["rpy_ratio_mean_3m"], got["rpy_consec_od"], got["rpy_clean_months"]) == (1, 0, 1)
    assert computed(line(due, t=t + 12 * H))["rpy_consec_od"] == 1


def test_dues_of_one_day_are_one_term_and_others_lines_none() -> None:
    """Two amounts due on one local day are paid as one; another line's due is not this line's."""
    t = noon()
    dues = [event("due", t - 10 * D, 10_000), event("due", t - 10 * D + H, 20_000)]
    paid = event("repayment", t - 10 * D, 30_000)
    got = computed(line(*dues, event("due", t - 9 * D, 99, facility=OTHER), paid, t=t))
    assert (got["rpy_clean_months"], got["rpy_ratio_mean_3m"]) == (1, 1)


def test_paying_the_minimum() -> None:
    """5 % above the minimum is paying the minimum, a cent more is not; without a minimum nothing is known."""
    t = noon()
    assert computed(monthly(t, (10, 10_500), dues=1, least=100.0))["rpy_minpay_cnt_6m"] == 1
    assert computed(monthly(t, (10, 10_501), dues=1, least=100.0))["rpy_minpay_cnt_6m"] == 0
    assert computed(monthly(t, (10, 10_500), dues=1))["rpy_minpay_cnt_6m"] == 0
    got = computed(monthly(t, (10, 10_500), dues=1, least=100.0))
    assert (got["rpy_partial_cnt_90d"], got["utl_revolve_share_90d"]) == (1, 0.65)


@pytest.mark.parametrize(("age", "known"), [(90 * D - 1, True), (90 * D, False)])
def test_a_term_is_in_the_window_of_its_newest_event(age: int, known: bool) -> None:
    """A term exactly 90 days old is out, one a millisecond younger is in, with all that fell due that day."""
    t = noon()
    case = line(event("due", t - age, 30_000), event("due", t - age - H, 10_000), t=t)
    assert (computed(case)["rpy_ratio_min_3m"] is not None) is known
    assert computed(case)["utl_revolve_share_90d"] == (1 if known else None)


# --- arrears, income, contacts ---------------------------------------------------------------------------------------


def test_a_month_belongs_to_the_bucket_of_its_worst_event() -> None:
    """30 days past due is M1, 31 is M2, 90 is M3 and 91 none; months end exactly 30 days apart."""
    t = noon()
    values = [(D, 30.0), (29 * D, 5.0), (30 * D, 31.0), (60 * D, 90.0), (90 * D, 91.0)]
    got = computed(line(*(event("overdue", t - age, 100, v) for age, v in values), t=t))
    assert [got[f"rpy_m{b}_cnt_6m"] for b in (1, 2, 3)] == [1, 1, 1]
    assert [got[f"rpy_m{b}_cnt_1m"] for b in (1, 2, 3)] == [1, 0, 0]


def test_never_overdue_is_unknown_months_ago() -> None:
    """Null without an overdue event in 24 months, 0 for one today; ever 30 is 0, a true zero."""
    t = noon()
    got = computed(line(t=t))
    assert (got["rpy_months_since_od_24m"], got["rpy_ever30_24m"]) == (None, 0)
    assert computed(line(event("overdue", t, 1, 30.0), t=t))["rpy_months_since_od_24m"] == 0
    old = computed(line(event("overdue", t - 720 * D + 1, 1, 30.0), t=t))
    assert (old["rpy_months_since_od_24m"], old["rpy_ever30_24m"], old["rpy_ever30_12m"]) == (23, 1, 0)
    assert computed(line(event("overdue", t - 720 * D, 1, 30.0), t=t))["rpy_months_since_od_24m"] is None


def test_salary_is_missing_only_where_one_was_seen() -> None:
    """No salary ever seen: the source is missing. One 200 days ago: all six months lack it."""
    t = noon()
    assert computed(line(t=t))["rpy_salary_missing_6m"] is None
    assert computed(line(event("income", t - 200 * D, 1, category="salary"), t=t))["rpy_salary_missing_6m"] == 6
    case = line(event("transfer_in", t - 40 * D, 1, category="salary"), event("income", t, 1, category="gift"), t=t)
    assert computed(case)["rpy_salary_missing_6m"] == 5


def test_elsewhere_up_is_unknown_without_its_source() -> None:
    """Drawing less here counts only with a known rise elsewhere."""
    t = noon()
    case = line(*(event("drawdown", t - d * D, 1) for d in (40, 50)), t=t)
    assert computed(case)["chn_elsewhere_up_90d"] is None
    for delta, expected in ((5.0, 1), (0.0, 0)):
        more = replace(case, inputs=case.inputs | {"ext_active_elsewhere_delta_90d": delta})
        assert computed(more)["chn_elsewhere_up_90d"] == expected


# --- properties -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_ratios_of_the_line_do_not_see_the_currency(seed: int) -> None:
    """Ten times the money: ratios, counts and days stay, money is ten times as much."""
    case = line_case(seed, 40)
    money_values = {KINDS["limit_change"], KINDS["due"]}
    events = [
        replace(e, amount_minor=e.amount_minor * 10, value=e.value * (10 if e.kind in money_values else 1))
        for e in case.events
    ]
    inputs = {k: v * (10 if k.startswith(("customer.", "income", "ext_card", "facility.due")) else 1)
              for k, v in case.inputs.items()}  # fmt: skip
    more = replace(case, events=events, inputs=inputs, amount=case.amount * 10, limit=case.limit * 10,
                   outstanding=case.outstanding * 10, reserved=case.reserved * 10)  # fmt: skip
    before, after = computed(case), computed(more)
    for spec in shipped_catalogue().specs:
        value = before[spec.name]
        if spec.name.startswith(FAMILIES) and value is not None:
            factor = 10 if spec.unit == "money" else 1
            assert after[spec.name] == pytest.approx(value * factor, rel=1e-9, abs=1e-9), spec.name


@pytest.mark.parametrize("seed", range(6))
def test_whole_days_later_the_line_is_the_same(seed: int) -> None:
    """Everything 11 days later, in a zone without daylight saving: not a bit differs."""
    case = line_case(seed, 40)
    moved = [replace(e, occurred_at_ms=e.occurred_at_ms + 11 * D) for e in case.events]
    later = replace(case, events=moved, t=case.t + 11 * D, granted=case.granted + 11 * D)
    before, after = computed(case), computed(later)
    assert [n for n in before if n.startswith(FAMILIES) and before[n] != after[n]] == []


@pytest.mark.parametrize("seed", range(6))
def test_one_more_overdue_event_lowers_no_count_of_arrears(seed: int) -> None:
    """Episodes, worst days and ever-30 only grow, and nothing is longer ago, with every event told one by one."""
    case = line_case(seed, 30)
    rng = random.Random(seed)
    told = [event("overdue", case.t - rng.randrange(0, 360 * D), 100, float(rng.randrange(1, 91))) for _ in range(6)]
    states = [computed(replace(case, events=[*case.events, *told[:n]])) for n in range(7)]
    grow = [n for n in states[0] if n.startswith(("rpy_dpd_max", "rpy_ever30", "rpy_od_cnt"))]
    for fewer, more in pairwise(states):
        assert all(more[name] >= fewer[name] for name in grow)  # type: ignore[operator]
        since, before = more["rpy_months_since_od_24m"], fewer["rpy_months_since_od_24m"]
        assert before is None or since <= before  # type: ignore[operator]
        months = [sum(s[f"rpy_m{b}_cnt_12m"] for b in (1, 2, 3)) for s in (fewer, more)]  # type: ignore[misc]
        assert months[1] >= months[0]


def test_a_grain_of_facility_restricts_days_and_terms_to_the_line() -> None:
    """Rows of grain facility over any line's draws, dues and repayments are those whose segments name the line."""
    segments = (
        'segments: {drawn: kind == "drawdown" and booked, paid: kind == "repayment" and booked, fell: kind == "due",'
        ' lifted: kind == "limit_change" and booked}\n'
    )
    days, grain = "limits: lifted, windows: [90d]", "grain: facility, unit: ratio, en: x, zh: x"
    rows = (
        f"features:\n  use: {{agg: daily_max, of: drawn, repaid: paid, {days}, null: H, {grain}}}\n"
        f"  open: {{agg: terms_open, of: fell, repaid: paid, window: life, null: Z, {grain}}}\n"
    )
    findings = Findings()
    catalogue = catalogue_of(segments + rows, findings)
    assert findings.diagnostics == []
    plan = compile_plan(catalogue, ["use_90d", "open"], SLOTS, len(SLOTS), zone_named("Asia/Shanghai"))
    for seed in range(8):
        case = line_case(seed, 60)
        mine, whole = computed(case, plan), computed(case)
        assert (mine["use_90d"], mine["open"]) == (whole["utl_max_90d"], whole["rpy_consec_od"])


def test_months_of_a_delayed_row_end_where_the_delay_begins() -> None:
    """With a delay of 7 days the newest month is (t - 37 d, t - 7 d]."""
    text = (
        'segments: {late: kind == "overdue"}\nfeatures:\n  m: {agg: worst_months, of: late, value: value, least: 1,'
        " below: 31, windows: [30d, 60d], delay: 7d, null: Z, unit: n, en: x, zh: x}\n"
    )
    findings = Findings()
    catalogue = catalogue_of(text, findings)
    assert findings.diagnostics == []
    plan = compile_plan(catalogue, ["m_30d", "m_60d"], SLOTS, len(SLOTS), zone_named("Asia/Shanghai"))
    t = noon()
    for age, expected in (
        (7 * D - 1, (0, 0)),
        (7 * D, (1, 1)),
        (37 * D - 1, (1, 1)),
        (37 * D, (0, 1)),
        (67 * D, (0, 0)),
    ):
        got = computed(line(event("overdue", t - age, 1, 5.0), t=t), plan)
        assert (got["m_30d"], got["m_60d"]) == expected
    two = line(event("overdue", t - 36 * D, 1, 5.0), event("overdue", t - 38 * D, 1, 5.0), t=t)
    assert computed(two, plan)["m_60d"] == 2


def test_a_plan_of_one_row_agrees_with_the_whole_plan() -> None:
    """Days and terms worked out for one row alone, or after another line's, have the same bits."""
    case, other = line_case(5, 60), line_case(6, 60)
    whole = computed(case)
    for name in ("utl_vol_90d", "utl_inc_months_12m", "utl_days_over90_30d", "rpy_late_trend_12m", "rpy_clean_months"):
        plan = compile_plan(shipped_catalogue(), [name], SLOTS, len(SLOTS), zone_named("Asia/Shanghai"))
        computed(other, plan)
        assert computed(case, plan)[name] == whole[name]


@pytest.mark.slow
def test_credit_rows_equal_their_definition_on_full_logs() -> None:
    """A log at the cap gives the defined values."""
    case = line_case(1, 4_000)
    assert differences(computed(case), features(case)) == []

"""The rows about use of funds, scores, external facts, calendar and place equal their definition."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from cases import ME, T
from cases_use import random_payee_log, random_use_case
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runner import catalogue_of, computed, differences
from oracle import Case, D, H, M, features
from oracle_use import use_features

from decision_service.core.event import KINDS, Event, Geo, code_key
from decision_service.core.links import customer_key, entity_header, link_record
from decision_service.core.source import Findings

ZONES = ("Asia/Shanghai", "America/New_York")
_CHINA = timezone(timedelta(hours=8))


def event(kind: str, at: int, amount: int = 0, *, category: str = "", **more: object) -> Event:
    """An event of `amount` minor units; its key is its instant."""
    more = {"key": at, "status": 1, "facility": ME} | more
    key, status = more.pop("key"), more.pop("status")
    code = code_key(category) if category else 0
    return Event(key, KINDS[kind], status, at, amount, code=code, **more)  # type: ignore[arg-type]


def case_of(*events: Event, t: int = T, **more: object) -> Case:
    """A case on a line granted long ago."""
    base: dict[str, object] = {"granted": t - 900 * D, "facility": ME, "amount": 20_000}
    case = Case(sorted(events, key=lambda e: e.occurred_at_ms), t, **(base | more))  # type: ignore[arg-type]
    case.inputs |= {"facility.age_d": (t - case.granted) / D, "customer.outstanding": 10_000.0}
    return case


def with_payee(case: Case, payee: list[Event] | None) -> dict[str, float | None]:
    """The kernel's values with the payee's log read, or not."""
    if payee is None:
        return computed(case)
    log = entity_header("payee") + b"".join(link_record(e.pack(), customer_key(f"c-{e.key % 3}")) for e in payee)
    return computed(case, links={"payee": log})


def both(case: Case, name: str) -> float | None:
    """The kernel's value, which the definition must share."""
    got, expected = computed(case), use_features(case)
    assert differences(got, {name: expected[name]}) == []
    return got[name]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("n", [0, 1, 2, 4, 9, 25, 60, 200])
def test_kernel_equals_definition(n: int, zone: str) -> None:
    """Late, settled, out of order, with and without attributes: every row is what the oracle says."""
    for seed in range(8):
        case = random_use_case(77 * n + seed, n, zone=zone)
        payee = random_payee_log(seed, case) if seed % 4 else None
        assert differences(with_payee(case, payee), use_features(case, payee) | features(case)) == []


@given(st.integers(0, 10**9), st.integers(0, 60), st.sampled_from(ZONES))
@settings(max_examples=80, deadline=None)
def test_kernel_equals_definition_on_any_seed(seed: int, n: int, zone: str) -> None:
    """Hypothesis finds no history on which kernel and definition part."""
    case = random_use_case(seed, n, zone=zone)
    payee = random_payee_log(seed, case)
    assert differences(with_payee(case, payee), use_features(case, payee)) == []


def test_the_histories_reach_every_row() -> None:
    """Every row is null somewhere and known somewhere, and every flag is 1 somewhere, or the comparison says little."""
    seen: dict[str, set[float | None]] = {}
    for seed in range(100):
        case = random_use_case(seed, 12 + 5 * seed)
        for name, value in use_features(case, random_payee_log(seed, case)).items():
            seen.setdefault(name, set()).add(value)
    never_known = {name for name, values in seen.items() if values == {None}}
    assert never_known == {"feat_age_s_inquiry", "feat_age_s_collateral", "feat_age_s_rate_change",
                           "feat_age_s_label", "feat_age_s_touch"}  # fmt: skip
    for name in (
        "use_restricted_hit",
        "use_purpose_mismatch",
        "use_loop_back_7d",
        "use_entrust_required",
        "geo_ip_gps_mismatch",
        "tod_is_holiday",
    ):
        assert {0.0, 1.0} <= seen[name], name


# --- use of funds ---


@pytest.mark.parametrize(("amount", "after", "expected"), [
    (80_000, 1, 0.001), (80_000, 0, 0.0), (79_999, 1, None), (100_000, 3 * D, None), (100_000, 3 * D - 1, 259_199.999),
])  # fmt: skip
def test_money_gone_at_once(amount: int, after: int, expected: float | None) -> None:
    """Exactly 80 % counts and a cent less does not; the draw is inside (t - 72h, t]."""
    draw = event("drawdown", T - max(after, H), 100_000)
    out = event("transfer_out", draw.occurred_at_ms + after, amount, key=7)
    assert both(case_of(draw, out), "use_secs_to_out_72h") == pytest.approx(expected)


def test_an_outflow_before_the_draw_is_none_of_it() -> None:
    """In the same millisecond the recorded order decides."""
    out, draw = event("purchase", T - H, 100_000, key=1), event("drawdown", T - H, 100_000, key=2)
    assert both(case_of(out, draw), "use_secs_to_out_72h") is None
    assert both(case_of(draw, out), "use_secs_to_out_72h") == 0


@pytest.mark.parametrize(("gap", "party", "category", "expected"), [
    (7 * D - 1, 22, "", 1), (7 * D, 22, "", 0), (M, 23, "", 0), (M, 0, "", 0), (M, 23, "self", 1),
    (M, 0, "related", 1), (7 * D, 22, "self", 0),
])  # fmt: skip
def test_money_that_comes_back(gap: int, party: int, category: str, expected: float) -> None:
    """From the payee, or from the customer's own side, less than seven days after a draw."""
    draw = event("drawdown", T - H - gap, 100_000, counterparty=22)
    back = event("transfer_in", T - H, 5_000, counterparty=party, category=category)
    assert both(case_of(draw, back), "use_loop_back_7d") == expected


def test_no_word_of_incoming_transfers_is_no_word_that_nothing_came_back() -> None:
    """Without any incoming transfer the feed is missing; with an old one it is there."""
    draw = event("drawdown", T - H, 100_000, counterparty=22)
    assert both(case_of(draw), "use_loop_back_7d") is None
    assert both(case_of(event("transfer_in", T - 300 * D, 1), draw), "use_loop_back_7d") == 0


def test_share_of_restricted_uses() -> None:
    """30 of 100 yuan went to crypto; without an outflow it is unknown, and what the source reports goes first."""
    draw, crypto = event("drawdown", T - 2 * H, 10_000), event("purchase", T - H, 3_000, category="crypto")
    assert both(case_of(draw, crypto), "use_restricted_share_72h") == 0.3
    assert both(case_of(draw), "use_restricted_share_72h") is None
    assert computed(case_of(crypto))["use_restricted_share_72h__new"] == 1
    reported = case_of(draw, crypto)
    reported.inputs["payments_restricted_share_72h"] = 0.7
    assert both(reported, "use_restricted_share_72h") == 0.7


@pytest.mark.parametrize(("purpose", "amount", "before", "expected"), [
    ("", 30_000_000, 0, 1), ("", 29_999_999, 0, 0), ("", 15_000_000, 15_000_000, 1), ("business", 30_000_000, 0, 0),
    ("business", 50_000_000, 0, 1), ("travel", 15_000_000, 14_999_999, 0),
])  # fmt: skip
def test_payment_to_the_payee_only(purpose: str, amount: int, before: int, expected: float) -> None:
    """300,000 yuan for consumers, 500,000 for businesses, at once or in parts within a day."""
    earlier = (event("drawdown", T - H, before),) if before else ()
    case = case_of(*earlier, amount=amount, code=code_key(purpose) if purpose else 0)
    assert both(case, "use_entrust_required") == expected


PAYEE = 22


def paid(category: str, age: int = D, *, kind: str = "purchase", status: int = 1) -> Event:
    """Somebody's payment to the payee."""
    return event(kind, T - age, 100, category=category, counterparty=PAYEE, status=status)


@pytest.mark.parametrize(("payee", "reported", "expected"), [
    (None, None, None), ([], None, None), ([paid("")], None, None), ([paid("travel")], None, 0),
    ([paid("travel"), paid("crypto", 365 * D - 1)], None, 1), ([paid("crypto", 365 * D)], None, None),
    ([paid("crypto", status=4)], None, None), ([paid("crypto", kind="transfer_out")], 0.0, 1), ([], 0.0, 0),
    (None, 1.0, 1), ([paid("travel")], 1.0, 1), ([paid("crypto", kind="drawdown")], None, None),
])  # fmt: skip
def test_what_the_payee_deals_in(payee: list[Event] | None, reported: float | None, expected: float | None) -> None:
    """Either source can convict, one is enough to acquit, and silence of both is unknown."""
    case = case_of(party=PAYEE)
    if reported is not None:
        case.inputs["payee_restricted"] = reported
    assert with_payee(case, payee)["use_restricted_hit"] == expected
    assert use_features(case, payee)["use_restricted_hit"] == expected


@pytest.mark.parametrize(("purpose", "trades", "expected"), [
    ("travel", ["hotel"], 0), ("travel", ["hotel", "retail"], 0), ("travel", ["retail"], 1), ("travel", [""], None),
    ("travel", [], None), ("", ["retail"], None), ("consumption", ["retail"], None), ("rent", ["crypto"], 1),
])  # fmt: skip
def test_declared_purpose_and_trade(purpose: str, trades: list[str], expected: float | None) -> None:
    """No outflow to the payee goes with the purpose; a purpose or a payee that says nothing is unknown."""
    case = case_of(party=PAYEE, code=code_key(purpose) if purpose else 0)
    payee = [paid(category) for category in trades]
    assert with_payee(case, payee)["use_purpose_mismatch"] == expected
    assert use_features(case, payee)["use_purpose_mismatch"] == expected


@pytest.mark.parametrize(("age", "about", "expected"), [
    (30 * D, 0, 0), (30 * D + 1, 0, 1), (30 * D + 1, 5, 0), (30 * D + 1, 6, 1), (365 * D - 1, 0, 1), (365 * D, 0, 0),
])  # fmt: skip
def test_evidence_of_use(age: int, about: int, expected: float) -> None:
    """A draw is due for evidence a millisecond after 30 days, and only evidence about itself is an answer."""
    draw = event("drawdown", T - age, 100_000, key=5)
    told = [event("other", T - H, key=9, category="use_evidence", settles=about)] if about else []
    assert both(case_of(draw, *told), "use_evidence_missing") == expected


# --- scores ---


def test_score_of_a_loan() -> None:
    """Only of the loan in question, not older than 40 days."""
    draw = event("drawdown", T - 60 * D, 100_000, key=5)
    told = [
        event("other", T - 40 * D + 1, key=6, category="loan_score", value=500.0, settles=5),
        event("other", T - D, key=7, category="loan_score", value=900.0, settles=8),
    ]
    assert both(case_of(draw, *told, loan=5), "scr_loan_level") == 500
    assert both(case_of(draw, *told), "scr_loan_level") is None


def test_scores_age() -> None:
    """A score exactly 40 days old is stale; the one 30 days ago may itself have been up to 40 days old."""

    def score(at: int, points: float) -> Event:
        return event("other", at, category="b_score", value=points)

    assert both(case_of(score(T - 40 * D, 600)), "scr_b_now") is None
    assert both(case_of(score(T - 40 * D + 1, 600)), "scr_b_now") == 600
    pair = case_of(score(T - 70 * D + 1, 650), score(T - D, 600))
    assert both(pair, "scr_b_delta_30d") == -50
    assert both(replace(pair, granted=T - 30 * D + 1), "scr_b_delta_30d") is None
    assert both(case_of(score(T - 70 * D, 650), score(T - D, 600)), "scr_b_delta_30d") is None
    assert both(case_of(score(T - 30 * D, 650), score(T - D, 600)), "scr_b_delta_30d") == -50
    assert both(case_of(score(T - 30 * D + 1, 650), score(T - D, 600)), "scr_b_delta_30d") is None
    low = case_of(score(T - D, 579), score(T - 2 * D, 400), score(T - 40 * D, 580), score(T - 180 * D + 1, 1))
    assert both(low, "scr_b_low_months_6m") == 2


def test_age_of_a_feed() -> None:
    """Seconds since the newest event of a kind, to the millisecond; never is null."""
    case = case_of(event("login", T - 1_500), event("login", T - D))
    assert both(case, "feat_age_s_login") == 1.5
    assert both(case, "feat_age_s_purchase") is None


# --- calendar and place ---


@pytest.mark.fault("D15")
@pytest.mark.parametrize(("local", "expected"), [
    ("2026-02-14T23:59:59.999", 0), ("2026-02-15T00:00:00.000", 1), ("2026-02-23T23:59:59.999", 1),
    ("2026-02-24T00:00:00.000", 0), ("2025-01-01T00:00:00.000", 1), ("2024-12-31T23:59:59.999", None),
    ("2026-12-31T23:59:59.999", 0), ("2027-01-01T00:00:00.000", None),
])  # fmt: skip
def test_holidays_begin_and_end_at_local_midnight(local: str, expected: float | None) -> None:
    """A holiday is a local date, and outside the covered years nothing is known."""
    t = round(datetime.fromisoformat(local).replace(tzinfo=_CHINA).timestamp() * 1000)
    assert both(case_of(t=t), "tod_is_holiday") == expected


def test_payday_counts_local_days() -> None:
    """A salary a minute before local midnight is a day old just after it; one of exactly 45 days ago is forgotten."""
    midnight = 1_790_006_400_000  # 2026-09-22 00:00 in Shanghai
    salary = event("transfer_in", midnight - M, 500_000, category="salary")
    assert both(case_of(salary, t=midnight), "tod_days_from_payday") == 1
    assert both(case_of(salary, t=midnight - 1), "tod_days_from_payday") == 0
    assert both(case_of(event("income", T - 45 * D)), "tod_days_from_payday") is None
    assert both(case_of(event("income", T - 45 * D + 1)), "tod_days_from_payday") == 45


def test_radius_of_gyration() -> None:
    """Five times the same place is 0 km; two antipodal halves have no centroid; the 180th meridian is no border."""

    def at(k: int, lat: int, lon: int) -> Event:
        return event("login", T - D - k, geo=Geo(lat, lon, 3))

    same = [at(k, 31_000_000, 121_000_000) for k in range(5)]
    assert both(case_of(*same), "geo_rg_30d") == pytest.approx(0, abs=1e-6)
    assert both(case_of(*same[:4]), "geo_rg_30d") is None
    assert both(case_of(*(at(k, 0, 180_000_000 * (k % 2)) for k in range(6))), "geo_rg_30d") is None
    across = [at(k, 0, 179_900_000 if k % 2 else -179_900_000) for k in range(6)]
    assert both(case_of(*across), "geo_rg_30d") == pytest.approx(11.1195, rel=1e-4)


@pytest.mark.parametrize(("text", "message"), [
    ("calendars: {c: 3}", "calendar `c` is not a row"),
    ("calendars: {c: {from: 2026-01-01, until: 2026-12-31, days: []}}", "calendar `c` has no `version`"),
    ("calendars: {c: {from: 2026-1-1, until: 2026-12-31, version: v, days: []}}", "`2026-1-1` is no date"),
    ("calendars: {c: {from: 2026-01-01, until: 2026-12-31, version: v, days: [2026-02-30]}}",
     "`2026-02-30` is no date"),
    ("calendars: {c: {from: 2026-01-01, until: 2026-12-31, version: v, days: [2026-02-03, 2026-02-03]}}",
     "the days of a calendar ascend"),
    ("calendars: {c: {from: 2026-01-01, until: 2026-01-31, version: v, days: [2026-02-03]}}",
     "a day lies outside `from` to `until`"),
    ("calendars: {c: {from: 2026-01-01, until: 2026-01-31, version: v, days: [], dates: []}}", "unknown key `dates`"),
    ("features: {f: {agg: in_calendar, calendar: no, null: X, unit: 0/1, en: x, zh: x}}", "unknown calendar `no`"),
    ("features: {f: {agg: in_calendar, null: X, unit: 0/1, en: x, zh: x}}", "`in_calendar` needs `calendar`"),
])  # fmt: skip
def test_mistakes_in_calendars_are_named(text: str, message: str) -> None:
    """Each is a diagnostic at its place."""
    findings = Findings()
    catalogue_of(text + "\n", findings)
    assert [d.message for d in findings.diagnostics] == [message]


# --- amounts ---


def test_benford_needs_fifty_draws_and_knows_what_is_common() -> None:
    """Fifty draws that all begin with 9 are far from Benford's law, and forty-nine say nothing."""
    draws = [event("drawdown", T - H - k, 90_000 + k) for k in range(50)]
    assert both(case_of(*draws[:49]), "amt_benford_mad_365d") is None
    assert both(case_of(*draws), "amt_benford_mad_365d") == pytest.approx(2 * (1 - math.log10(10 / 9)) / 9)


@pytest.mark.parametrize(("amount", "expected"), [
    (4_750_000, 50_000), (4_749_999, None), (5_000_000, None), (19_999_999, 200_000), (28_500_000, 300_000),
    (49_999_999, 500_000),
])  # fmt: skip
def test_the_threshold_is_named(amount: int, expected: float | None) -> None:
    """Just below 50,000, 200,000, 300,000 or 500,000 yuan."""
    assert both(case_of(amount=amount), "amt_below_thr_which") == expected


# --- pairs of events ---


@pytest.mark.parametrize("seed", range(40))
def test_what_follows_what_in_crowded_histories(seed: int) -> None:
    """Hundreds of draws, repayments and due dates within two days, at few instants and of few amounts."""
    rng = random.Random(seed)
    kinds = ("drawdown", "repayment", "due", "transfer_in")
    events = [
        event(rng.choice(kinds), T - rng.randrange(0, 50) * H, rng.choice((50, 80, 100, 125)) * 100, key=k + 1,
              counterparty=rng.choice((0, 21, 22)))
        for k in range(rng.choice((10, 60, 400)))
    ]  # fmt: skip
    case = case_of(*events)
    expected = use_features(case) | features(case)
    names = ("vel_redraw_cnt_30d", "vel_redraw_cnt_90d", "vel_redraw_ratio", "tod_draw_on_due", "use_loop_back_7d")
    assert differences(computed(case), {name: expected[name] for name in names}) == []

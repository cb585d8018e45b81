"""The definition of the rows about the line, its repayment and the customer's activity: families U, Y and K.

Day by day and term by term, with nothing remembered between two looks. Days are local dates (ordinals); everything
about one day or one term is found by reading all events again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from oracle import Case, D, E, Facts, local, mean, ratio, surge

from decision_service.core.event import APPROVED, BOOKED, CANCELLED, CHANNELS, FAILED, code_key

Features = dict[str, float | None]
MONTHS = {"1m": 30, "3m": 90, "6m": 180, "12m": 360, "24m": 720}
CASH = {code_key(name) for name in ("cash", "cash_advance", "withdrawal")}


def features(case: Case, others: Features) -> Features:
    """Every feature of these families by name; `others` holds the ones defined elsewhere."""
    out: Features = {}
    f = Facts(case, out)
    line = [e for e in f.h if case.facility and e.facility == case.facility]
    utilisation(case, f, line, out)
    arrears(case, f, line, out)
    repayment_terms(case, f, line, out)
    capacity(case, f, out)
    activity(case, f, line, out, others)
    scorecard(f, out)
    return out


def given(case: Case, name: str) -> float | None:
    """An input of the case; None if it says nothing."""
    value = case.inputs.get(name)
    return None if value is None or math.isnan(value) else value


# --- U: the line, day by day ----------------------------------------------------------------------------------------


def balance_at_close(case: Case, line: list[E], day: int) -> int:
    """Principal when a local day ends: what is outstanding now, without what came later. Never below 0."""
    later = [e for e in line if e.day > day and e.status == BOOKED]
    drawn = sum(e.amount for e in later if e.kind == "drawdown")
    paid = sum(e.amount for e in later if e.kind == "repayment")
    return max(case.outstanding - drawn + paid, 0)


def limit_at_close(case: Case, line: list[E], day: int) -> int:
    """Limit when a local day ends: today's, without the changes that came later."""
    later = [e for e in line if e.day > day and e.status == BOOKED and e.kind == "limit_change" and e.value == e.value]
    return case.limit - sum(round(e.value * case.scale) for e in later)


def uses(case: Case, f: Facts, line: list[E], days: int) -> list[float | None]:
    """Closing use of the last days, newest first, as far back as the line's first day; None without a limit."""
    first = local(case.zone, case.granted)[2]
    closing = []
    for day in range(f.day, max(f.day - days, first - 1), -1):
        limit = limit_at_close(case, line, day)
        closing.append(balance_at_close(case, line, day) / limit if limit > 0 else None)
    return closing


def known(values: list[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def utilisation(case: Case, f: Facts, line: list[E], out: Features) -> None:
    year = uses(case, f, line, 401)
    now = ratio(case.outstanding, case.limit)
    out["utl_now"], out["utl_now__new"] = now, surge(case.outstanding, case.limit)
    out["utl_after"] = ratio(case.outstanding + case.reserved + case.amount, case.limit)
    out["utl_avail"] = f.available
    for days in (30, 90, 180, 365):
        u = known(year[:days])
        for name, value in (("max", max(u, default=None)), ("min", min(u, default=None)), ("avg", mean(u))):
            out[f"utl_{name}_{days}d"] = f.older_than(days, value)
        if days != 365:
            out[f"utl_days_over90_{days}d"] = f.older_than(days, float(sum(x >= 0.9 for x in u)))
    for name, p in (("3m", 3), ("6m", 6), ("12m", 12)):
        ends = [(year[30 * k], year[30 * k + 30]) for k in range(p) if 30 * k + 30 < len(year)]
        rises = sum(a is not None and b is not None and a > b for a, b in ends)
        out[f"utl_inc_months_{name}"] = f.older_than(60, float(rises))
    for days in (30, 90):
        since = [e for e in line if e.at > f.t - days * D and e.status == BOOKED]
        drawn, paid = (sum(e.amount for e in since if e.kind == k) for k in ("drawdown", "repayment"))
        raised = sum(e.value for e in since if e.kind == "limit_change" and e.value == e.value)
        then = ratio(max(case.outstanding - drawn + paid, 0) / case.scale, max(case.limit / case.scale - raised, 0))
        out[f"utl_delta_{days}d"] = None if now is None or then is None else f.older_than(days, now - then)
        points = [(-back, u) for back, u in enumerate(year[:days]) if u is not None]
        out[f"utl_slope_{days}d"] = float(np.polyfit(*zip(*points, strict=True), 1)[0]) if len(points) >= 5 else None
    out["utl_streak90"] = next((k for k, u in enumerate(year[:365]) if u is None or u < 0.9), len(year[:365]))
    quarter = year[:90]
    out["utl_vol_90d"] = float(np.std(known(quarter))) if len(known(quarter)) >= 5 else None
    weeks = [(quarter[b], quarter[b + 7]) for b in range(len(quarter) - 7)]
    rises = [a - b for a, b in weeks if a is not None and b is not None]
    out["utl_jump7_90d"] = max(rises, default=None) if len(known(quarter)) >= 5 else None
    totals = [case.inputs.get(f"customer.{of}", getattr(case, of) / case.scale) for of in ("outstanding", "limit")]
    cards = given(case, "ext_card_balance"), given(case, "ext_card_limit")
    more = (0.0, 0.0) if None in cards else cards
    out["utl_all"] = ratio(*(total + card for total, card in zip(totals, more, strict=True)))  # type: ignore[operator]
    changes = [e for e in line if e.kind == "limit_change" and e.status == BOOKED and e.at > f.t - 365 * D]
    out["utl_limit_age_d"] = (f.t - changes[-1].at) / D if changes else None
    out["utl_limit_up_cnt_365d"] = sum(e.value > 0 for e in changes) if changes else None
    out["utl_limit_down_cnt_365d"] = sum(e.value < 0 for e in changes) if changes else None
    over = [u is not None and u > 1 for u in year[:365]]
    out["utl_overlimit_cnt_365d"] = sum(o and not (k and over[k - 1]) for k, o in enumerate(over))
    peak = max(known(year[:365]), default=None)
    out["utl_peak_gap_365d"] = None if peak is None or now is None else peak - now
    trend_of_use(f, year, out)
    out["con_facility_share"] = ratio(case.outstanding / case.scale, totals[0])


def trend_of_use(f: Facts, year: list[float | None], out: Features) -> None:
    b = [f.money(x) for x in f.buckets(f.ok)]
    pairs = [(year[30 * k], b[k]) for k in range(6) if 30 * k < len(year)]
    pairs = [(u, x) for u, x in pairs if u is not None]
    out["trd_util_then_amt"] = None
    if len(pairs) >= 3 and all(max(side) - min(side) >= 1e-9 for side in zip(*pairs, strict=True)):
        out["trd_util_then_amt"] = float(np.corrcoef(*zip(*pairs, strict=True))[0, 1])


# --- Y: arrears -----------------------------------------------------------------------------------------------------


def since_last(f: Facts, events: list[E], stops: list[E]) -> list[E]:
    """Those of the events that stand after the last of the stops."""
    place = max((i for i, e in enumerate(f.h) if any(e is s for s in stops)), default=-1)
    return [e for e in f.h[place + 1 :] if any(e is x for x in events)]


def arrears(case: Case, f: Facts, line: list[E], out: Features) -> None:
    overdue = [e for e in f.h if e.kind == "overdue"]
    told = [e for e in overdue if e.value == e.value]
    reported = case.days_past_due
    worst = max((e.value for e in since_last(f, told, f.repaid)), default=0)
    out["rpy_dpd_now"] = reported if reported is not None else worst
    for days in (90, 180, 365):
        out[f"rpy_dpd_max_{days}d"] = max((e.value for e in told if e.at > f.t - days * D), default=0)
    for name in ("3m", "6m", "12m"):
        values = [e.value for e in told if e.at > f.t - MONTHS[name] * D]
        out[f"rpy_od_cnt_{name}"] = sum(i == 0 or not v > values[i - 1] for i, v in enumerate(values))
    for bucket, (least, most) in enumerate(((1, 30), (31, 60), (61, 90)), 1):
        for name in ("1m", "3m", "6m", "12m"):
            months = [[e.value for e in month] for month in f.buckets(told, MONTHS[name] // 30)]
            out[f"rpy_m{bucket}_cnt_{name}"] = sum(bool(m) and least <= max(m) < most + 1 for m in months)
    for name in ("12m", "24m"):
        out[f"rpy_ever30_{name}"] = float(any(e.value >= 30 for e in told if e.at > f.t - MONTHS[name] * D))
    recent = [e for e in overdue if e.at > f.t - 720 * D]
    out["rpy_months_since_od_24m"] = (f.t - recent[-1].at) // (30 * D) if recent else None
    mine = [e for e in line if e.kind == "overdue"]
    paid = [e for e in line if e.kind == "repayment" and e.status == BOOKED]
    dpd = reported
    if dpd is None:
        dpd = max((e.value for e in since_last(f, [e for e in mine if e.value == e.value], paid)), default=0)
    amount = (mine[-1].amount / case.scale if mine else None) if dpd > 0 else 0.0
    out["rpy_od_amt_share"] = ratio(amount, case.outstanding / case.scale)
    repayments = [e for e in f.h if e.kind == "repayment"]
    for days in (30, 90):
        failed = [
            e for e in f.within(repayments, f"{days}d") if e.status == FAILED and e.code == code_key("auto_debit")
        ]
        out[f"rpy_autodebit_fail_{days}d"] = len(failed)
    quarter = f.within(f.repaid, "90d")
    third = [e for e in quarter if e.code == code_key("third_party")]
    out["rpy_third_party_share_90d"] = ratio(f.money(third), f.money(quarter))
    out["rpy_bounced_cnt_90d"] = sum(e.status == CANCELLED for e in f.within(repayments, "90d"))
    draws = f.within(f.ok, "90d")
    cash = [e for e in draws if e.code in CASH or e.channel == CHANNELS["atm"]]
    out["rpy_cash_share_90d"] = ratio(len(cash), len(draws))


# --- Y: terms -------------------------------------------------------------------------------------------------------


@dataclass
class Term:
    """What fell due on one local day, and what became of it."""

    day: int
    at: int  # of its newest event
    due: int
    least: int | None
    after: int  # its interval is (after, day]
    paid: int = 0
    prepaid: int = 0
    covered: int | None = None

    def days_late(self, today: int) -> int:
        return max((today if self.covered is None else self.covered) - self.day, 0)


def terms_of(case: Case, line: list[E]) -> list[Term]:
    """The line's terms, every one paid from what the ones before left."""
    dues = [e for e in line if e.kind == "due" and e.amount > 0]
    terms: list[Term] = []
    for day in sorted({e.day for e in dues}):
        parts = [e for e in dues if e.day == day]
        minima = [round(e.value * case.scale) for e in parts if e.value == e.value]
        after = terms[-1].day if terms else day - 30
        terms.append(Term(day, parts[-1].at, sum(e.amount for e in parts), sum(minima) if minima else None, after))
    payments = [e for e in line if e.kind == "repayment" and e.status == BOOKED]
    left = [e.amount for e in payments]
    spare = list(left)  # of each payment, what nothing that had fallen due by then needed
    for term in terms:
        needed = term.due
        for i, payment in enumerate(payments):
            if payment.day <= term.after or not left[i] or not needed:
                continue
            part = min(left[i], needed)
            left[i] -= part
            needed -= part
            if term.day <= payment.day:
                spare[i] -= part
            if not needed:
                term.covered = payment.day
    for term in terms:
        inside = [i for i, payment in enumerate(payments) if term.after < payment.day <= term.day]
        term.paid = sum(payments[i].amount for i in inside)
        term.prepaid = sum(spare[i] for i in inside)
    return terms


def repayment_terms(case: Case, f: Facts, line: list[E], out: Features) -> None:
    judged = [t for t in terms_of(case, line) if t.covered is not None or t.day < f.day]

    def recent(days: int) -> list[Term]:
        return [t for t in judged if t.at > f.t - days * D]

    out["rpy_consec_od"] = sum(t.covered is None for t in judged)
    for name in ("3m", "6m", "12m"):
        ratios = [t.paid / t.due for t in recent(MONTHS[name])]
        out[f"rpy_ratio_mean_{name}"] = mean(ratios)
        out[f"rpy_ratio_min_{name}"], out[f"rpy_ratio_max_{name}"] = (
            min(ratios, default=None),
            max(ratios, default=None),
        )
    for name in ("6m", "12m"):
        some = recent(MONTHS[name])
        least = [t for t in some if t.least is not None and t.paid < t.due and t.paid * 100 <= t.least * 105]
        out[f"rpy_minpay_cnt_{name}"] = len(least)
        late = [float(t.days_late(f.day)) for t in some]
        out[f"rpy_days_late_avg_{name}"] = mean(late)
        days = [t.day / 30 for t in some]
        out[f"rpy_late_trend_{name}"] = float(np.polyfit(days, late, 1)[0]) if len(some) >= 3 else None
    means = [mean([float(t.days_late(f.day)) for t in recent(days)]) for days in (30, 60, 90)]
    rises = [None if a is None or b is None else a > b for a, b in pairwise(means)]
    out["rpy_late_rising_3m"] = 0.0 if False in rises else None if None in rises else 1.0
    year, quarter = recent(360), recent(90)
    out["rpy_early_cnt_12m"] = sum(t.covered is not None and t.covered < t.day for t in year)
    out["rpy_prepay_ratio_12m"] = ratio(sum(t.prepaid for t in year), sum(t.due for t in year))
    out["rpy_partial_cnt_90d"] = sum(0 < t.paid < t.due for t in quarter)
    out["utl_revolve_share_90d"] = ratio(sum(max(t.due - t.paid, 0) for t in quarter), sum(t.due for t in quarter))
    clean = 0
    for term in reversed(judged):
        if term.covered is None or term.days_late(f.day) > 0 or clean == 36:
            break
        clean += 1
    out["rpy_clean_months"] = clean


# --- Y: what it is paid from ----------------------------------------------------------------------------------------


def capacity(case: Case, f: Facts, out: Features) -> None:
    amount = given(case, "facility.due_amount")
    due = None if case.days_to_due is None else amount if case.days_to_due <= 30 else 0.0
    booked = [e for e in f.h if e.status == BOOKED]
    inflow = [e for e in booked if e.kind in ("income", "transfer_in")]
    salaries = [e for e in inflow if e.code == code_key("salary")]
    income = [e for e in inflow if e.kind == "income" or e.code == code_key("salary")]
    out["rpy_due30_amt"] = due
    out["rpy_due_over_inflow"] = ratio(due, f.money(f.within(inflow, "90d")) / 3)
    lately = f.money(f.within(income, "90d")) / 3
    before = f.money([e for e in income if f.t - 450 * D < e.at <= f.t - 90 * D]) / 12
    told = given(case, "income_monthly")
    out["rpy_dti"] = ratio(due, lately if told is None else told)
    share = ratio(lately, before)
    out["rpy_income_drop"] = None if share is None else 1 - share
    out["rpy_income_drop__new"] = surge(lately, before)
    out["rpy_income_drop_hit"] = None if share is None else float(1 - share >= 0.5)
    without = sum(not month for month in f.buckets(salaries, 6))
    out["rpy_salary_missing_6m"] = without if f.within(salaries, "365d") else None


# --- K: marketing and churn -----------------------------------------------------------------------------------------


def activity(case: Case, f: Facts, line: list[E], out: Features, others: Features) -> None:
    drawn = [e for e in line if e.kind == "drawdown" and e.status in (BOOKED, APPROVED) and e.at >= case.granted]
    out["mkt_never_drawn"] = float(f.age >= 30 * D and not drawn)
    out["mkt_silent_d"] = (f.t - f.ok[-1].at) / D if f.ok else f.age / D
    touches = [e for e in f.h if e.kind == "touch"]
    half = f.within(touches, "180d")
    offers = sum(e.code in map(code_key, ("offer", "activation", "retention")) for e in half)
    responses = sum(e.code == code_key("response") for e in half)
    for what in ("activation", "retention"):
        out[f"mkt_{what}_cnt_30d"] = sum(e.code == code_key(what) for e in f.within(touches, "30d"))
    out["mkt_offer_resp_180d"], out["mkt_offer_resp_180d__new"] = ratio(responses, offers), surge(responses, offers)
    for days in (7, 30):
        out[f"mkt_touch_cnt_{days}d"] = sum(e.code != code_key("response") for e in f.within(touches, f"{days}d"))
    first = local(case.zone, case.granted)[2]
    lived = [day for day in range(f.day - 1, f.day - 91, -1) if day >= first]
    before = mean([balance_at_close(case, line, day) / case.scale for day in lived])
    out["chn_balance_decay"] = ratio(case.outstanding / case.scale, before)
    months = [range(f.day - 30 * k, f.day - 30 * k - 30, -1) for k in range(6)]
    active = [any(balance_at_close(case, line, day) > 0 for day in month if day >= first) for month in months[:3]]
    out["chn_full_payoff_90d"] = float(case.outstanding == 0 and all(active))
    low = []
    use = uses(case, f, line, 180)
    for k in range(6):
        if month := known(use[30 * k : 30 * k + 30]):
            low.append(sum(month) / len(month) < 0.05 - 1e-9)
    out["chn_limit_headroom_used_6m"] = f.older_than(180, ratio(sum(low), len(low)))
    counts = [len(x) for x in f.buckets(f.ok, 7)]
    drop = out["chn_freq_drop"] = ratio(counts[0], sum(counts[1:]) / 6)
    out["chn_freq_drop__new"] = surge(counts[0], sum(counts[1:]))
    elsewhere = given(case, "ext_active_elsewhere_delta_90d")
    risen = elsewhere is not None and elsewhere > 0
    fewer = None if drop is None else float(drop < 1)
    out["chn_elsewhere_up_90d"] = None if elsewhere is None else fewer if risen else 0.0
    quote = given(case, "mkt_quote_apr")
    apr = given(case, "facility.apr")
    out["chn_rate_gap"] = None if quote is None or apr is None else (apr - quote) * 10_000


# --- what the behaviour scorecard looks at beside these -------------------------------------------------------------


def scorecard(f: Facts, out: Features) -> None:
    dues = [e for e in f.h if e.kind == "due"]
    for days in (30, 90):
        w = f"{days}d"
        out[f"inq_cnt_{w}"] = sum(e.kind == "inquiry" for e in f.within(f.h, w))
        paid, due = f.money(f.within(f.repaid, w)), f.money(f.within(dues, w))
        out[f"rpy_paid_amt_{w}"], out[f"rpy_due_amt_{w}"] = paid, due
        out[f"rpy_paid_over_due_{w}"], out[f"rpy_paid_over_due_{w}__new"] = ratio(paid, due), surge(paid, due)

"""The definition of the rows about use of funds, scores, external facts, calendar and place: see `oracle.py`."""

from __future__ import annotations

import math
from collections import Counter
from datetime import date, timedelta

from oracle import LONG, Case, D, E, Facts, haversine, ratio, surge

from decision_service.core.event import BOOKED, KINDS, Event, code_key

RESTRICTED = {code_key(c) for c in ("securities", "property", "wealth", "crypto", "lending")}
OWN = {code_key(c) for c in ("self", "related")}
BUSINESS = {code_key(c) for c in ("business", "working_capital", "procurement", "equipment")}
FITS = {
    "education": ("education", "tuition", "books"), "medical": ("medical", "hospital", "pharmacy"),
    "travel": ("travel", "airline", "railway", "hotel"),
    "renovation": ("renovation", "building_materials", "furniture"),
    "appliance": ("appliance", "electronics", "retail"), "rent": ("rent", "letting"),
    "vehicle": ("vehicle", "car_dealer", "car_repair"),
    "business": ("wholesale", "procurement", "equipment", "logistics", "wages"),
}  # fmt: skip
HOLIDAYS = (
    ("2025-01-01", 1), ("2025-01-28", 8), ("2025-04-04", 3), ("2025-05-01", 5), ("2025-05-31", 3), ("2025-10-01", 8),
    ("2026-01-01", 3), ("2026-02-15", 9), ("2026-04-04", 3), ("2026-05-01", 5), ("2026-06-19", 3), ("2026-09-25", 3),
    ("2026-10-01", 7),
)  # fmt: skip


def use_features(case: Case, payee: list[Event] | None = None) -> dict[str, float | None]:
    """Every feature of these rows by name; `payee`: everybody's events with the request's payee, None if not known."""
    out: dict[str, float | None] = {}
    trade(case, payee if case.party else None, out)
    facts = Facts(case, {})
    for family in (amounts, calendar, place, use, scores, external):
        family(case, facts, out)
    return out


def attribute(case: Case, name: str) -> float | None:
    """What the attribute says, or None."""
    return case.inputs.get(name)


def seconds(f: Facts, events: list[E]) -> float | None:
    return (f.t - events[-1].at) / 1000 if events else None


def amounts(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    digits = [int(str(e.amount)[0]) for e in f.within(f.ok, "365d") if e.amount]
    out["amt_benford_mad_365d"] = None
    if len(digits) >= 50:
        counts = Counter(digits)
        expected = [math.log10(1 + 1 / d) for d in range(1, 10)]
        out["amt_benford_mad_365d"] = sum(abs(counts[d] / len(digits) - expected[d - 1]) for d in range(1, 10)) / 9
    below = [thr for thr in (50_000, 200_000, 300_000, 500_000) if thr * 0.95 <= f.x < thr]
    out["amt_below_thr_which"] = below[0] if below else None
    income = attribute(case, "income_monthly")
    out["amt_over_income"], out["amt_over_income__new"] = ratio(f.x, income), surge(f.x, income)


def calendar(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    today = date.fromordinal(f.day)
    days = {date.fromisoformat(first) + timedelta(k) for first, count in HOLIDAYS for k in range(count)}
    covered = date(2025, 1, 1) <= today <= date(2026, 12, 31)
    out["tod_is_holiday"] = float(today in days) if covered else None
    paid = [
        e for e in f.within(f.h, 45 * D)
        if e.status == BOOKED and (e.kind == "income" or (e.kind == "transfer_in" and e.code == code_key("salary")))
    ]  # fmt: skip
    out["tod_days_from_payday"] = f.day - paid[-1].day if paid else None


def place(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    places = [e.place[:2] for e in f.within(f.h, "30d") if e.place is not None]
    out["geo_rg_30d"] = None
    if len(places) >= 5:
        flat = [(math.radians(lat), math.radians(lon)) for lat, lon in places]
        x = sum(math.cos(lat) * math.cos(lon) for lat, lon in flat)
        y = sum(math.cos(lat) * math.sin(lon) for lat, lon in flat)
        z = sum(math.sin(lat) for lat, _ in flat)
        if math.hypot(x, y, z) / len(places) >= 1e-9:
            centre = math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))
            out["geo_rg_30d"] = math.sqrt(sum(haversine(p, centre) ** 2 for p in places) / len(places))
    ip, gps, sure = (attribute(case, f"geo_{n}") for n in ("ip_province", "gps_province", "ip_confidence"))
    known = ip is not None and gps is not None and sure is not None and sure >= 0.8
    out["geo_ip_gps_mismatch"] = float(ip != gps) if known else None


def use(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    booked = [e for e in f.draws if e.status == BOOKED]
    outflow = [e for e in f.h if e.kind in ("purchase", "transfer_out") and e.status == BOOKED]
    inflow = [e for e in f.h if e.kind == "transfer_in" and e.status == BOOKED]
    position = {id(e): i for i, e in enumerate(f.h)}
    for w in ("72h", "30d"):
        bad, drawn = f.money([e for e in f.within(outflow, w) if e.code in RESTRICTED]), f.money(f.within(booked, w))
        reported = attribute(case, f"payments_restricted_share_{w}")
        computed = ratio(bad, drawn) if outflow else None
        out[f"use_restricted_share_{w}"] = computed if reported is None else reported
        out[f"use_restricted_share_{w}__new"] = surge(bad, drawn) if outflow else None
    evidence = {e.concerns for e in f.h if e.kind == "other" and e.code == code_key("use_evidence")}
    due = [e for e in f.within(booked, "365d") if f.t - e.at > 30 * D]
    out["use_evidence_missing"] = sum(e.key not in evidence for e in due)
    out["use_secs_to_out_72h"] = None
    recent = f.within(booked, "72h")
    if recent:
        draw = recent[-1]
        after = [e for e in outflow if position[id(e)] > position[id(draw)] and e.amount >= 0.8 * draw.amount]
        out["use_secs_to_out_72h"] = (after[0].at - draw.at) / 1000 if after else None

    def came_back(e: E) -> bool:
        before = [d for d in booked if position[id(d)] < position[id(e)] and e.at - d.at < 7 * D]
        return any(e.party and d.party == e.party for d in before) or (bool(before) and e.code in OWN)

    out["use_loop_back_7d"] = float(any(came_back(e) for e in f.within(inflow, "7d"))) if inflow else None
    threshold = 500_000 if case.code in BUSINESS else 300_000
    small = [e for e in [*f.within(f.ok, "24h"), f.me] if e.amount / case.scale < threshold]
    out["use_entrust_required"] = float(f.x >= threshold or f.money(small) >= threshold)


def trade(case: Case, payee: list[Event] | None, out: dict[str, float | None]) -> None:
    """What the payee deals in, as the categories of everybody's outflows to it say."""
    paid = [
        e.code for e in payee or []
        if e.kind in (KINDS["purchase"], KINDS["transfer_out"]) and e.status == BOOKED and e.code
        and case.t - 365 * D < e.occurred_at_ms <= case.t
    ]  # fmt: skip
    reported = attribute(case, "payee_restricted")
    said = [reported] if reported is not None else []
    seen = [float(any(code in RESTRICTED for code in paid))] if paid else []
    out["use_restricted_hit"] = max(said + seen, default=None)
    purpose = next((p for p in FITS if code_key(p) == case.code), None)
    mismatch = purpose is not None and not any(code in map(code_key, FITS[purpose]) for code in paid)
    out["use_purpose_mismatch"] = float(mismatch) if paid and purpose is not None else None


def scores(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    told = [e for e in f.h if e.kind == "other" and e.code == code_key("b_score") and e.value == e.value]

    def newest(ago: int) -> float | None:
        fresh = [e.value for e in told if f.t - ago - 40 * D < e.at <= f.t - ago]
        return fresh[-1] if fresh else None

    now = out["scr_b_now"] = newest(0)
    for days in (30, 90):
        before = newest(days * D)
        delta = None if now is None or before is None else now - before
        out[f"scr_b_delta_{days}d"] = f.older_than(days, delta)
    best, peak = f.within(told, 60 * D), [e for e in told if f.t - 240 * D < e.at <= f.t - 60 * D]
    since = newest(60 * D)
    if since is None or not best or not peak:
        out["scr_band_fall_60d"] = None
    else:
        fallen = band(max(since, *(e.value for e in best))) - band(max(e.value for e in peak))
        out["scr_band_fall_60d"] = max(fallen, 0)
    out["scr_b_min_90d"] = min((e.value for e in f.within(told, "90d")), default=None)
    low = f.buckets([e for e in told if e.value < 580], 6)
    out["scr_b_low_months_6m"] = sum(bool(bucket) for bucket in low)
    mine = [e for e in f.within(f.h, 40 * D) if e.kind == "other" and e.code == code_key("loan_score")
            and e.concerns == case.loan and case.loan and e.value == e.value]  # fmt: skip
    out["scr_loan_level"] = mine[-1].value if mine else None
    for kind in KINDS:
        out[f"feat_age_s_{kind}"] = seconds(f, [e for e in f.h if e.kind == kind])


def band(points: float) -> int:
    """0 for A to 4 for E."""
    return sum(points < edge for edge in (660, 620, 580, 540))


def external(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    changes = [e for e in f.h if e.kind == "contact_change"]
    for w in LONG[1:4]:
        out[f"prf_contact_chg_cnt_{w}"] = len(f.within(changes, w))
        for what in ("phone", "address", "employer"):
            out[f"prf_{what}_chg_cnt_{w}"] = sum(e.code == code_key(what) for e in f.within(changes, w))
    logins = [e for e in f.h if e.kind == "login" and e.status == BOOKED]
    month, quarter = f.within(logins, "30d"), f.within(logins, "90d")
    out["app_active_days_30d"] = len({e.day for e in month})
    out["app_login_chg_30d"] = ratio(len(month), len(quarter) / 3)
    out["app_login_chg_30d__new"] = surge(len(month), len(quarter) / 3)
    complaints = [e for e in f.h if e.kind == "other" and e.code == code_key("complaint")]
    out["csr_complaint_cnt_90d"] = len(f.within(complaints, "90d"))
    tiers = [e.value for e in f.h if e.kind == "other" and e.code == code_key("warning_tier") and e.value == e.value]
    out["prf_warning_tier"] = tiers[-1] if tiers else 0
    frauds = [e for e in f.h if e.kind == "label" and e.code == code_key("fraud")]
    out["prf_fraud_cnt_365d"] = len(f.within(frauds, "365d"))
    inquiries, before = attribute(case, "ext_inq_cnt_30d"), attribute(case, "ext_inq_cnt_prior_90d")
    out["ext_inq_delta"] = None if inquiries is None or before is None else inquiries - before / 3
    debt, ago = attribute(case, "ext_debt"), attribute(case, "ext_debt_90d_ago")
    rise = None if debt is None or ago is None else debt - ago
    out["ext_debt_delta_90d"], out["ext_debt_delta_90d__new"] = ratio(rise, ago), surge(rise, ago)
    owed, worth = case.inputs["customer.outstanding"], attribute(case, "ext_collateral_value")
    out["ext_ltv"], out["ext_ltv__new"] = ratio(owed, worth), surge(owed, worth)

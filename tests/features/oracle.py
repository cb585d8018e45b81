"""The definition of every feature, as obvious as possible: plain Python over lists of events.

This file, with the parts named oracle_*.py that `definition` puts together, *is* the definition; it shares nothing
with the kernel or the YAML. Events are dictionaries of the packed record's fields, in recorded order. Money is summed
in integer minor units. `None` is null.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np

from decision_service.core.event import (
    ACCURACY_M,
    APPROVED,
    BOOKED,
    CANCELLED,
    FAILED,
    HELD,
    KINDS,
    Event,
    code_key,
    unpack,
)  # fmt: skip

S, M, H, D = 1_000, 60_000, 3_600_000, 86_400_000
ODD, SENS = (2, 5), (99, 199, 299, 499, 599, 699, 899, 999)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WINDOWS = {"1m": M, "5m": 5 * M, "10m": 10 * M, "1h": H, "24h": 24 * H, "48h": 48 * H, "72h": 72 * H}
WINDOWS |= {f"{n}d": n * D for n in (1, 7, 30, 90, 180, 365, 450, 455, 720)}
ALL = ("10m", "1h", "24h", "7d", "30d", "90d", "180d", "365d")
LONG = ("7d", "30d", "90d", "180d", "365d")


@dataclass
class E:
    """One event as the features see it."""

    at: int
    kind: str
    status: int
    amount: int
    value: float
    channel: int
    facility: int
    device: int
    party: int
    code: int
    place: tuple[float, float, int] | None
    hour: int = 0
    dow: int = 0
    day: int = 0
    key: int = 0
    concerns: int = 0  # key of the drawdown it is about


@dataclass
class Case:
    """One decision: recorded events, the request, the facility, the zone, and the inputs in major units."""

    events: list[Event]
    t: int
    amount: int
    zone: str = "Asia/Shanghai"
    scale: int = 100
    facility: int = 7
    device: int = 0
    party: int = 0
    code: int = 0
    channel: int = 0
    place: tuple[int, int, int] | None = None
    granted: int = 0
    limit: int = 5_000_000
    outstanding: int = 1_000_000
    reserved: int = 0
    trimmed_through: int = -(2**62)
    days_past_due: float | None = None
    days_to_due: float | None = None
    inputs: dict[str, float] = field(default_factory=dict)
    loan: int = 0  # key of the drawdown the question is about


def local(zone: str, t: int) -> tuple[int, int, int]:
    """Local hour, day of week (0 = Monday) and day number."""
    when = (EPOCH + timedelta(milliseconds=t)).astimezone(ZoneInfo(zone))
    return when.hour, when.weekday(), when.date().toordinal()


def history(case: Case) -> list[E]:
    """H(t): events with occurred_at <= t, effective statuses as of t, in order of time, then of recording."""
    names = {code: name for name, code in KINDS.items()}
    outcome: dict[int, tuple[int, int]] = {}
    for event in case.events:
        if event.settles and event.kind == KINDS["drawdown"] and event.occurred_at_ms <= case.t:
            latest = outcome.get(event.settles, (event.occurred_at_ms, 0))[0]
            if event.occurred_at_ms >= latest:
                outcome[event.settles] = event.occurred_at_ms, event.status
    seen = []
    for event in case.events:
        if (event.settles and event.kind == KINDS["drawdown"]) or event.occurred_at_ms > case.t:
            continue
        status = event.status
        if event.kind == KINDS["drawdown"] and event.key in outcome:
            status = outcome[event.key][1]
        geo = event.geo
        seen.append(E(
            event.occurred_at_ms, names[event.kind], status, event.amount_minor, event.value, event.channel,
            event.facility, event.device, event.counterparty, event.code,
            None if geo is None else (geo.lat_e6 / 1e6, geo.lon_e6 / 1e6, geo.accuracy_class),
            *local(case.zone, event.occurred_at_ms), event.key, event.settles,
        ))  # fmt: skip
    return sorted(seen, key=lambda e: e.at)


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b, null when either is unknown or b is 0."""
    return None if a is None or b is None or b == 0 else a / b


def surge(a: float | None, b: float | None) -> float | None:
    """1 when a/b is v/0 with v > 0."""
    return None if a is None or b is None else float(b == 0 and a > 0)


def mean(xs: list[float]) -> float | None:
    return sum(xs) / len(xs) if xs else None


def std(xs: list[float]) -> float | None:
    if not xs:
        return None
    if min(xs) == max(xs):
        return 0.0
    mu = sum(xs) / len(xs)
    return math.sqrt(sum((x - mu) ** 2 for x in xs) / len(xs))


def quantile(xs: list[float], q: float) -> float | None:
    return float(np.quantile(np.array(xs, float), q)) if xs else None


def haversine(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great-circle kilometres by the spherical law in its haversine form."""
    la, lb = math.radians(a[0]), math.radians(b[0])
    h = math.sin((lb - la) / 2) ** 2 + math.cos(la) * math.cos(lb) * math.sin(math.radians(b[1] - a[1]) / 2) ** 2
    return 2 * 6371.0088 * math.asin(min(1.0, math.sqrt(h)))


def features(case: Case) -> dict[str, float | None]:
    """Every feature by name."""
    out: dict[str, float | None] = {}
    for family in (volume, trend, concentration, dispersion, anomaly, amount_pattern, time_of_day, geography, rest):
        family(case, Facts(case, out), out)
    return out


class Facts:
    """What every family looks at."""

    def __init__(self, case: Case, out: dict[str, float | None]) -> None:
        self.case, self.out = case, out
        self.h = history(case)
        self.t = case.t
        self.draws = [e for e in self.h if e.kind == "drawdown"]
        self.ok = [e for e in self.draws if e.status in (BOOKED, APPROVED)]
        self.failed = [e for e in self.draws if e.status in (HELD, FAILED, CANCELLED)]
        self.declined = [e for e in self.draws if e.status == HELD]
        self.odd = [e for e in self.draws if ODD[0] <= e.hour < ODD[1]]
        self.repaid = [e for e in self.h if e.kind == "repayment" and e.status == BOOKED]
        self.hour, self.dow, self.day = local(case.zone, case.t)
        self.x = case.amount / case.scale
        self.age = case.t - case.granted
        self.available = (case.limit - case.outstanding - case.reserved) / case.scale
        me = E(case.t, "drawdown", BOOKED, case.amount, math.nan, case.channel, case.facility, case.device,
               case.party, case.code,
               None if case.place is None else (case.place[0] / 1e6, case.place[1] / 1e6, case.place[2]),
               self.hour, self.dow, self.day)  # fmt: skip
        self.me = me

    def within(self, events: list[E], window: str | int) -> list[E]:
        """Events in (t - W, t]."""
        w = WINDOWS[window] if isinstance(window, str) else window
        return [e for e in events if e.at > self.t - w]

    def money(self, events: list[E]) -> float:
        return sum(e.amount for e in events) / self.case.scale

    def older_than(self, days: float, value: float | None) -> float | None:
        return value if self.age >= days * D else None

    def buckets(self, events: list[E], n: int = 12) -> list[list[E]]:
        return [[e for e in events if self.t - 30 * D * (k + 1) < e.at <= self.t - 30 * D * k] for k in range(n)]

    def amounts(self, events: list[E]) -> list[float]:
        return [e.amount for e in events]


def volume(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    for w in ALL:
        r, s, bad = f.within(f.draws, w), f.within(f.ok, w), f.within(f.failed, w)
        out[f"vol_req_cnt_{w}"], out[f"vol_req_amt_{w}"] = len(r), f.money(r)
        out[f"vol_ok_cnt_{w}"], out[f"vol_ok_amt_{w}"] = len(s), f.money(s)
        out[f"vol_fail_cnt_{w}"], out[f"vol_fail_amt_{w}"] = len(bad), f.money(bad)
    for w in ("24h", "7d", "30d", "90d"):
        for what in ("", "amt_"):
            a = out[f"vol_fail_{what or 'cnt_'}{w}"]
            b = out[f"vol_req_{what or 'cnt_'}{w}"]
            out[f"vol_fail_{what}rate_{w}"] = ratio(a, b)
            out[f"vol_fail_{what}rate_{w}__new"] = surge(a, b)
        out[f"vol_risk_decline_cnt_{w}"] = len(f.within(f.declined, w))
    for w in ("24h", *LONG):
        odd = f.within(f.odd, w)
        out[f"vol_odd_cnt_{w}"], out[f"vol_odd_amt_{w}"] = len(odd), f.money(odd)
    streak = 0
    for e in reversed(f.draws):
        if e.status not in (HELD, FAILED, CANCELLED) or streak == 50:
            break
        streak += 1
    out["vol_fail_streak"] = streak
    c = [len(b) for b in f.buckets(f.ok)]
    for p in (3, 6, 12):
        out[f"vol_active_months_{p}m"] = f.older_than(30, sum(n > 0 for n in c[:p]))
        out[f"vol_zero_months_{p}m"] = f.older_than(30 * p, sum(n == 0 for n in c[:p]))
    for w in LONG:
        s = f.within(f.ok, w)
        out[f"vol_active_days_{w}"] = len({e.day for e in s})
        out[f"vol_max_amt_{w}"] = max((e.amount for e in s), default=None)
        out[f"vol_min_amt_{w}"] = min((e.amount for e in s), default=None)
        for name in (f"vol_max_amt_{w}", f"vol_min_amt_{w}"):
            out[name] = None if out[name] is None else out[name] / case.scale  # type: ignore[operator]
    for w in ("30d", "90d", "365d"):
        days: dict[int, list[E]] = defaultdict(list)
        for e in f.within(f.ok, w):
            days[e.day].append(e)
        out[f"vol_max_day_amt_{w}"] = max((f.money(day) for day in days.values()), default=None)
        if w != "365d":
            out[f"vol_max_day_cnt_{w}"] = max((len(day) for day in days.values()), default=0)
    life = [e for e in f.ok if e.facility == case.facility and case.facility and e.at >= case.granted]
    out["vol_life_ok_cnt"], out["vol_life_ok_amt"] = len(life), f.money(life)
    out["vol_last_ok_gap_s"] = (f.t - f.ok[-1].at) / 1000 if f.ok else None
    out["vol_first_ok_age_d"] = (f.t - f.ok[0].at) / 1000 / 86400 if f.ok else None
    left, loans = round(case.inputs.get("customer.outstanding", case.outstanding / case.scale) * case.scale), 0
    for e in reversed([e for e in f.draws if e.status == BOOKED]):
        if left > 0 and e.amount > 0:
            left -= e.amount
            loans += 1
    out["vol_open_loan_cnt"] = loans + (left > 0)
    out["vol_pending_amt"] = case.reserved / case.scale
    times = [e.at for e in f.within(f.ok, "365d")] + [f.t]
    gaps = [b - a for a, b in pairwise(times)]
    out["vol_longest_sleep_d"] = max(gaps) / 1000 / 86400 if gaps else None


def run_length(xs: list[float], up: bool) -> tuple[int, int]:
    """Strict steps in a row ending at the latest, and the longest row anywhere."""
    latest = best = run = 0
    for a, b in pairwise(xs):
        run = run + 1 if (b > a if up else b < a) else 0
        best = max(best, run)
    latest = run
    return latest, best


def slope(b: list[float]) -> float | None:
    if sum(x != 0 for x in b) < 3:
        return None
    k = [-float(i) for i in range(len(b))]
    return ratio(statistics.linear_regression(k, b).slope, mean(b))


def trend(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    buckets = f.buckets(f.ok)
    c = [float(len(b)) for b in buckets]
    b = [f.money(x) for x in buckets]
    for k in range(12):
        out[f"b_m{k}"], out[f"c_m{k}"] = b[k], c[k]

    def put(name: str, top: float, bottom: float, days: float = -math.inf, minus: float = 0.0) -> None:
        value = ratio(top, bottom)
        old = days == -math.inf or f.age >= days * D
        out[name] = value - minus if value is not None and old else None
        out[name + "__new"] = surge(top, bottom) if old else None

    for what, x in (("cnt", c), ("amt", b)):
        put(f"trd_{what}_1m_over_3mavg", x[0], sum(x[:3]) / 3, 90)
        put(f"trd_{what}_mom", x[0], x[1], 60, 1.0)
        put(f"trd_{what}_3m_over_3to6m", sum(x[:3]), sum(x[3:6]), 180)
    for w in LONG:
        xs = f.amounts(f.within(f.ok, w))
        for name, up in (("inc", True), ("dec", False)):
            latest, best = run_length(xs, up)
            out[f"trd_amt_{name}_streak_{w}"], out[f"trd_amt_{name}_maxrun_{w}"] = latest, best
    for p in (6, 12):
        steps = [b[k] - b[k + 1] for k in range(p - 1)]
        out[f"trd_m_inc_cnt_{p}m"] = f.older_than(60, sum(s > 0 for s in steps))
        out[f"trd_m_dec_cnt_{p}m"] = f.older_than(60, sum(s < 0 for s in steps))
        out[f"trd_m_eq_cnt_{p}m"] = f.older_than(60, sum(s == 0 for s in steps))
        put(f"trd_cav_amt_{p}m", b[0], sum(b[:p]) / p, 30 * p)
        out[f"trd_cmm_amt_{p}m"] = f.older_than(30 * p, b[0] - sum(b[:p]) / p)
        put(f"trd_cur_over_max_{p}m", b[0], max(b[:p]))
        put(f"trd_cur_over_min_{p}m", b[0], min(b[:p]))
        out[f"trd_max_rise_{p}m"] = f.older_than(60, max(steps))
        out[f"trd_max_fall_{p}m"] = f.older_than(60, max(-s for s in steps))
        out[f"trd_slope_amt_{p}m"], out[f"trd_slope_cnt_{p}m"] = slope(b[:p]), slope(c[:p])
    for p in (3, 6):
        up = all(b[k] > b[k + 1] for k in range(p - 1)) and all(x > 0 for x in b[:p])
        down = all(b[k] < b[k + 1] for k in range(p - 1)) and all(x > 0 for x in b[:p])
        out[f"trd_m_strict_up_{p}m"] = f.older_than(30 * p, float(up))
        out[f"trd_m_strict_down_{p}m"] = f.older_than(30 * p, float(down))
    out["trd_months_since_max"] = b.index(max(b)) if max(b) > 0 else None
    for p in (1, 3, 6):
        now, before = sum(b[:p]) / p, sum(b[p : 2 * p]) / p
        put(f"trd_ppratio_{p}m", now, before)
        out[f"trd_ppdiff_{p}m"] = f.older_than(30 * p, now - before)
    out["trd_accel"] = f.older_than(90, (b[0] - b[1]) - (b[1] - b[2]))
    days = [0.0] * 90
    for e in f.within(f.ok, "90d"):
        days[(f.t - e.at) // D] += e.amount / case.scale

    def ewma(half_life: float) -> float:
        weights = [2 ** (-k / half_life) for k in range(90)]
        return sum(x * y for x, y in zip(weights, days, strict=True)) / sum(weights)

    put("trd_ewma_ratio", ewma(7), ewma(30))
    s30, s90 = f.within(f.ok, "30d"), f.within(f.ok, "90d")
    a30, a90 = (mean(f.amounts(s)) for s in (s30, s90))
    out["trd_ticket_ratio"] = ratio(a30, a90)
    out["trd_ticket_ratio__new"] = surge(a30, a90)
    times = [e.at for e in f.within(f.ok, "180d")]
    gaps = [y - x for x, y in pairwise(times)]
    out["trd_gap_ratio"] = ratio(mean(gaps[-3:]), mean(gaps[:-3][-10:])) if len(times) >= 5 else None
    last_year = [e for e in f.ok if f.t - 455 * D < e.at <= f.t - 365 * D]
    put("trd_yoy", f.money(s90), f.money(last_year), 455)


def shares(events: list[E], key: str, weight: str = "amount") -> list[float]:
    """Shares of each known key, of amount or of count; empty without any, or without any amount."""
    totals: dict[int, int] = defaultdict(int)
    for e in events:
        if getattr(e, key):
            totals[getattr(e, key)] += e.amount if weight == "amount" else 1
    total = sum(totals.values())
    return [x / total for x in totals.values()] if total else []


def concentration(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    buckets = f.buckets(f.ok)
    c, b = [len(x) for x in buckets], [f.money(x) for x in buckets]
    for p in (3, 6, 12):
        out[f"con_cnt_mean_m_{p}m"] = f.older_than(30 * p, sum(c[:p]) / p)
    for p in (6, 12):
        total = sum(b[:p])
        out[f"con_month_hhi_{p}m"] = sum((x / total) ** 2 for x in b[:p]) if total else None
    for w in LONG:
        s = f.within(f.ok, w)
        a = [e.amount / case.scale for e in s]
        n = len(a)
        counts = Counter(a)
        most = max(counts.values(), default=0)
        mu, med = mean(a), quantile(a, 0.5)
        out[f"con_amt_mean_{w}"], out[f"con_amt_p50_{w}"] = mu, med
        out[f"con_amt_mode_{w}"] = min((x for x in counts if counts[x] == most), default=None)
        out[f"con_mode_share_{w}"] = most / n if n >= 2 else None
        out[f"con_mean_minus_median_{w}"] = mu - med if n >= 2 else None  # type: ignore[operator]
        out[f"con_mean_over_median_{w}"] = ratio(mu, med) if n >= 2 else None
        out[f"con_payee_cnt_{w}"] = len({e.party for e in s if e.party})
        if w != "7d":
            for q in (10, 25, 75, 90):
                out[f"con_amt_p{q}_{w}"] = quantile(a, q / 100)
        if w in ("90d", "365d"):
            sd = std(a)
            out[f"con_skew2_{w}"] = ratio(3 * (mu - med), sd) if n >= 3 else None  # type: ignore[operator]
            ordered = sorted(a)
            out[f"con_trim_mean_{w}"] = mean(ordered[1:-1]) if n >= 3 else None
            out[f"con_top3_share_{w}"] = ratio(sum(ordered[-3:]), sum(a)) if n >= 3 else None
            weighted = sum((2 * i - n - 1) * x for i, x in enumerate(ordered, 1))
            out[f"con_gini_{w}"] = ratio(weighted, n * sum(a)) if n >= 3 else None
        if w in ("30d", "90d", "365d"):
            parts = shares(s, "party")
            out[f"con_payee_hhi_{w}"] = sum(x * x for x in parts) if parts else None
            if w != "365d":
                out[f"con_payee_top1_{w}"] = max(parts, default=None)
                out[f"con_day_top1_{w}"] = ratio(out[f"vol_max_day_amt_{w}"], f.money(s))
    s = f.within(f.ok, "30d")
    first = {e.party: e.at for e in reversed(f.ok)}
    fresh = [e for e in s if e.party and first[e.party] > f.t - 30 * D]
    out["con_new_payee_share"] = ratio(f.money(fresh), f.money(s))
    out["con_channel_top1"] = max(shares(f.within(f.ok, "90d"), "channel", "count"), default=None)
    purposes = shares(f.within(f.ok, "365d"), "code", "count")
    out["con_purpose_top1"], out["con_purpose_cnt"] = max(purposes, default=None), len(purposes) or None


def entropy(xs: list[int], categories: int) -> float:
    n = len(xs)
    return -sum(k / n * math.log(k / n) for k in Counter(xs).values()) / math.log(categories)


def dispersion(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    buckets = f.buckets(f.ok)
    c, b = [float(len(x)) for x in buckets], [f.money(x) for x in buckets]
    out["dsp_m_cnt_cv_12m"] = f.older_than(360, ratio(std(c), mean(c)))
    for p in (6, 12):
        out[f"dsp_m_amt_cv_{p}m"] = f.older_than(30 * p, ratio(std(b[:p]), mean(b[:p])))
    x = f.x
    for w in LONG:
        s = f.within(f.ok, w)
        a = [e.amount / case.scale for e in s]
        n, mu, sd, med = len(a), mean(a), std(a), quantile(a, 0.5)
        p25, p75 = quantile(a, 0.25), quantile(a, 0.75)
        out[f"dsp_amt_std_{w}"] = sd if n >= 2 else None
        out[f"dsp_amt_cv_{w}"] = ratio(sd, mu) if n >= 2 else None
        out[f"dsp_amt_iqr_{w}"] = p75 - p25 if n >= 2 else None  # type: ignore[operator]
        out[f"dsp_amt_range_{w}"] = max(a) - min(a) if n else None
        exact = [q.at - p.at for p, q in pairwise(s)]
        if w in ("30d", "90d", "180d"):
            out[f"dsp_gap_mean_{w}"] = sum(exact) / len(exact) / 1000 if n >= 2 else None
        if w in ("30d", "90d"):
            out[f"dsp_gap_min_{w}"] = min(exact) / 1000 if n >= 2 else None
        if w in ("90d", "180d"):
            gm = mean([float(g) for g in exact])
            gs = std([float(g) for g in exact])
            out[f"dsp_gap_cv_{w}"] = ratio(gs, gm) if n >= 3 else None
            out[f"dsp_burstiness_{w}"] = ratio(gs - gm, gs + gm) if n >= 3 else None  # type: ignore[operator]
        if w not in ("90d", "365d"):
            continue
        mad = float(np.median(np.abs(np.array(a) - med))) * 1.4826 if n else None
        out[f"dsp_amt_mad_{w}"] = mad if n >= 2 else None
        out[f"dsp_qcd_{w}"] = ratio(p75 - p25, p75 + p25) if n >= 2 else None  # type: ignore[operator]
        out[f"dsp_hour_entropy_{w}"] = entropy([e.hour for e in s], 24) if n >= 5 else None
        out[f"dsp_dow_entropy_{w}"] = entropy([e.dow for e in s], 7) if n >= 5 else None
        angles = [math.tau * e.hour / 24 for e in s]
        r = math.hypot(sum(map(math.cos, angles)), sum(map(math.sin, angles))) / n if n else 0.0
        circular = math.sqrt(max(-2 * math.log(r), 0.0)) * 24 / math.tau if r >= 1e-9 else None
        out[f"dsp_hour_circ_std_{w}"] = circular if n >= 5 else None
        z = ratio(x - mu, sd) if n >= 5 else None  # type: ignore[operator]
        out[f"dsp_z_now_{w}"] = None if z is None else min(max(z, -20), 20)
        z = ratio(x - med, mad) if n >= 5 else None  # type: ignore[operator]
        out[f"dsp_robust_z_now_{w}"] = None if z is None else min(max(z, -20), 20)
    a = [e.amount / case.scale for e in f.within(f.ok, "365d")]
    out["dsp_x_over_max"] = ratio(x, max(a, default=None))
    out["dsp_x_pctile"] = sum(y <= x for y in a) / len(a) if len(a) >= 5 else None


def anomaly(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    x, limit = f.x, case.limit / case.scale
    since_grant = f.age / 1000
    out["ano_secs_grant_to_now"] = since_grant
    mine = [e for e in f.ok if e.facility == case.facility and case.facility and e.at >= case.granted]
    for tau in ("10m", "1h", "24h", "72h"):
        early = [e for e in mine if e.at - case.granted <= WINDOWS[tau]]
        take = ratio(f.money(early) + x, limit)
        out[f"ano_since_grant_take_{tau}"] = take
        out[f"ano_fast_full_{tau}"] = (
            None if take is None else float(take >= 0.95 and since_grant <= WINDOWS[tau] / 1000)
        )
    out["ano_secs_grant_to_first"] = since_grant - (f.t - mine[0].at) / 1000 if mine else None
    raises = [e for e in f.h if e.kind == "limit_change" and e.status == BOOKED and e.value > 0
              and e.facility == case.facility and case.facility]  # fmt: skip
    out["ano_secs_limitup_to_now"] = (f.t - raises[-1].at) / 1000 if raises else None
    recent = f.within(raises, "72h")
    if recent:
        place = f.h.index(recent[-1])
        after = [e for e in f.h[place + 1 :] if any(e is ok for ok in f.ok) and e.facility == case.facility]
        out["ano_limitup_take"] = ratio(f.money(after) + x, recent[-1].value)
    else:
        out["ano_limitup_take"] = None
    for w in ("1m", "5m", "10m", "1h", "24h"):
        out[f"vel_req_cnt_{w}"] = len(f.within(f.draws, w)) + 1
    out["vel_amt_over_limit"] = ratio(f.money(f.within(f.ok, "24h")) + x, limit)
    before = f.within(f.draws, "48h")
    out["vel_secs_since_prev_req"] = (f.t - before[-1].at) / 1000 if before else None
    day = [*f.within(f.draws, "24h"), f.me]
    out["vel_burst10"] = max(sum(e.at <= o.at < e.at + 10 * M for o in day) for e in day)
    out["vel_1h_over_30d"] = ratio(len(f.within(f.draws, "1h")), len(f.within(f.draws, "30d")) / 720)
    out["vel_repay_redraw_s"] = (f.t - f.repaid[-1].at) / 1000 if f.repaid else None
    position = {id(e): i for i, e in enumerate(f.h)}

    def redrawn(e: E) -> bool:
        return any(
            position[id(r)] < position[id(e)] and e.at - r.at < D and e.amount >= 0.8 * r.amount for r in f.repaid
        )

    for w in ("30d", "90d"):
        out[f"vel_redraw_cnt_{w}"] = sum(redrawn(e) for e in f.within(f.ok, w))
    out["vel_redraw_ratio"] = ratio(
        f.money([e for e in f.within(f.ok, "90d") if redrawn(e)]), f.money(f.within(f.repaid, "90d"))
    )
    big = x >= 0.5 * f.available
    gap = out["vol_last_ok_gap_s"]
    out["vel_first_after_sleep"] = float(gap is not None and gap >= 90 * 86400 and big)
    probes = [e for e in f.within(f.ok, "1h") if e.amount / case.scale <= 0.01 * limit]
    out["vel_probe_then_big"] = float(bool(probes) and big)
    for w in ("7d", "30d"):
        out[f"vel_cust_dev_cnt_{w}"] = len({e.device for e in [*f.within(f.draws, w), f.me] if e.device})
    for w in ("1h", "24h"):
        logins = [e for e in f.h if e.kind == "login" and e.status in (HELD, FAILED, CANCELLED)]
        out[f"vel_login_fail_cnt_{w}"] = len(f.within(logins, w))
    changed = [e for e in f.h if e.kind == "credential_change" and e.code != code_key("device_bind")]
    out["vel_secs_pwdreset_to_now"] = (f.t - changed[-1].at) / 1000 if changed else None
    phones = [e for e in f.h if e.kind == "contact_change" and e.code in (0, code_key("phone"))]
    out["vel_secs_phonechg_to_now"] = (f.t - phones[-1].at) / 1000 if phones else None
    tries = 0
    for i, e in enumerate(day):
        declined = [d for d in day[:i] if d.status == HELD]
        tries += bool(declined) and e.amount < declined[-1].amount
    out["vel_decline_retry"] = tries


def amount_pattern(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    x = f.x
    sens = [e for e in f.ok if e.amount / case.scale in SENS]
    out["amt_is_sens"] = float(x in SENS)
    for w in ("1h", "24h", "7d", "30d"):
        out[f"amt_sens_cnt_{w}"] = len(f.within(sens, w)) + (x in SENS)
    s30, s90 = f.within(f.ok, "30d"), f.within(f.ok, "90d")
    out["amt_sens_share"] = ratio(len(f.within(sens, "30d")), len(s30))
    out["amt_sens_share__new"] = 0.0
    nines = [e for e in s90 if str(e.amount // case.scale).rstrip("0").endswith("9")]
    out["amt_ends9_share"] = len(nines) / len(s90) if len(s90) >= 3 else None
    run = 1
    for e in reversed(f.within(f.ok, "48h")):
        if e.amount != case.amount:
            break
        run += 1
    out["amt_eq_run"] = run
    for w in ("1h", "24h", "7d"):
        out[f"amt_eq_cnt_{w}"] = sum(e.amount == case.amount for e in f.within(f.ok, w)) + 1
    for w in ("24h", "7d", "30d"):
        out[f"amt_max_mult_{w}"] = max(Counter(f.amounts(f.within(f.ok, w))).values(), default=0)
    for w, s in (("30d", s30), ("90d", s90)):
        out[f"amt_distinct_ratio_{w}"] = len(set(f.amounts(s))) / len(s) if len(s) >= 3 else None
        rounds = sum(e.amount % (1000 * case.scale) == 0 for e in s)
        out[f"amt_round_share_{w}"] = rounds / len(s) if len(s) >= 3 else None
    near_any = False
    for thr in (50_000, 200_000, 300_000, 500_000):
        near = [e for e in f.ok if thr * 0.95 <= e.amount / case.scale < thr]
        is_near = thr * 0.95 <= x < thr
        near_any |= is_near
        out[f"amt_below_thr_{thr}"] = float(is_near)
        for w in ("24h", "7d", "30d"):
            out[f"amt_below_thr_cnt_{thr}_{w}"] = len(f.within(near, w)) + is_near
        for w in ("24h", "72h"):
            small = [e for e in [*f.within(f.ok, w), f.me] if e.amount / case.scale < thr]
            out[f"amt_split_sum_{thr}_{w}"] = f.money(small)
            hit = False
            for key in ("party", "code"):
                mine = getattr(f.me, key)
                same = [e for e in small if mine and getattr(e, key) == mine]
                hit |= len(same) >= 2 and f.money(same) >= thr
            out[f"amt_split_hit_{thr}_{w}"] = float(hit)
    out["amt_below_thr"] = float(near_any)
    out["amt_is_round"] = float(case.amount % (1_000 * case.scale) == 0)
    out["amt_is_round_100"] = float(case.amount % (100 * case.scale) == 0)
    out["amt_is_round_10000"] = float(case.amount % (10_000 * case.scale) == 0)
    out["amt_has_cents"] = float(case.amount % case.scale != 0)
    over = ratio(x, f.available)
    out["amt_over_avail"] = None if over is None else min(max(over, 0), 10)
    out["amt_is_all"] = float(0 <= f.available - x < 100)
    out["amt_escalation"] = ratio(x, s30[-1].amount / case.scale) if s30 else None


def time_of_day(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    odd = ODD[0] <= f.hour < ODD[1]
    out["tod_is_odd"] = float(odd)
    for w in ("30d", "90d"):
        out[f"tod_odd_share_{w}"] = ratio(out[f"vol_odd_cnt_{w}"], out[f"vol_req_cnt_{w}"])
        out[f"tod_odd_amt_share_{w}"] = ratio(out[f"vol_odd_amt_{w}"], out[f"vol_req_amt_{w}"])
    year = f.within(f.ok, "365d")
    out["tod_first_odd"] = float(odd and not f.within(f.odd, "365d"))
    out["tod_hour_prob"] = (sum(e.hour == f.hour for e in year) + 1) / (len(year) + 24)
    out["tod_dow_prob"] = (sum(e.dow == f.dow for e in year) + 1) / (len(year) + 7)
    s = f.within(f.ok, "90d")
    out["tod_weekend_share"] = sum(e.dow >= 5 for e in s) / len(s) if len(s) >= 3 else None
    out["tod_days_to_due"] = case.days_to_due
    dues = [(i, e) for i, e in enumerate(f.h) if e.kind == "due"]
    position = {id(e): i for i, e in enumerate(f.h)}
    out["tod_draw_on_due"] = sum(any(i > position[id(e)] and d.at - e.at < D for i, d in dues) for e in s)


def geography(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    fixes = [e for e in f.h if e.place is not None]
    here = f.me.place
    near = f.within(fixes, "48h")
    names = ("geo_km_prev", "geo_kmh", "geo_impossible")
    out.update(dict.fromkeys(names))
    out["geo_secs_prev"] = (f.t - near[-1].at) / 1000 if near else None
    if near and here is not None:
        last = near[-1].place
        assert last is not None
        km = haversine(last[:2], here[:2])
        slack = sum(ACCURACY_M[c - 1] for c in (last[2], here[2]) if c) / 1000
        speed = min(max(km - slack, 0) / max((f.t - near[-1].at) / 1000, 1) * 3600, 1e5)
        out["geo_km_prev"], out["geo_kmh"] = km, speed
        out["geo_impossible"] = float(speed > 900 and km > 100 and 0 < last[2] <= 7 and 0 < here[2] <= 7)
    home = [e.place for e in f.within(fixes, "90d") if e.place is not None]
    out["geo_km_home"] = None
    if len(home) >= 5 and here is not None:
        middle = statistics.median(p[0] for p in home), statistics.median(p[1] for p in home)
        out["geo_km_home"] = haversine(middle, here[:2])

    def city(place: tuple[float, float, int]) -> tuple[int, int]:
        return (round(place[0] * 1e6) + 360_000_000) // 500_000, (round(place[1] * 1e6) + 360_000_000) // 500_000

    year = [city(e.place) for e in f.within(fixes, "365d") if e.place is not None]
    out["geo_new_city"] = float(city(here) not in year) if here is not None and year else None
    for days in (1, 7, 30):
        known = [city(e.place) for e in f.within(fixes, days * D) if e.place is not None]
        out[f"geo_city_cnt_{days}d"] = len({*known, *([city(here)] if here is not None else [])})
    seen = [e for e in f.h if e.device == case.device]
    age = None if not case.device else (f.t - seen[0].at) / 1000 if seen else 0.0
    out["dev_is_new"] = None if age is None else float(age <= 86400)
    out["dev_age_d"] = None if age is None else age / 86400
    bound = [e for e in seen if e.kind == "credential_change" and e.code == code_key("device_bind") and case.device]
    out["dev_secs_bind_to_now"] = (f.t - bound[-1].at) / 1000 if bound else None


def rest(case: Case, f: Facts, out: dict[str, float | None]) -> None:
    for w in ("24h", *LONG, "450d", "455d", "720d"):
        age = f.t - max(case.granted, case.trimmed_through)
        out[f"hist_cov_{w}"] = min(max(age, 0), WINDOWS[w]) / WINDOWS[w]
        out[f"hist_truncated_{w}"] = float(case.trimmed_through > f.t - WINDOWS[w])
    out["mob_months"] = math.floor(case.inputs["facility.age_d"] / 30)


def events_of(log: bytes) -> list[Event]:
    """The events of a packed log."""
    return [unpack(log[i : i + 64]) for i in range(64, len(log), 64)]

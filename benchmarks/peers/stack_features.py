"""The features of benchmarks/policies/peers in pandas, as a team that watches its latency would write them.

One frame for each kind, in order of time, of the columns that features of the kind look at, built from NumPy arrays (a
frame of dicts with `astype` costs ten times as much); what a draw came to is settled before; a window is a slice found
with `searchsorted`, `(t - W, t]`. Money is in whole cents up to the last step, so that equal amounts have no spread.
Unknown is NaN, never 0. The local hour is UTC + 8 h: right in China since 1991, and much cheaper than a time zone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from stack_store import WINDOWS_MS, Events

UTC_OFFSET_MS: Final = 8 * 3_600_000
RESERVED_FOR_MS: Final = 86_400_000
NAN: Final = float("nan")
SUCCEEDED: Final = frozenset({"approved", "booked"})
FAILED: Final = frozenset({"failed", "held", "cancelled"})
Values = dict[str, float]


class Histories:
    """A customer's events as frames, by kind and window; windows that were not read are cut out of the longest.

    `drawdown` are all requests, `drawn` those that succeeded, `repayment` those that were booked, `login` those that
    failed: what features ask for, so that no window has to be filtered again.
    """

    def __init__(self, events: Mapping[tuple[str, str], Events], t_ms: int) -> None:
        self._t_ms = t_ms
        settled = {event["of"]: event for event in events[("settlement", "365d")]}  # in order of time: the newest stays
        self._read: dict[str, dict[str, pd.DataFrame]] = {}
        self._longest: dict[str, pd.DataFrame] = {}
        self._raw = {kind: found for (kind, window), found in events.items() if window == "365d"}
        for (kind, window), found in events.items():
            if kind == "drawdown":
                _settle(found, settled)
                self._keep("drawdown", window, _requests(found))
                self._keep("drawn", window, _drawn([event for event in found if event["status"] in SUCCEEDED]))
            elif kind == "repayment":
                self._keep(kind, window, _plain([event for event in found if event["status"] == "booked"], "amount"))
            elif kind == "login":
                self._keep(kind, window, _plain([event for event in found if event["status"] in FAILED]))
            elif kind == "overdue":
                self._keep(kind, window, _plain(found, "value"))
            elif kind != "settlement":
                self._keep(kind, window, _plain(found))

    def _keep(self, kind: str, window: str, frame: pd.DataFrame) -> None:
        self._read.setdefault(kind, {})[window] = self._longest[kind] = frame  # the longest window comes last

    def window(self, kind: str, window: str) -> pd.DataFrame:
        """The events of a kind in a window; cut once."""
        read = self._read[kind]
        if window not in read:
            longest = self._longest[kind]
            read[window] = longest.iloc[self._first(longest, window) :]
        return read[window]

    def count(self, kind: str, window: str) -> int:
        """How many events of a kind are in a window, without cutting it out."""
        read = self._read[kind]
        if window in read:
            return len(read[window])
        longest = self._longest[kind]
        return len(longest) - self._first(longest, window)

    def _first(self, frame: pd.DataFrame, window: str) -> int:
        return int(frame["at"].to_numpy().searchsorted(self._t_ms - WINDOWS_MS[window], side="right"))

    def position(self, line: Mapping[str, Any], facility: str) -> tuple[int, int]:
        """Outstanding and reserved of a line in cents, from its snapshot and what happened since."""
        outstanding, reserved = line["outstanding"], 0
        for draw in self._raw["drawdown"]:
            if draw["facility"] != facility:
                continue
            if draw["status"] == "booked" and draw["settled_at"] > line["as_of"]:
                outstanding += draw["amount"]
            elif draw["status"] == "approved":
                since = max(draw["settled_at"], draw.get("decided_at", 0))
                reserved += draw["amount"] if self._t_ms - since < RESERVED_FOR_MS else 0
        for paid in self._raw["repayment"]:
            if paid["facility"] == facility and paid["status"] == "booked" and paid["at"] > line["as_of"]:
                outstanding -= paid["amount"]
        return max(outstanding, 0), reserved


def _settle(draws: Events, settled: Mapping[str, dict[str, Any]]) -> None:
    """Tell draws what became of them."""
    for draw in draws:
        later = settled.get(draw["id"], draw)
        draw["status"], draw["settled_at"] = later["status"], later["at"]


def _column(events: Events, name: str) -> np.ndarray:
    return np.array([event[name] for event in events], np.int64)


def _requests(draws: Events) -> pd.DataFrame:
    at = _column(draws, "at")
    hour = (at + UTC_OFFSET_MS) // 3_600_000 % 24
    return pd.DataFrame({
        "at": at, "declined": np.array([draw["status"] == "held" for draw in draws], bool),
        "odd": (hour >= 2) & (hour < 5), "device": np.array([draw["device"] for draw in draws], object),
    }, copy=False)  # fmt: skip


def _drawn(draws: Events) -> pd.DataFrame:
    payees = np.array([draw["payee"] for draw in draws], object)
    return pd.DataFrame({"at": _column(draws, "at"), "amount": _column(draws, "amount"), "payee": payees}, copy=False)


def _plain(events: Events, *columns: str) -> pd.DataFrame:
    more = {name: _column(events, name) for name in columns}
    return pd.DataFrame({"at": _column(events, "at"), **more}, copy=False)


def line_values(line: Mapping[str, Any], outstanding: int, reserved: int, t_ms: int) -> Values:
    """What rules and features ask of the line: money in yuan, times in days."""
    return {
        "line_limit": line["limit"] / 100, "line_outstanding": outstanding / 100, "line_reserved": reserved / 100,
        "line_available": (line["limit"] - outstanding - reserved) / 100,
        "line_age_d": (t_ms - line["granted_at"]) / 86_400_000,
        "line_days_past_due": NAN if line["days_past_due"] is None else line["days_past_due"],
        "line_days_to_expiry": NAN if line["expires_at"] is None else (line["expires_at"] - t_ms) / 86_400_000,
        "line_days_since_review": NAN if line["reviewed_at"] is None else (t_ms - line["reviewed_at"]) / 86_400_000,
    }  # fmt: skip


def features(histories: Histories, line: Values, amount: float, device: str | None, t_ms: int) -> Values:
    """Every feature of the policy by name."""
    values: Values = {}
    _draws(histories, values)
    _velocity(histories, device, values)
    _others(histories, values)
    _derived(line, amount, values)
    for name, kind in (
        ("vol_last_ok_gap_s_365d", "drawn"), ("vel_repay_redraw_s_365d", "repayment"),
        ("vel_pwdreset_s_365d", "credential_change"),
    ):  # fmt: skip
        at = histories.window(kind, "365d")["at"]
        values[name] = (t_ms - at.iloc[-1]) / 1000 if len(at) else NAN
    return values


def _draws(histories: Histories, values: Values) -> None:
    """How much and how often was drawn."""
    for w in ("24h", "7d", "30d", "90d"):
        requests, drawn = histories.window("drawdown", w), histories.window("drawn", w)
        amounts = drawn["amount"]
        total = amounts.sum()
        values[f"vol_req_cnt_{w}"] = len(requests)
        values[f"vol_ok_cnt_{w}"] = len(drawn)
        values[f"vol_ok_amt_{w}"] = total / 100
        values[f"vol_fail_cnt_{w}"] = len(requests) - len(drawn)
        if w != "90d":
            values[f"vol_risk_decline_cnt_{w}"] = requests["declined"].sum()
        if w != "24h":
            values[f"con_amt_mean_{w}"] = total / len(drawn) / 100 if len(drawn) else NAN
        if w in ("30d", "90d"):
            values[f"vol_odd_cnt_{w}"] = requests["odd"].sum()
            values[f"vol_max_amt_{w}"] = amounts.max() / 100
            values[f"con_payee_cnt_{w}"] = drawn["payee"].nunique()
            values[f"dsp_amt_std_{w}"] = amounts.std(ddof=0) / 100 if len(drawn) >= 2 else NAN
    values["vol_min_amt_90d"] = amounts.min() / 100


def _velocity(histories: Histories, device: str | None, values: Values) -> None:
    """How fast requests come, this one included."""
    for w in ("10m", "1h", "24h"):
        values[f"vel_req_cnt_{w}"] = histories.count("drawdown", w) + 1
    for w in ("7d", "30d"):
        devices = {*histories.window("drawdown", w)["device"].dropna(), device}
        values[f"vel_cust_dev_cnt_{w}"] = len(devices - {None})
    for w in ("1h", "24h"):
        values[f"vel_login_fail_cnt_{w}"] = histories.count("login", w)


def _others(histories: Histories, values: Values) -> None:
    """Repayments, arrears, inquiries and changes."""
    for w in ("30d", "90d"):
        paid = histories.window("repayment", w)
        values[f"rpy_paid_cnt_{w}"] = len(paid)
        values[f"rpy_paid_amt_{w}"] = paid["amount"].sum() / 100
        values[f"inq_cnt_{w}"] = histories.count("inquiry", w)
        values[f"prf_contact_chg_cnt_{w}"] = histories.count("contact_change", w)
    for w in ("90d", "365d"):
        overdue = histories.window("overdue", w)
        values[f"rpy_dpd_max_{w}"] = overdue["value"].max() if len(overdue) else 0
        if w == "90d":
            values["rpy_od_cnt_90d"] = len(overdue)


def _derived(line: Values, amount: float, values: Values) -> None:
    """What follows from the other values."""
    for w in ("7d", "30d", "90d"):
        values[f"vol_fail_rate_{w}"] = _share(values[f"vol_fail_cnt_{w}"], values[f"vol_req_cnt_{w}"])
        values[f"utl_drawn_{w}"] = _share(values[f"vol_ok_amt_{w}"], line["line_limit"])
    for w in ("30d", "90d"):
        values[f"vol_odd_share_{w}"] = _share(values[f"vol_odd_cnt_{w}"], values[f"vol_req_cnt_{w}"])
    mean, std = values["con_amt_mean_90d"], values["dsp_amt_std_90d"]
    enough = values["vol_ok_cnt_90d"] >= 5
    values["dsp_amt_cv_90d"] = _share(std, mean)
    values["dsp_z_now_90d"] = min(max(_share(amount - mean, std), -20), 20) if enough and std > 0 else NAN
    values["trd_ticket_ratio"] = _share(values["con_amt_mean_30d"], mean)
    values["trd_cnt_ratio"] = _share(values["vol_ok_cnt_30d"], values["vol_ok_cnt_90d"] / 3)
    values["rpy_paid_over_drawn_90d"] = _share(values["rpy_paid_amt_90d"], values["vol_ok_amt_90d"])
    values["utl_now"] = _share(line["line_outstanding"], line["line_limit"])
    values["utl_after"] = _share(line["line_outstanding"] + line["line_reserved"] + amount, line["line_limit"])
    values["vel_amt_over_limit"] = _share(values["vol_ok_amt_24h"] + amount, line["line_limit"])
    values["mob_months"] = math.floor(line["line_age_d"] / 30)


def _share(part: float, whole: float) -> float:
    """A ratio; unknown over nothing."""
    return part / whole if whole != 0 else NAN

"""The same features as an analyst writes them in NumPy and in pandas, for the comparison in `features_kernel.py`.

Both get a customer's history already parsed into columns, with the effective statuses worked out: reading the log,
sorting it and following settlements, which the kernel does in every call, costs them nothing. Sixty features of rows V,
C and D: for each of five windows the count and sum of all, successful and failed draws, largest, smallest, mean,
median, standard deviation of the successful ones, and their number of payees.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from decision_service.core.event import APPROVED, CANCELLED, DRAWDOWN, FLAG_SETTLES, HELD, Words
from decision_service.core.ledger import resolve
from decision_service.core.limits import DAY_MS

WINDOWS_D: Final = (7, 30, 90, 180, 365)
ROWS: Final = (
    "vol_req_cnt", "vol_req_amt", "vol_ok_cnt", "vol_ok_amt", "vol_fail_cnt", "vol_fail_amt", "vol_max_amt",
    "vol_min_amt", "con_amt_mean", "con_amt_p50", "dsp_amt_std", "con_payee_cnt",
)  # fmt: skip
NAMES: Final = tuple(f"{row}_{days}d" for days in WINDOWS_D for row in ROWS)
_NAN: Final = float("nan")


def columns_of(words: Words, t_ms: int) -> dict[str, npt.NDArray[np.int64]]:
    """Draws seen at `t_ms`, in order of time."""
    n = len(words) - 1
    statuses, settled_at = np.zeros(n, np.uint8), np.zeros(n, np.int64)
    resolve(words, t_ms, statuses, settled_at)
    records = words[1:]
    kind, flags = records[:, 4] & 0xFF, (records[:, 4] >> 24) & 0xFF
    seen = (records[:, 0] <= t_ms) & (flags & FLAG_SETTLES == 0) & (kind == DRAWDOWN)
    at = np.flatnonzero(seen)
    at = at[np.argsort(records[at, 0], kind="stable")]
    return {
        "at": records[at, 0], "status": statuses[at].astype(np.int64), "amount": records[at, 2],
        "payee": records[at, 7],
    }  # fmt: skip


def by_numpy(columns: dict[str, npt.NDArray[np.int64]], t_ms: int) -> list[float]:
    """In the order of NAMES."""
    at, status = columns["at"], columns["status"]
    amount, payee = columns["amount"] / 100, columns["payee"]
    good, bad = status <= APPROVED, (status >= HELD) & (status <= CANCELLED)
    values: list[float] = []
    for days in WINDOWS_D:
        first = int(np.searchsorted(at, t_ms - days * DAY_MS, "right"))
        all_, ok, failed = amount[first:], amount[first:][good[first:]], amount[first:][bad[first:]]
        payees = payee[first:][good[first:]]
        values += (len(all_), all_.sum(), len(ok), ok.sum(), len(failed), failed.sum())
        values += (ok.max(), ok.min(), ok.mean(), np.quantile(ok, 0.5)) if len(ok) else (_NAN,) * 4
        values += (ok.std() if len(ok) >= 2 else _NAN, len(np.unique(payees[payees != 0])))
    return values


def frame_of(columns: dict[str, npt.NDArray[np.int64]]) -> pd.DataFrame:
    """The columns as a frame, absent payees as missing."""
    frame = pd.DataFrame(columns)
    frame["amount"] /= 100
    frame["payee"] = frame["payee"].where(frame["payee"] != 0)
    return frame


def by_pandas(frame: pd.DataFrame, t_ms: int) -> list[float]:
    """In the order of NAMES."""
    values: list[float] = []
    for days in WINDOWS_D:
        part = frame[frame["at"] > t_ms - days * DAY_MS]
        all_, ok = part["amount"], part[part["status"] <= APPROVED]
        failed = part.loc[part["status"].between(HELD, CANCELLED), "amount"]
        good = ok["amount"]
        values += (len(all_), all_.sum(), len(good), good.sum(), len(failed), failed.sum())
        values += (good.max(), good.min(), good.mean(), good.quantile(0.5), good.std(ddof=0) if len(good) > 1 else _NAN)
        values.append(ok["payee"].nunique())
    return values

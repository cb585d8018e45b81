"""The card-default task: UCI's clients as a table of features, an outcome and a part, for `decision-service train`.

"Default of Credit Card Clients" (Yeh and Lien 2009, Expert Systems with Applications 36(2); UCI Machine Learning
Repository, CC BY 4.0): 30,000 clients of a bank in Taiwan in 2005 with their limit, six months of repayment status,
bills and payments, and whether they defaulted in the next month (22.12 %). Expected at ../shared/data beside the
repository. The published split is `train_test_split(test_size=0.2, random_state=42)`, not stratified.

Month 1 is the newest (September), 6 the oldest (April). Sex, marriage, age and education are left out: a behaviour
scorecard speaks of behaviour.

    limit                   credit limit
    status_k                repayment status: -2 no use, -1 paid in full, 0 revolving, n months late
    late_k                  months late, 0 if not late
    late_max, late_sum, late_mean_3, late_cnt, late2_cnt      over six months (the mean over three); late2: 2 or more
    since_late              months since the newest late one, 6 if none
    full_cnt, revolving_cnt, unused_cnt                       months of status -1, 0, -2
    utl_k, utl_mean, utl_max, utl_delta_3, utl_delta_6        bill by limit; now against month 3 and month 6
    paid_k, paid_sum, paid_sum_3, paid_min, unpaid_cnt        what was paid; months without any payment
    paid_by_limit           mean payment by limit
    ratio_k, ratio          payment of month k by the bill before it, 2 at most; unknown without a bill
    rest_1, rest_mean       what the payment left of the bill before it, by limit
    bill_1, headroom        newest bill; limit less that bill
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from measures import DATA
from sklearn.model_selection import train_test_split

FILE = DATA / "card_clients_taiwan.parquet"
MONTHS = range(1, 7)
RATIO_MAX = 2.0
JUDGE = "judge"

Floats = npt.NDArray[np.float64]


def clients() -> pd.DataFrame:
    """Features, `default` and `part` (`train` or `judge`), a row a client in the file's order."""
    raw = pd.read_parquet(FILE)
    _, test = train_test_split(np.arange(len(raw)), test_size=0.2, random_state=42)
    part = np.full(len(raw), "train", dtype=object)
    part[test] = JUDGE
    label = raw["default.payment.next.month"].to_numpy(np.int64)
    return pd.DataFrame(features(raw) | {"default": label, "part": part})


def features(raw: pd.DataFrame) -> dict[str, Floats]:
    """Every feature of the docstring."""
    status = raw[["PAY_0", *(f"PAY_{k}" for k in MONTHS if k > 1)]].to_numpy(float)
    bill = raw[[f"BILL_AMT{k}" for k in MONTHS]].to_numpy(float)
    paid = raw[[f"PAY_AMT{k}" for k in MONTHS]].to_numpy(float)
    limit = raw.LIMIT_BAL.to_numpy(float)
    found = {"limit": limit, "bill_1": bill[:, 0], "headroom": limit - bill[:, 0]}
    return found | lateness(status) | use(bill / limit[:, None]) | payments(bill, paid, limit)


def lateness(status: Floats) -> dict[str, Floats]:
    """How late the client was, and how the line was used."""
    late = np.maximum(status, 0.0)
    was_late = late > 0
    found = _by_month("status", status) | _by_month("late", late)
    return found | {
        "late_max": late.max(axis=1), "late_sum": late.sum(axis=1), "late_mean_3": late[:, :3].mean(axis=1),
        "late_cnt": was_late.sum(axis=1).astype(float), "late2_cnt": (late >= 2).sum(axis=1).astype(float),
        "since_late": np.where(was_late.any(axis=1), was_late.argmax(axis=1), 6).astype(float),
        "full_cnt": (status == -1).sum(axis=1).astype(float), "unused_cnt": (status == -2).sum(axis=1).astype(float),
        "revolving_cnt": (status == 0).sum(axis=1).astype(float),
    }  # fmt: skip


def use(utilisation: Floats) -> dict[str, Floats]:
    """Use of the line, and how it moves."""
    return _by_month("utl", utilisation) | {
        "utl_mean": utilisation.mean(axis=1), "utl_max": utilisation.max(axis=1),
        "utl_delta_3": utilisation[:, 0] - utilisation[:, 2], "utl_delta_6": utilisation[:, 0] - utilisation[:, 5],
    }  # fmt: skip


def payments(bill: Floats, paid: Floats, limit: Floats) -> dict[str, Floats]:
    """What was paid, by itself, by the bill before it and by the limit."""
    due, left = np.maximum(bill[:, 1:], 0.0), (bill[:, 1:] - paid[:, :5]) / limit[:, None]
    found = _by_month("paid", paid) | _by_month("ratio", _ratio(paid[:, :5], due))
    return found | {
        "ratio": _ratio(paid[:, :5].sum(axis=1), due.sum(axis=1)), "rest_1": left[:, 0], "rest_mean": left.mean(axis=1),
        "paid_sum": paid.sum(axis=1), "paid_sum_3": paid[:, :3].sum(axis=1), "paid_min": paid.min(axis=1),
        "paid_by_limit": paid.mean(axis=1) / limit, "unpaid_cnt": (paid == 0).sum(axis=1).astype(float),
    }  # fmt: skip


def _ratio(paid: Floats, due: Floats) -> Floats:
    ratio = np.divide(paid, due, out=np.full(due.shape, np.nan), where=due > 0)
    return np.minimum(ratio, RATIO_MAX)


def _by_month(name: str, columns: Floats) -> dict[str, Floats]:
    return {f"{name}_{k}": columns[:, k - 1] for k in range(1, columns.shape[1] + 1)}

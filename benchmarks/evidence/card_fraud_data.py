"""The card-fraud task of the Fraud Detection Handbook: its payments as files of events, its features without this
service, its split and its measures.

Simulated card payments (Le Borgne, Siblini, Lebichot and Bontempi, ULB 2022), 2018-06-18 to 2018-08-14, expected at
../shared/data beside the repository. The features are computed here with NumPy from the file alone; the split and the
measures follow the book's `get_train_test_set` and `card_precision_top_k`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import measures
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from sklearn.metrics import average_precision_score, roc_auc_score

from decision_service.core.limits import DAY_MS

DATA = measures.DATA / "card_transactions.parquet"
RULES = Path(__file__).with_name("card_fraud") / "rules"
DAYS = (1, 7, 30)
DELAY_D = 7
FEATURES = [
    "card_amount", "card_weekend", "card_night",
    *(f"card_{what}_{days}d" for what in ("customer_cnt", "customer_mean") for days in DAYS),
    *(f"card_{what}_{days}d" for what in ("terminal_cnt", "terminal_risk") for days in DAYS),
]  # fmt: skip
TOP = 100

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def payments() -> pd.DataFrame:
    """All payments in the file's order, with their instants in ms UTC and whole cents."""
    return with_instants(pd.read_parquet(DATA))


def with_instants(table: pd.DataFrame) -> pd.DataFrame:
    """A table of payments with `at_ms` and `cents`."""
    cents = (table.TX_AMOUNT * 100).round().astype("int64")
    return table.assign(at_ms=pd.DatetimeIndex(table.TX_DATETIME).as_unit("ms").asi8, cents=cents)


def write_events(table: pd.DataFrame, path: Path) -> None:
    """Every payment as a drawdown, and a label DELAY_D days after each that was a fraud, in order of time.

    A label comes before what happens in the same instant: the book's delay is over when it is over.
    """
    fraud = table[table.TX_FRAUD == 1]
    rows = pd.DataFrame(
        {
            "customer_id": table.CUSTOMER_ID, "event_id": table.TRANSACTION_ID.astype(str),
            "kind": np.where(table.cents > 0, "drawdown", "other"), "occurred_at": table.at_ms,
            "amount": table.TX_AMOUNT, "counterparty_id": table.TERMINAL_ID, "order": 1,
        }
    )  # fmt: skip
    labels = pd.DataFrame(
        {
            "customer_id": fraud.CUSTOMER_ID, "event_id": "fraud-" + fraud.TRANSACTION_ID.astype(str), "kind": "label",
            "occurred_at": fraud.at_ms + DELAY_D * DAY_MS, "counterparty_id": fraud.TERMINAL_ID, "category": "fraud",
            "about_event_id": fraud.TRANSACTION_ID.astype(str), "order": 0,
        }
    )  # fmt: skip
    events = pd.concat([rows, labels]).sort_values(["occurred_at", "order"], kind="stable").drop(columns="order")
    parquet.write_table(pa.Table.from_pandas(events, preserve_index=False), path, row_group_size=50_000)


def write_questions(table: pd.DataFrame, path: Path) -> None:
    """Every payment's own decision."""
    ids = table.TRANSACTION_ID.astype(str).to_list()
    parquet.write_table(pa.table({"event_id": ids}), path, row_group_size=50_000)


def independent(table: pd.DataFrame) -> pd.DataFrame:
    """The 15 features of every payment, without this service."""
    at = pd.DatetimeIndex(table.TX_DATETIME)
    found = {
        "card_amount": table.cents / 100, "card_weekend": (at.weekday >= 5).astype(float),
        "card_night": (at.hour <= 6).astype(float),
    }  # fmt: skip
    found |= {name: np.zeros(len(table)) for name in FEATURES if name not in found}
    for rows in table.groupby("CUSTOMER_ID").indices.values():
        of_customer(table, rows, found)
    for rows in table.groupby("TERMINAL_ID").indices.values():
        of_terminal(table, rows, found)
    return pd.DataFrame(found, index=table.index)[FEATURES]


def of_customer(table: pd.DataFrame, rows: Ints, found: dict[str, Floats]) -> None:
    """Count and mean over (t - W, t], the payment itself and what came before it in the same second included."""
    at_ms, total = table.at_ms.to_numpy()[rows], np.concatenate(([0], np.cumsum(table.cents.to_numpy()[rows])))
    end = np.arange(1, len(rows) + 1)
    for days in DAYS:
        begin = np.searchsorted(at_ms, at_ms - days * DAY_MS, side="right")
        found[f"card_customer_cnt_{days}d"][rows] = end - begin
        found[f"card_customer_mean_{days}d"][rows] = (total[end] - total[begin]) / ((end - begin) * 100)


def of_terminal(table: pd.DataFrame, rows: Ints, found: dict[str, Floats]) -> None:
    """Count and share of fraud over (t - 7 d - W, t - 7 d]; the share is 0 where there is nothing."""
    at_ms, frauds = table.at_ms.to_numpy()[rows], np.concatenate(([0], np.cumsum(table.TX_FRAUD.to_numpy()[rows])))
    end = np.searchsorted(at_ms, at_ms - DELAY_D * DAY_MS, side="right")
    for days in DAYS:
        begin = np.searchsorted(at_ms, at_ms - (DELAY_D + days) * DAY_MS, side="right")
        count = end - begin
        found[f"card_terminal_cnt_{days}d"][rows] = count
        found[f"card_terminal_risk_{days}d"][rows] = (frauds[end] - frauds[begin]) / np.maximum(count, 1)


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to learn from and rows to test on, as positions in the table."""

    train: Ints
    test: Ints


def split(table: pd.DataFrame, first_day: str, days: int = 7) -> Split:
    """A week to learn from, DELAY_D days during which labels arrive, a week to test on; of the test days the cards
    known by then to be defrauded are removed: those of the training week, and day by day those whose delay is over."""
    day = (table.at_ms.to_numpy() - pd.Timestamp(first_day).value // 10**6) // DAY_MS
    customer, fraud = table.CUSTOMER_ID.to_numpy(), table.TX_FRAUD.to_numpy() == 1
    train = np.flatnonzero((day >= 0) & (day < days))
    known = set(customer[train][fraud[train]].tolist())
    tests = []
    for k in range(days):
        known |= set(customer[(day == days + k - 1) & fraud].tolist())
        rows = np.flatnonzero(day == days + DELAY_D + k)
        tests.append(rows[~np.isin(customer[rows], list(known))])
    return Split(train, np.concatenate(tests))


@dataclass(frozen=True, slots=True)
class Measures:
    """What the book measures."""

    auc: float
    average_precision: float
    card_precision: float


def measure(table: pd.DataFrame, rows: Ints, score: Floats) -> Measures:
    """AUC, average precision, and the mean over days of the share of compromised cards among the TOP suspected, cards
    found on a day removed from the next ones."""
    tested = table.iloc[rows].assign(score=score)
    found: set[int] = set()
    shares = []
    for _, of_day in tested.groupby(tested.at_ms // DAY_MS):
        cards = of_day[~of_day.CUSTOMER_ID.isin(found)].groupby("CUSTOMER_ID")[["score", "TX_FRAUD"]].max()
        suspected = cards.sort_values("score", ascending=False, kind="stable").head(TOP)
        compromised = suspected.index[suspected.TX_FRAUD == 1]
        found |= set(compromised.tolist())
        shares.append(len(compromised) / TOP)
    truth = tested.TX_FRAUD.to_numpy()
    return Measures(
        float(roc_auc_score(truth, score)), float(average_precision_score(truth, score)), float(np.mean(shares))
    )

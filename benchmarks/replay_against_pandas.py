"""Replay real-sized card payments through the HTTP API and compare the features with pandas, row for row.

    python benchmarks/replay_against_pandas.py                  # at least 100,000 payments of whole customers
    python benchmarks/replay_against_pandas.py --payments 2000  # a quick look

What runs is the product: `decision-service serve` with the embedded store and a policy that approves everything
(`policies/replay`), and `decision-service replay` against it. Each payment is a drawdown at its own instant; its
answer's trace holds the count and the mean amount of the customer's payments in the last 1, 7 and 30 days, the payment
itself not included. pandas computes the same from the file alone, with rolling windows `(t - W, t]` over whole cents.

Data: the simulated card payments of the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot and Bontempi, ULB
2022), 2018-06-18 to 2018-08-14, expected at ../shared/data beside the repository. Payments of 0 are no drawdowns: the
service must refuse them, and pandas leaves them out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from decision_service.core.limits import DAY_MS
from servers import Server, free_port, serving

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "card_transactions.parquet"
PLACES = "card_terminals.parquet"
DAYS = (1, 7, 30)
FEATURES = [f"{what}_{days}d" for what in ("pay_cnt", "pay_mean_amt") for days in DAYS]
TEN_YEARS_D = 3_650


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out. `unequal` counts values that differ from pandas' in any bit."""

    payments: int
    customers: int
    refused_as_zero: int
    values: int
    unequal: int
    worst_relative: float
    replay_seconds: float
    payments_per_s: float

    @property
    def passed(self) -> bool:
        """Whether every value is equal."""
        return self.unequal == 0 and self.values == (self.payments - self.refused_as_zero) * len(FEATURES)


def sample(file: Path, payments: int) -> pd.DataFrame:
    """All payments of the fewest first customers that have at least so many, in the file's order."""
    table = pd.read_parquet(file)
    per_customer = table.groupby("CUSTOMER_ID").size().sort_index().cumsum()
    enough = per_customer.searchsorted(min(payments, len(table)))
    return table[per_customer.index[enough] >= table.CUSTOMER_ID].reset_index(drop=True)


def with_pandas(table: pd.DataFrame) -> pd.DataFrame:
    """The features of every payment above zero, in the table's order, from the table alone."""
    paid = table[table.TX_AMOUNT > 0]
    cents = (paid.TX_AMOUNT * 100).round().astype("int64").astype("float64")  # whole numbers: sums are exact
    at = pd.DatetimeIndex(paid.TX_DATETIME)
    expected = pd.DataFrame(index=paid.index)
    series = pd.DataFrame({"customer": paid.CUSTOMER_ID.to_numpy(), "cents": cents.to_numpy()}, index=at)
    series["row"] = paid.index.to_numpy()
    for days in DAYS:
        rolling = series.groupby("customer")["cents"].rolling(f"{days}D", closed="right")
        order = series.groupby("customer")["row"].rolling(1).max().to_numpy().astype("int64")
        count = pd.Series(rolling.count().to_numpy() - 1, index=order).reindex(paid.index)
        total = pd.Series(rolling.sum().to_numpy(), index=order).reindex(paid.index) - cents
        expected[f"pay_cnt_{days}d"] = count
        expected[f"pay_mean_amt_{days}d"] = total / (count.where(count > 0) * 100)
    return expected[FEATURES]


def replay(table: pd.DataFrame, directory: Path, lanes: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """What the service computed, by row, and the replay's own summary."""
    file, out, port = directory / "payments.parquet", directory / "answers.parquet", free_port()
    table.to_parquet(file)
    environment = {
        "DECISION_SERVICE_REQUEST_AGE_MAX_MS": str(TEN_YEARS_D * DAY_MS),
        "DECISION_SERVICE_RETENTION_DAYS": str(TEN_YEARS_D),
        "DECISION_SERVICE_RATE_LIMIT_PER_S": "0",
        "DECISION_SERVICE_LOG_LEVEL": "warning",
    }
    command = [
        "serve", "--port", str(port), "--data-dir", str(directory / "data"), "--rules",
        str(ROOT / "benchmarks" / "policies" / "replay"), "--models", str(directory / "none"),
    ]  # fmt: skip
    log = directory / "service.log"
    with serving([program(), *command], port, every_core(), "/readyz", log, environment) as service:
        summary = run_replay(service, file, out, lanes)
    answers = pd.read_parquet(out).set_index("row").sort_index()
    return answers, summary


def run_replay(service: Server, file: Path, out: Path, lanes: int) -> dict[str, float]:
    """`decision-service replay` as a person would call it; its JSON summary."""
    done = subprocess.run(
        [
            program(), "replay", str(file), "--url", service.url, "--places", str(DATA.with_name(PLACES)),
            "--features", ",".join(FEATURES), "--lanes", str(lanes), "--out", str(out), "--json",
        ],
        stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        sys.exit(f"the replay failed with status {done.returncode}")
    summary: dict[str, float] = json.loads(done.stdout)
    return summary


def program() -> str:
    """The installed command."""
    return str(Path(sys.executable).with_name("decision-service"))


def every_core() -> set[int]:
    """The cores of this machine."""
    return os.sched_getaffinity(0)


def compare(payments: int, lanes: int) -> Comparison:
    """Replay, compute, compare."""
    table = sample(DATA, payments)
    expected = with_pandas(table)
    with tempfile.TemporaryDirectory() as name:
        answers, summary = replay(table, Path(name), lanes)
    refused = answers[answers.status != 200]
    assert list(refused.index) == list(table.index[table.TX_AMOUNT <= 0]), "only payments of 0 may be refused"
    got = answers[answers.status == 200][FEATURES].to_numpy(dtype="float64")
    want = expected.to_numpy(dtype="float64")
    equal = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(equal, 0.0, np.abs(got - want) / np.abs(want))
    return Comparison(
        len(table), int(table.CUSTOMER_ID.nunique()), len(refused), got.size, int((~equal).sum()),
        float(relative.max(initial=0.0)), summary["seconds"], summary["drawdowns_per_s"],
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; 0 if every value is equal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--payments", type=int, default=100_000, help="at least so many (%(default)s)")
    parser.add_argument("--lanes", type=int, default=32, help="customers decided at the same time (%(default)s)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    if not DATA.is_file():
        sys.exit(f"{DATA.name} is not there: see the docstring for where it comes from")
    found = compare(args.payments, args.lanes)
    if args.json:
        print(json.dumps(asdict(found)))
    else:
        print(f"{found.payments:,} payments of {found.customers:,} customers; {found.refused_as_zero} of 0 refused")
        print(f"replayed in {found.replay_seconds:,.1f} s, {found.payments_per_s:,.0f} payments/s")
        print(f"{found.values:,} values of {len(FEATURES)} features compared: {found.unequal} differ from pandas")
        if found.unequal:
            print(f"worst relative difference {found.worst_relative:.3g}")
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())

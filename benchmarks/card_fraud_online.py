"""Online is offline: card payments replayed through the HTTP API, and the features of a sample built from files.

    python benchmarks/card_fraud_online.py                     # 20,000 payments of whole customers, 1,000 compared
    python benchmarks/card_fraud_online.py --payments 1500 --sample 200

What runs is the product: `decision-service serve` with the embedded store and the policy in
`evidence/card_fraud/rules`. Payments are decided in order of time, each customer's one after the other and customers
side by side, a day at a time; when a day is over its frauds are posted as `label` events that happen 7 days after the
payment. The features of the sampled decisions come from `GET /v1/decisions/{id}`. Then the same history goes into a
file of events, as it was answered and recorded, and `decision-service features build` computes the rows of all
decisions: of the sampled ones every one of the 15 features must be equal to the bit.

Data: see evidence/card_fraud_data.py. Payments of 0 are no drawdowns and are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from decision_service.core.limits import DAY_MS
from decision_service.http_client import Client
from decision_service.replay import instant
from replay_against_pandas import TEN_YEARS_D, every_core, program, sample
from servers import free_port, serving

sys.path.insert(0, str(Path(__file__).with_name("evidence")))
import card_fraud_data as task
from card_fraud_data import FEATURES

LANES = 16
EVENTS_A_CALL = 200
ENVIRONMENT = {
    "DECISION_SERVICE_REQUEST_AGE_MAX_MS": str(TEN_YEARS_D * DAY_MS), "DECISION_SERVICE_RATE_LIMIT_PER_S": "0",
    "DECISION_SERVICE_LOG_LEVEL": "warning", "DECISION_SERVICE_LINKS_BUDGET_MS": "1000",
    "DECISION_SERVICE_TIME_ZONE": "UTC",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """What came out. `told` counts sampled values that are not 0."""

    payments: int
    labels: int
    sampled: int
    values: int
    told: int
    unequal: dict[str, int]
    replay_seconds: float

    @property
    def passed(self) -> bool:
        """Whether every value is equal."""
        return not any(self.unequal.values()) and self.values == self.sampled * len(FEATURES)


@dataclass(slots=True)
class Replayed:
    """What the service answered, by payment, and the same history as rows of a file of events."""

    events: list[dict[str, Any]] = field(default_factory=list)
    features: dict[str, dict[str, float | None]] = field(default_factory=dict)
    decisions: dict[str, str] = field(default_factory=dict)


class Replay:
    """Sends the payments to a service."""

    def __init__(self, url: str, table: pd.DataFrame, sampled: set[str]) -> None:
        self.done = Replayed()
        self._url, self._sampled = url, sampled
        self._days = [list(rows.itertuples()) for _, rows in table.groupby(table.at_ms // DAY_MS)]

    async def run(self) -> None:
        """A day after the other: payments, then the labels of the frauds among them."""
        for payments in self._days:
            async with asyncio.TaskGroup() as group:
                for lane in range(LANES):
                    group.create_task(self._decide_all([p for p in payments if lane == p.CUSTOMER_ID % LANES]))
            async with Client(self._url) as client:
                frauds = [payment for payment in payments if payment.TX_FRAUD == 1]
                for at in range(0, len(frauds), EVENTS_A_CALL):
                    await self._label(client, frauds[at : at + EVENTS_A_CALL])

    async def _decide_all(self, payments: list[Any]) -> None:
        async with Client(self._url) as client:
            for payment in payments:
                await self._decide(client, payment)

    async def _decide(self, client: Client, payment: Any) -> None:
        number, customer = str(payment.TRANSACTION_ID), str(payment.CUSTOMER_ID)
        at, amount = instant(payment.at_ms), f"{payment.cents / 100:.2f}"
        granted = instant(payment.at_ms - 100 * DAY_MS)
        line = {
            "product": "card", "currency": "CNY", "limit": "9000000.00", "outstanding": "0", "as_of": granted,
            "apr": 0.18, "status": "active", "granted_at": granted,
        }  # fmt: skip
        body = {
            "request_id": number, "customer_id": customer, "facility_id": f"f-{customer}", "amount": amount,
            "currency": "CNY", "occurred_at": at, "counterparty_id": str(payment.TERMINAL_ID), "deadline_ms": 5_000,
            "facility": line,
        }  # fmt: skip
        answer = await self._call(client, "POST", "/v1/decisions", body)
        assert (answer["decision"], answer["rung"]) == ("approve", "full"), answer
        self.done.decisions[number] = answer["decision_id"]
        self.done.events.append(
            {
                "customer_id": customer, "event_id": number, "kind": "drawdown", "status": "approved",
                "occurred_at": at, "recorded_at": answer["decided_at"], "amount": amount, "currency": "CNY",
                "facility_id": f"f-{customer}", "counterparty_id": str(payment.TERMINAL_ID),
                "decision_id": answer["decision_id"],
            }
        )  # fmt: skip
        if number in self._sampled:
            stored = await self._call(client, "GET", f"/v1/decisions/{answer['decision_id']}")
            self.done.features[number] = {n: stored["trace"]["features"][n]["value"] for n in FEATURES}

    async def _label(self, client: Client, frauds: list[Any]) -> None:
        labels = [
            {
                "customer_id": str(payment.CUSTOMER_ID), "event_id": f"fraud-{payment.TRANSACTION_ID}", "kind": "label",
                "occurred_at": instant(payment.at_ms + task.DELAY_D * DAY_MS), "category": "fraud",
                "decision_id": self.done.decisions[str(payment.TRANSACTION_ID)],
            }
            for payment in frauds
        ]  # fmt: skip
        answer = await self._call(client, "POST", "/v1/events", {"events": labels})
        assert answer["accepted"] == len(labels), answer
        recorded_at = instant(time.time_ns() // 1_000_000)
        self.done.events += [label | {"recorded_at": recorded_at} for label in labels]

    async def _call(self, client: Client, method: str, path: str, body: object = None) -> Any:
        response = await client.call(method, path, body)
        assert response.status == 200, response.body
        return response.json()


def build_offline(replayed: Replayed, directory: Path) -> pd.DataFrame:
    """The rows of all decisions from files, by payment."""
    events, questions, out = (directory / f"{name}.parquet" for name in ("events", "questions", "features"))
    names = list(dict.fromkeys(name for row in replayed.events for name in row))
    parquet.write_table(pa.table({n: [row.get(n) for row in replayed.events] for n in names}), events)
    parquet.write_table(pa.table({"event_id": list(replayed.decisions)}), questions)
    command = [
        program(), "features", "build", "--events", str(events), "--at", str(questions), "--out", str(out), "--rules",
        str(task.RULES), "--names", ",".join(FEATURES), "--time-zone", "UTC", "--json",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return pd.read_parquet(out).set_index("event_id")


def compare(payments: int, sampled: int) -> Compared:
    """Replay, build, compare."""
    table = sample(task.DATA, payments).set_index("TRANSACTION_ID", drop=False)
    table = task.with_instants(table)
    table = table[table.cents > 0]
    chosen = np.random.default_rng(5).choice(table.TRANSACTION_ID.to_numpy(), min(sampled, len(table)), replace=False)
    with tempfile.TemporaryDirectory() as name:
        directory, port = Path(name), free_port()
        command = [
            program(), "serve", "--port", str(port), "--data-dir", str(directory / "data"), "--rules",
            str(task.RULES), "--models", str(directory / "none"),
        ]  # fmt: skip
        began = time.monotonic()
        with serving(command, port, every_core(), "/readyz", directory / "service.log", ENVIRONMENT) as service:
            replay = Replay(service.url, table, {str(number) for number in chosen.tolist()})
            began = time.monotonic()
            asyncio.run(replay.run())
            seconds = time.monotonic() - began
        offline = build_offline(replay.done, directory)
    online = pd.DataFrame.from_dict(replay.done.features, orient="index", columns=FEATURES).astype(float)
    got, want = (frame[FEATURES].to_numpy(float) for frame in (online, offline.loc[online.index]))
    differing = (got.view("u8") != want.view("u8")).sum(axis=0).tolist()
    return Compared(
        len(replay.done.decisions), len(replay.done.events) - len(replay.done.decisions), len(online), got.size,
        int((got != 0).sum()), dict(zip(FEATURES, differing, strict=True)), seconds,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; 0 if every value is equal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--payments", type=int, default=20_000, help="at least so many (%(default)s)")
    parser.add_argument("--sample", type=int, default=1_000, help="decisions compared (%(default)s)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    if not task.DATA.is_file():
        sys.exit(f"{task.DATA.name} is not there: see evidence/card_fraud_data.py for where it comes from")
    found = compare(args.payments, args.sample)
    if args.json:
        print(json.dumps(asdict(found)))
    else:
        print(f"{found.payments:,} payments and {found.labels:,} labels replayed in {found.replay_seconds:,.1f} s")
        values = f"{found.values:,} values of {found.sampled:,} sampled decisions ({found.told:,} not 0)"
        print(f"{values}: {sum(found.unequal.values())} differ from the rows of features build")
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())

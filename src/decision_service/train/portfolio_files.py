"""A generated portfolio as the files that recorded events come in: what `events:` of a training file takes.

    events.parquet       every event, a group of rows for every CUSTOMERS_A_GROUP customers
    facilities.parquet   core banking's snapshots, one for every customer and midnight before something is observed

With a design of grain loan, every booked drawdown is observed. If its outcome is to be one of the labels of
`portfolio.loans`, such as `overdue_30`, a group's labels follow its events, and the file has a column `about_event_id`;
any other design gives the file that it gave before there were labels, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from decision_service.core.event import (
    ACCURACY_M,
    CHANNEL_NAMES,
    DRAWDOWN,
    KIND_NAMES,
    STATUS_NAMES,
    STATUSES,
)
from decision_service.core.facility import Facility
from decision_service.portfolio import CustomerHistory, Portfolio
from decision_service.portfolio.event_table import CATEGORIES, device_id, event_id, payee_id
from decision_service.portfolio.loans import LABELS, label_id, loan_arrears
from decision_service.train.observe import instants
from decision_service.train.sample_design import SampleDesign

CUSTOMERS_A_GROUP: Final = 500
_FEN: Final = 100.0


def write_portfolio(portfolio: Portfolio, design: SampleDesign, directory: Path) -> None:
    """Write both files into a directory, for a sample of this design."""
    histories, label = portfolio.customers, told_label(design)
    _write(directory / "events.parquet", (_told(group, label) for group in _groups(histories)))
    whens = instants(len(histories), portfolio.plan.now_ms, design)
    lines = (_lines(group, whens, design) for group in _groups(histories))
    _write(directory / "facilities.parquet", lines)


def told_label(design: SampleDesign) -> str | None:
    """The label of loans that a portfolio tells for a sample of this design; None for none."""
    label = design.target.label
    return label if design.grain == "loan" and label in LABELS else None


def _groups(histories: Sequence[CustomerHistory]) -> Iterator[Sequence[CustomerHistory]]:
    for at in range(0, len(histories), CUSTOMERS_A_GROUP):
        yield histories[at : at + CUSTOMERS_A_GROUP]


def _write(path: Path, tables: Iterable[Any]) -> None:
    from pyarrow import parquet

    writer: Any = None
    for table in tables:
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _told(histories: Sequence[CustomerHistory], label: str | None) -> Any:
    """A group's events and, behind them, its labels."""
    import pyarrow as pa

    events = _events(histories)
    if label is None:
        return events
    return pa.concat_tables([events, _labels(histories, label)], promote_options="default")


def _labels(histories: Sequence[CustomerHistory], label: str) -> Any:
    """Labels as columns, by customer and time."""
    import pyarrow as pa

    found = [(history, loan_arrears(history, LABELS[label])) for history in histories]
    told = [
        (history.customer_id, history.line.facility_id, label_id(history.number, row, label),
         event_id(history.number, row), at_ms)
        for history, arrears in found
        for row, at_ms in zip(arrears.row.tolist(), arrears.at_ms.tolist(), strict=True)
    ]  # fmt: skip
    texts = ("customer_id", "facility_id", "event_id", "about_event_id")
    columns = {name: pa.array([each[i] for each in told], pa.string()) for i, name in enumerate(texts)}
    for name, text in {"kind": "label", "status": "booked", "category": label}.items():
        columns[name] = pa.array([text] * len(told), pa.string())
    columns["occurred_at"] = pa.array([each[-1] for each in told], pa.int64())
    columns["value"] = pa.array([float(LABELS[label])] * len(told), pa.float64())
    return pa.table(columns)


def _events(histories: Sequence[CustomerHistory]) -> Any:
    """Events as columns, in the order of customers and their histories."""
    import pyarrow as pa

    table = np.concatenate([history.table for history in histories])
    position = np.concatenate([np.arange(len(history.table)) for history in histories])
    owner = np.repeat([history.number for history in histories], [len(history.table) for history in histories])
    lines = {history.number: history for history in histories}
    placed = table["accuracy"] > 0
    accuracy = np.array(ACCURACY_M, float)[np.maximum(table["accuracy"], 1) - 1]
    devices = [
        device_id(who, k) if k else None for who, k in zip(owner.tolist(), table["device"].tolist(), strict=True)
    ]
    columns = {
        "customer_id": pa.array([lines[who].customer_id for who in owner.tolist()]),
        "facility_id": pa.array([lines[who].line.facility_id for who in owner.tolist()]),
        "event_id": pa.array([event_id(who, i) for who, i in zip(owner.tolist(), position.tolist(), strict=True)]),
        "kind": _named(table["kind"], KIND_NAMES), "status": _named(table["status"], STATUS_NAMES),
        "occurred_at": pa.array(table["at_ms"]),
        "amount": pa.array(table["amount"] / _FEN, mask=table["amount"] == 0),
        "channel": _named(table["channel"], CHANNEL_NAMES), "device_id": pa.array(devices, pa.string()),
        "counterparty_id": pa.array([payee_id(k) if k else None for k in table["payee"].tolist()], pa.string()),
        "category": _named(table["category"], CATEGORIES),
        "lat": pa.array(table["lat_e6"] / 1e6, mask=~placed), "lon": pa.array(table["lon_e6"] / 1e6, mask=~placed),
        "accuracy_m": pa.array(accuracy, mask=~placed),
        "value": pa.array(table["value"].copy(), mask=np.isnan(table["value"])),
    }  # fmt: skip
    return pa.table(columns)


def _named(codes: Any, names: Any) -> Any:
    """Names of codes as text; code 0 is none."""
    import pyarrow as pa

    known = [names[k] if k else None for k in range(int(codes.max(initial=0)) + 1)]
    return pa.array([known[k] for k in codes.tolist()], pa.string())


def _lines(histories: Sequence[CustomerHistory], whens: Any, design: SampleDesign) -> Any:
    """Snapshots as columns, by customer and time."""
    import pyarrow as pa

    lines = [line for history in histories for line in _snapshots(history, whens[history.number], design)]
    texts = ("facility_id", "customer_id", "product", "currency", "status")
    columns = {name: pa.array([getattr(line, name) for line in lines], pa.string()) for name in texts}
    for name in ("as_of", "granted_at", "expires_at", "reviewed_at", "next_due_at"):
        columns[name] = pa.array([getattr(line, f"{name}_ms") for line in lines], pa.int64())
    for name, field in (("limit", "limit_minor"), ("outstanding", "outstanding_minor"),
                        ("next_due_amount", "next_due_minor")):  # fmt: skip
        columns[name] = pa.array([getattr(line, field) / _FEN for line in lines], pa.float64())
    columns["apr"] = pa.array([line.apr_bps / 10_000 for line in lines], pa.float64())
    columns["days_past_due"] = pa.array([line.days_past_due for line in lines], pa.int64())
    return pa.table(columns)


def _snapshots(history: CustomerHistory, whens: Any, design: SampleDesign) -> list[Facility]:
    if design.grain == "loan":
        table = history.table
        booked = (table["kind"] == DRAWDOWN) & (table["status"] == STATUSES["booked"])
        whens = table["at_ms"][booked]
    by_day = {line.as_of_ms: line for line in map(history.line.facility_at, whens.tolist())}
    return [by_day[as_of_ms] for as_of_ms in sorted(by_day)]

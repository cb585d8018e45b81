"""Files of facilities and attributes: the API's rules, older snapshots passed over, owners respected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from import_cases import CLOCK, NOW_MS, T, terms, write
from pyarrow import parquet

from decision_service.api.instants import format_instant
from decision_service.api.parse import parse_facility
from decision_service.cli.import_history import declared_attributes
from decision_service.core.errors import InvalidInput
from decision_service.core.facility import Attribute, Facility
from decision_service.core.limits import DAY_MS
from decision_service.imports.account import Account
from decision_service.imports.refused import RefusedRows
from decision_service.imports.snapshots import import_attributes, import_facilities
from decision_service.store import Store
from decision_service.store.memory import MemoryStore
from decision_service.tables.facilities import open_facilities, read_facilities

pytestmark = pytest.mark.anyio

DECLARED = """
attributes:
  ext_score: {type: number, source: bureau, ttl: 45d, meaning: "outside score"}
  ext_vip: {type: flag, source: bank, ttl: 45d, meaning: "a person of note"}
  ext_region: {type: string, source: bank, ttl: 45d, meaning: "region"}
"""


def line(number: int, customer: str = "c-1", *, as_of_ms: int = NOW_MS - DAY_MS, **more: Any) -> dict[str, Any]:
    """A row: a facility, or what `more` makes of it."""
    row = {
        "facility_id": f"f-{number}", "customer_id": customer, "product": "revolver", "currency": "CNY",
        "limit": "5000", "outstanding": "120.50", "as_of": format_instant(as_of_ms), "apr": "0.18",
        "status": "active", "granted_at": "2026-01-01T00:00:00+08:00",
    }  # fmt: skip
    return row | more


async def facilities(path: Path, store: Store, **changed: Any) -> Account:
    """Import a file of facilities."""
    with RefusedRows(None, shown_max=-1) as refused:
        return await import_facilities(path, terms(store, **changed), refused)


async def attributes(tmp_path: Path, rows: Sequence[Mapping[str, Any]], store: Store) -> Account:
    """Import a file of attributes."""
    (tmp_path / "attributes.yaml").write_text(DECLARED)
    with RefusedRows(tmp_path / "rejected.jsonl", shown_max=0) as refused:
        return await import_attributes(
            write(tmp_path / "attributes.csv", rows), declared_attributes(tmp_path), terms(store), refused
        )  # fmt: skip


def rejected(tmp_path: Path) -> list[tuple[int, str, str, str]]:
    """The report."""
    rows = map(orjson.loads, (tmp_path / "rejected.jsonl").read_bytes().splitlines())
    return [(row["row"], row["column"], row["value"], row["reason"]) for row in rows]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_row_is_what_the_api_makes_of_it(tmp_path: Path, suffix: str) -> None:
    """A facility read from a file equals the one put by a call with the same fields."""
    row = line(1, expires_at=format_instant(NOW_MS + DAY_MS), next_due_amount="70.00", days_past_due="3")
    path = write(tmp_path / f"facilities{suffix}", [row])
    (found,) = read_facilities(open_facilities(path), CLOCK)
    body = row | {"apr": 0.18, "days_past_due": 3}
    assert found.facilities == ((1, parse_facility(orjson.dumps(body), "f-1", CLOCK)),)


def test_typed_columns_of_parquet_mean_the_same(tmp_path: Path) -> None:
    """Timestamps, doubles and decimals are the amounts and instants they stand for."""
    table = pa.table(
        {
            "facility_id": pa.array(["f-1"]), "customer_id": pa.array([7]), "product": pa.array(["revolver"]),
            "currency": pa.array(["CNY"]), "limit": pa.array([Decimal("5000.00")]),
            "outstanding": pa.array([0.1 + 0.2]), "as_of": pa.array([NOW_MS - 5], pa.timestamp("ms", "UTC")),
            "apr": pa.array([0.18]), "status": pa.array(["active"]), "granted_at": pa.array([NOW_MS - DAY_MS]),
            "days_past_due": pa.array([0.0]),
        }
    )  # fmt: skip
    parquet.write_table(table, tmp_path / "facilities.parquet")
    (found,) = read_facilities(open_facilities(tmp_path / "facilities.parquet"), CLOCK)
    assert not found.bad
    assert found.facilities[0][1] == Facility(
        "f-1", "7", "revolver", "CNY", 5_000_00, 30, NOW_MS - 5, 1_800, "active", NOW_MS - DAY_MS, days_past_due=0
    )


async def test_facilities_are_claimed_for_their_customer(tmp_path: Path) -> None:
    """The first customer that has a facility owns it; a row of another is rejected and stores nothing."""
    store = MemoryStore()
    path = write(tmp_path / "facilities.csv", [line(1), line(2), line(1, "c-2")])
    account = await facilities(path, store)
    assert [(r.row, r.column, r.reason) for r in account.refusals] == [
        (3, "facility_id", "belongs to another customer")
    ]  # fmt: skip
    assert await store.facility_owner("f-1", T) == "c-1"
    assert sorted((await store.read("c-1", None, T)).facilities) == ["f-1", "f-2"]
    assert (await store.read("c-2", None, T)).version == 0


async def test_an_older_snapshot_is_skipped_and_the_same_one_a_duplicate(tmp_path: Path) -> None:
    """Of several snapshots the latest holds, whatever their order; another run changes nothing."""
    store = MemoryStore()
    rows = [line(1), line(1, as_of_ms=NOW_MS - 2 * DAY_MS, limit="1"), line(1, as_of_ms=NOW_MS, limit="9000"), line(1)]
    path = write(tmp_path / "facilities.csv", rows)
    account = await facilities(path, store)
    assert +account.counts == {"accepted": 2, "skipped": 2}
    state = await store.read("c-1", None, T)
    assert state.facilities["f-1"].limit_minor == 9_000_00
    again = await facilities(path, store, again=True)
    assert +again.counts == {"duplicate": 1, "skipped": 3}
    assert (await facilities(path, store)).earlier == 4
    assert (await store.read("c-1", None, T)).version == state.version


async def test_a_facility_keeps_its_currency(tmp_path: Path) -> None:
    """A later snapshot in another currency is rejected and names the column."""
    rows = [line(1), line(1, as_of_ms=NOW_MS, currency="USD")]
    account = await facilities(write(tmp_path / "facilities.csv", rows), MemoryStore())
    assert [(r.row, r.column) for r in account.refusals] == [(2, "currency")]


async def test_what_is_wrong_with_a_facility_is_told_with_its_row(tmp_path: Path) -> None:
    """Row, column, what stood there and the API's reason."""
    rows = [
        line(1, outstanding="1.005"),
        line(2, apr="18"),
        line(3, as_of="yesterday"),
        line(4, status="open"),
        line(5),
    ]
    path, report = write(tmp_path / "facilities.csv", rows), tmp_path / "rejected.jsonl"
    with RefusedRows(report, shown_max=0) as refused:
        account = await import_facilities(path, terms(MemoryStore()), refused)
    assert +account.counts == {"accepted": 1, "rejected": 4}
    assert [(row, column, value) for row, column, value, _ in rejected(tmp_path)] == [
        (1, "outstanding", "1.005"), (2, "apr", "18"), (3, "as_of", "yesterday"), (4, "status", "open"),
    ]  # fmt: skip
    assert rejected(tmp_path)[0][3] == "must have at most 2 decimals for CNY"


def test_a_column_that_lacks_or_is_unknown_is_named(tmp_path: Path) -> None:
    """The message has the missing column, or the nearest known name."""
    row = line(1)
    del row["limit"]
    with pytest.raises(InvalidInput, match="no column 'limit'"):
        open_facilities(write(tmp_path / "a.csv", [row]))
    with pytest.raises(InvalidInput, match="unknown column 'granted': did you mean granted_at"):
        open_facilities(write(tmp_path / "b.csv", [line(1) | {"granted": "x"}]))


async def test_attributes_in_rows_or_in_columns(tmp_path: Path) -> None:
    """A row a value and a column a name say the same; the later value of a name holds."""
    long, wide = MemoryStore(), MemoryStore()
    as_of = format_instant(NOW_MS - 5)
    values = {"ext_score": "612.5", "ext_vip": "true", "ext_region": "0571"}
    rows = [{"customer_id": "c-1", "name": name, "value": value, "as_of": as_of} for name, value in values.items()]
    older = {"customer_id": "c-1", "name": "ext_score", "value": "1", "as_of": format_instant(NOW_MS - 6)}
    assert +(await attributes(tmp_path, [*rows, older, rows[0]], long)).counts == {
        "accepted": 3, "skipped": 1, "duplicate": 1,
    }  # fmt: skip
    assert (await attributes(tmp_path, [{"customer_id": "c-1", "as_of": as_of} | values], wide)).counts["accepted"] == 3
    for store in (long, wide):
        assert (await store.read("c-1", None, T)).attributes == {
            "ext_score": Attribute(612.5, NOW_MS - 5), "ext_vip": Attribute(1.0, NOW_MS - 5),
            "ext_region": Attribute("0571", NOW_MS - 5),
        }  # fmt: skip


async def test_only_declared_attributes_of_the_declared_type(tmp_path: Path) -> None:
    """A name that is not declared gets the nearest one, a value of another type the reason."""
    as_of = format_instant(NOW_MS - 5)
    rows = [
        {"customer_id": "c-1", "name": "ext_scor", "value": "1", "as_of": as_of},
        {"customer_id": "c-1", "name": "ext_vip", "value": "7", "as_of": as_of},
        {"customer_id": "c-1", "name": "ext_score", "value": "high", "as_of": as_of},
        {"customer_id": "", "name": "ext_score", "value": "1", "as_of": as_of},
        {"customer_id": "c-1", "name": "ext_score", "value": "1", "as_of": format_instant(NOW_MS + DAY_MS)},
    ]
    account = await attributes(tmp_path, rows, MemoryStore())
    assert +account.counts == {"rejected": 5}
    assert rejected(tmp_path) == [
        (1, "name", "ext_scor", "no such attribute is declared: did you mean ext_score?"),
        (2, "value", "7", "must be 0 or 1"),
        (3, "value", "high", "must be a finite number"),
        (4, "customer_id", "", "Field required"),
        (5, "as_of", format_instant(NOW_MS + DAY_MS), "must not lie in the future"),
    ]
    with pytest.raises(InvalidInput, match="unknown column 'ext_scor': did you mean ext_score"):
        await attributes(tmp_path, [{"customer_id": "c-1", "as_of": as_of, "ext_scor": "1"}], MemoryStore())

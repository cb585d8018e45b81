"""Files of events: their records are the API's to the byte, and every bad row is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from decision_service.api.instants import format_instant
from decision_service.api.parse import Clock, parse_event
from decision_service.core.errors import InvalidInput
from decision_service.core.event import FLAG_DECIDED, FLAG_SETTLES, drawdown_key, event_key, unpack
from decision_service.tables.events import COLUMNS, EventBatch, open_events, read_events

NOW_MS = 1_790_000_000_000
CLOCK = Clock(NOW_MS, 300_000, 30 * 86_400_000)
DECISION = "d00a" + "0123456789abcdef" * 2
BOUGHT: dict[str, Any] = {
    "customer_id": "c-1", "event_id": "e-1", "kind": "purchase", "amount": "12.50", "currency": "CNY",
    "occurred_at": format_instant(NOW_MS - 5_000),
}  # fmt: skip


def write(path: Path, rows: Sequence[Mapping[str, Any]], types: Mapping[str, pa.DataType] | None = None) -> Path:
    """A file of rows; columns are texts unless `types` says otherwise."""
    names = [name for name in COLUMNS if any(name in row for row in rows)]
    arrays = {name: pa.array([row.get(name) for row in rows], (types or {}).get(name)) for name in names}
    table = pa.table(arrays)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=50)
    else:
        csv.write_csv(table, path)
    return path


def read(path: Path, **options: Any) -> EventBatch:
    """All batches of a file as one."""
    batches = list(read_events(open_events(path), CLOCK, **options))
    assert len(batches) == 1
    return batches[0]


def random_rows(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Rows of which about a third has a cell that is wrong or unusual."""

    def one_of(*choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    rows = []
    for i in range(n):
        row = {
            "customer_id": f"c-{int(rng.integers(5))}", "event_id": f"e-{i}",
            "kind": one_of("purchase", "repayment", "login", "touch", "drawdown"),
            "occurred_at": format_instant(NOW_MS - int(rng.integers(10**10))),
            "amount": f"{int(rng.integers(1, 10**7)) / 100:.2f}", "currency": one_of("CNY", "JPY", "KWD", "CNY", "CNY"),
            "status": one_of(None, "booked", "failed"), "channel": one_of(None, "app", "pos"),
            "facility_id": one_of(None, "f-1"), "device_id": one_of(None, "d-1", "d-2"),
            "counterparty_id": one_of(None, "m-1"), "category": one_of(None, "5411", "旅行"),
            "value": one_of(None, "1.5", "-3", "1e2"), "lat": "31.2304567", "lon": "-121.4737",
            "accuracy_m": one_of(None, "5", "5.1", "99999"),
        }  # fmt: skip
        if rng.random() < 0.4:
            row |= one_of(
                {"amount": "-1"}, {"amount": "1.005"}, {"amount": "1.500000"}, {"amount": "1e3"}, {"amount": "x"},
                {"amount": "99999999999999"}, {"amount": None}, {"amount": "0"}, {"currency": "XXX"},
                {"occurred_at": "2026-01-01T00:00:00"}, {"occurred_at": "2016-12-31T23:59:60Z"},
                {"occurred_at": "2026-02-30T00:00:00Z"}, {"occurred_at": "2026-01-01T08:00:00.123456789+08:00"},
                {"occurred_at": format_instant(NOW_MS + 10**7)}, {"occurred_at": "2001-01-01T00:00:00Z"},
                {"occurred_at": None}, {"kind": "party"}, {"kind": None}, {"status": "done"}, {"channel": "fax"},
                {"customer_id": "c" * 129}, {"customer_id": None}, {"event_id": "e" * 128}, {"lat": "91"},
                {"lat": None}, {"lon": None, "lat": None}, {"lon": None, "lat": None, "accuracy_m": None},
                {"accuracy_m": "-1"}, {"value": "nan"}, {"value": "1e999"}, {"value": "一"},
                {"decision_id": DECISION}, {"kind": "drawdown", "decision_id": DECISION, "amount": None},
                {"kind": "drawdown", "decision_id": "not one"}, {"kind": "drawdown", "status": "held"},
                {"kind": "drawdown", "decision_id": DECISION, "status": "held"},
            )  # fmt: skip
        rows.append(row)
    return rows


def asked(row: Mapping[str, Any]) -> bytes | tuple[str, str]:
    """What the API makes of a row: the record, or the column and the reason."""
    body = {name: value for name, value in row.items() if value is not None}
    place = {name: Decimal(body.pop(name)) for name in ("lat", "lon", "accuracy_m") if name in body}
    if place:
        body["geo"] = place
    for name in ("amount", "value"):
        try:
            body[name] = Decimal(body[name])
        except (KeyError, ArithmeticError):
            continue
        if not body[name].is_finite():
            body[name] = row[name]
    try:
        return parse_event(body, 0, CLOCK).event.pack()
    except InvalidInput as error:
        return error.field.removeprefix("events.0").removeprefix(".").removeprefix("geo."), error.message


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("seed", range(4))
def test_every_row_is_what_the_api_makes_of_it(tmp_path: Path, suffix: str, seed: int) -> None:
    """A row gives the very record, or is refused for the very reason, that the API's parser gives."""
    rows = random_rows(np.random.default_rng(seed), 400)
    file = open_events(write(tmp_path / f"events{suffix}", rows))
    got: dict[int, Any] = {}
    for batch in read_events(file, CLOCK, batch_rows=64):
        got |= {int(r): batch.events.records[i].tobytes() for i, r in enumerate(batch.events.row)}
        got |= {bad.row: (bad.column, bad.reason) for bad in batch.bad}
    assert got == {i + 1: asked(row) for i, row in enumerate(rows)}


def test_types_other_than_text_mean_the_same(tmp_path: Path) -> None:
    """Whole-number ids, timestamps with a zone, milliseconds, floats and decimals are read as what they say."""
    at_ms = NOW_MS - 5_123
    texts = {
        "customer_id": "17", "event_id": "1", "kind": "purchase", "occurred_at": format_instant(at_ms),
        "amount": "0.30", "counterparty_id": "7", "lat": "31.25", "lon": "121.5", "value": "2",
    }  # fmt: skip
    others = texts | {
        "customer_id": 17, "event_id": 1, "counterparty_id": 7, "amount": 0.1 + 0.2, "lat": 31.25, "lon": 121.5,
        "value": 2, "occurred_at": at_ms,
    }  # fmt: skip
    want = read(write(tmp_path / "texts.csv", [texts])).events
    number = read(write(tmp_path / "numbers.parquet", [others])).events
    dated = {"occurred_at": pa.timestamp("us", "Asia/Shanghai"), "amount": pa.decimal128(20, 4)}
    timed = others | {"occurred_at": at_ms * 1_000, "amount": Decimal("0.3")}
    moment = read(write(tmp_path / "dated.parquet", [timed], dated)).events
    for got in (number, moment):
        assert got.records.tobytes() == want.records.tobytes()
        assert (got.customer.texts, got.payee.texts) == (["17"], ["7"])
    assert want.records["amount_minor"].tolist() == [30]


@pytest.mark.parametrize(
    ("amount", "minor"),
    [(0.1 + 0.2, 30), (1.1 * 3, 330), (1e12, 10**14), (999_999_999_999.99, 99_999_999_999_999), (4_990, 499_000)],
)
def test_a_binary_fraction_is_the_amount_it_stands_for(tmp_path: Path, amount: float, minor: int) -> None:
    """Rounding errors of a float column never show in the minor units."""
    events = read(write(tmp_path / "events.parquet", [BOUGHT | {"amount": float(amount)}])).events
    assert events.records["amount_minor"].tolist() == [minor]


@pytest.mark.parametrize("amount", [0.305, 12.345678, 1e-9])
def test_a_binary_fraction_that_is_no_amount_is_refused(tmp_path: Path, amount: float) -> None:
    """A number with more decimals than the currency has is not rounded to one that fits."""
    (bad,) = read(write(tmp_path / "events.parquet", [BOUGHT | {"amount": amount}])).bad
    assert (bad.row, bad.column, bad.value) == (1, "amount", str(amount))
    assert "at most 2 decimals" in bad.reason


def test_recorded_at_is_kept_beside_the_instant(tmp_path: Path) -> None:
    """An event recorded late has both instants; without recorded_at it was recorded when it occurred."""
    late = BOUGHT | {"recorded_at": format_instant(NOW_MS - 1_000)}
    events = read(write(tmp_path / "events.csv", [late, BOUGHT | {"event_id": "e-2"}])).events
    assert events.recorded_at_ms.tolist() == [NOW_MS - 1_000, NOW_MS - 5_000]
    assert events.records["occurred_at_ms"].tolist() == [NOW_MS - 5_000] * 2


def test_a_wrong_recorded_at_is_a_bad_row(tmp_path: Path) -> None:
    """recorded_at follows the rules of every other instant."""
    (bad,) = read(write(tmp_path / "events.csv", [BOUGHT | {"recorded_at": "yesterday"}])).bad
    assert (bad.column, bad.value) == ("recorded_at", "yesterday")


def test_labels_and_settlements_name_what_they_concern(tmp_path: Path) -> None:
    """Word 7 is the key of the event a label is about, or of the drawdown that is settled."""
    label = {k: v for k, v in BOUGHT.items() if k not in ("amount", "currency")} | {
        "kind": "label",
        "category": "fraud",
    }
    settled = BOUGHT | {"kind": "drawdown", "decision_id": DECISION, "event_id": "e-3", "status": "failed"}
    events = read(write(tmp_path / "events.csv", [label | {"about_event_id": "e-0"}, settled])).events
    first, second = (unpack(record.tobytes()) for record in events.records)
    assert first.settles == event_key("e-0")
    assert second.settles == drawdown_key(DECISION)
    assert events.records["flags"][1] & FLAG_SETTLES


def test_a_decisions_own_record_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    """An approved drawdown with a decision_id is the service's own record for features, and refused otherwise."""
    own = BOUGHT | {
        "kind": "drawdown", "status": "approved", "decision_id": DECISION, "recorded_at": format_instant(NOW_MS - 10)
    }  # fmt: skip
    path = write(tmp_path / "events.csv", [own])
    event = unpack(read(path, decided=True).events.records[0].tobytes())
    assert (event.key, event.decided_at_ms) == (drawdown_key(DECISION), NOW_MS - 10)
    assert read(path, decided=True).events.records["flags"][0] & FLAG_DECIDED
    (bad,) = read(path).bad
    assert (bad.column, bad.reason) == ("status", "a settlement is booked, failed or cancelled")


def test_a_torn_line_is_reported_and_the_numbers_stay_right(tmp_path: Path) -> None:
    """A CSV line with a cell too many is a bad row; the rows after it keep their numbers."""
    path = tmp_path / "events.csv"
    cells = f"{BOUGHT['occurred_at']}"
    path.write_text(
        f"customer_id,event_id,kind,occurred_at\nc,e-1,login,{cells}\nc,e-2,login,{cells},x\nc,e-3,login,{cells}\n"
        f"c,e-4,party,{cells}\n"
    )
    batch = read(path)
    assert batch.events.row.tolist() == [1, 3]
    assert [(bad.row, bad.column) for bad in batch.bad] == [(2, ""), (4, "kind")]


def test_torn_lines_beyond_a_block_keep_the_numbers_right(tmp_path: Path) -> None:
    """A CSV file is read ahead of in blocks; a torn line in a block that is not handed out yet counts when it is."""
    path = tmp_path / "events.csv"
    count, torn, wrong = 300_000, (5, 150_000, 260_001, 299_999), (200_001, 280_001, 290_001, 300_000)
    lines = [f"c,e-{i},login,{BOUGHT['occurred_at']}" for i in range(1, count + 1)]
    for row in torn:
        lines[row - 1] += ",x"
    for row in wrong:
        lines[row - 1] = lines[row - 1].replace("login", "party")
    path.write_text("customer_id,event_id,kind,occurred_at\n" + "\n".join(lines))
    batches = list(read_events(open_events(path), CLOCK))
    assert len(batches) > 1
    assert sorted(bad.row for batch in batches for bad in batch.bad) == sorted(torn + wrong)
    rows = np.concatenate([batch.events.row for batch in batches])
    keys = np.concatenate([batch.events.event for batch in batches])
    assert keys.tolist() == [event_key(f"e-{row}") for row in rows.tolist()]
    assert len(rows) == count - len(torn) - len(wrong)


@pytest.mark.parametrize("column", ["customer_id", "event_id", "device_id", "category"])
def test_a_text_with_nul_is_refused(tmp_path: Path, column: str) -> None:
    """As in a body of the API, where it is looked for in the bytes: ids are joined by it."""
    (bad,) = read(write(tmp_path / "events.parquet", [BOUGHT | {column: "a\0b"}])).bad
    assert (bad.row, bad.column, bad.reason) == (1, column, "must not contain NUL")


def test_a_number_beyond_64_bits_is_a_number(tmp_path: Path) -> None:
    """The API takes a whole number of any size as a value, and so does a file."""
    body = BOUGHT | {"value": 12_345_678_901_234_567_890_123, "amount": Decimal("12.50")}
    wanted = parse_event(body, 0, CLOCK)
    assert b'"value":1.2345678901234568e+22' in wanted.body
    events = read(write(tmp_path / "events.csv", [BOUGHT | {"value": str(body["value"])}])).events
    assert events.records[0].tobytes() == wanted.event.pack()


def test_parts_of_a_parquet_file_are_its_rows(tmp_path: Path) -> None:
    """Row groups can be read apart, and their rows keep the numbers they have in the file."""
    rows = [BOUGHT | {"event_id": f"e-{i}"} for i in range(120)]
    file = open_events(write(tmp_path / "events.parquet", rows))
    assert (file.row_count, len(file.parts)) == (120, 3)
    numbers = [
        batch.events.row.tolist() for part in file.parts for batch in read_events(file, CLOCK, part=part)
    ]  # fmt: skip
    assert [row for of_part in numbers for row in of_part] == list(range(1, 121))


@pytest.mark.parametrize(
    ("content", "field", "message"),
    [
        ("customer_id,event_id,kind,occured_at\n", "occured_at", "did you mean occurred_at?"),
        ("customer_id,event_id,kind\n", "occurred_at", "has no column 'occurred_at'"),
        ("kind,kind\n", "kind", "twice"),
        ("", "file", "cannot be read"),
    ],
)
def test_a_file_with_wrong_columns_is_refused(tmp_path: Path, content: str, field: str, message: str) -> None:
    """The error names the column and, for a misspelt one, the name that was meant."""
    path = tmp_path / "events.csv"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=message.replace("?", r"\?")) as caught:
        open_events(path)
    assert caught.value.field == field


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A compressed file under the name of a CSV file cannot be read, and that is all that is said."""
    path = tmp_path / "events.csv"
    path.write_bytes(b"\x1f\x8b,customer_id,event_id,kind,occurred_at\n")
    with pytest.raises(InvalidInput, match="cannot be read"):
        open_events(path)


def test_instants_without_a_zone_are_refused(tmp_path: Path) -> None:
    """A timestamp column without a time zone could mean any: it is not guessed."""
    naive = {"occurred_at": pa.timestamp("ms")}
    path = write(tmp_path / "events.parquet", [BOUGHT | {"occurred_at": NOW_MS}], naive)
    with pytest.raises(InvalidInput, match="no time zone"):
        read(path)

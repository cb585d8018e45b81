"""What a replay reads: rows of Parquet and CSV files as drawdowns."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from decision_service.core.errors import InvalidInput
from decision_service.replay import Drawdown
from decision_service.replay_file import Columns, count_rows, read_drawdowns, read_places

SOME = pa.table(
    {
        "CUSTOMER_ID": pa.array([7, 8, 7], pa.int16()),
        "TX_DATETIME": pa.array([1_529_280_015_000, 1_529_280_020_000, 1_529_280_020_001], pa.timestamp("ms")),
        "TX_AMOUNT": [57.16, 81.51, 146.0],
        "TERMINAL_ID": pa.array([3, None, 4], pa.int16()),
    }
)
PLACES = {"3": (31.5, 121.25)}
EXPECTED = [
    Drawdown(0, "7", 1_529_280_015_000, 57.16, "3", (31.5, 121.25)),
    Drawdown(1, "8", 1_529_280_020_000, 81.51, None, None),
    Drawdown(2, "7", 1_529_280_020_001, 146.0, "4", None),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    parquet.write_table(SOME, tmp_path / "some.parquet")
    return tmp_path / "some.parquet"


def test_rows_come_in_file_order_with_their_places(file: Path) -> None:
    """A row becomes a drawdown; a payee without a known place, or no payee, has none."""
    assert list(read_drawdowns(file, Columns(), PLACES)) == EXPECTED


def test_csv_says_the_same_as_parquet(tmp_path: Path) -> None:
    """The same table as CSV gives the same drawdowns; an instant without an offset is UTC."""
    path = tmp_path / "some.csv"
    csv.write_csv(SOME, path)
    assert list(read_drawdowns(path, Columns(), PLACES)) == EXPECTED


def test_rows_can_be_cut_and_moved(file: Path) -> None:
    """`limit` keeps the first rows, `shift_ms` moves every instant, the row number stays the file's."""
    (first,) = read_drawdowns(file, Columns(), {}, shift_ms=86_400_000, limit=1)
    assert (first.row, first.occurred_at_ms) == (0, 1_529_366_415_000)


def test_whole_numbers_are_milliseconds(tmp_path: Path) -> None:
    """A file may give its instants as whole numbers, under names of its own, and no payee at all."""
    table = pa.table({"who": ["a"], "when": [1_000], "how_much": [1.5]})
    parquet.write_table(table, tmp_path / "own.parquet")
    columns = Columns("who", "when", "how_much", "")
    assert list(read_drawdowns(tmp_path / "own.parquet", columns, {})) == [Drawdown(0, "a", 1_000, 1.5)]


def test_missing_column_is_named(file: Path) -> None:
    """A column that the file does not have is refused by name, with the names it has."""
    with pytest.raises(InvalidInput, match="no such column; it has CUSTOMER_ID, TX_DATETIME") as refusal:
        list(read_drawdowns(file, Columns(amount="AMOUNT"), {}))
    assert refusal.value.field == "AMOUNT"


@pytest.mark.parametrize("name", ["absent.parquet", "some.xlsx"])
def test_unreadable_file_is_refused(tmp_path: Path, name: str) -> None:
    """A file that is not there, or is neither Parquet nor CSV, is refused as input."""
    with pytest.raises(InvalidInput, match=name):
        list(read_drawdowns(tmp_path / name, Columns(), {}))


def test_instants_must_be_instants(tmp_path: Path) -> None:
    """A column of floating-point numbers is no column of instants."""
    parquet.write_table(SOME.set_column(1, "TX_DATETIME", [[1.5, 2.5, 3.5]]), tmp_path / "f.parquet")
    with pytest.raises(InvalidInput, match="instants are expected, not double"):
        list(read_drawdowns(tmp_path / "f.parquet", Columns(), {}))


def test_grid_is_laid_over_the_earth(tmp_path: Path) -> None:
    """Grid coordinates become degrees (x east, y north); degrees stay what they are."""
    parquet.write_table(
        pa.table({"TERMINAL_ID": [3], "x_terminal_id": [25.0], "y_terminal_id": [50.0]}), tmp_path / "grid.parquet"
    )
    parquet.write_table(pa.table({"TERMINAL_ID": [3], "lat": [1.5], "lon": [2.5]}), tmp_path / "earth.parquet")
    assert read_places(tmp_path / "grid.parquet", "TERMINAL_ID") == PLACES
    assert read_places(tmp_path / "earth.parquet", "TERMINAL_ID") == {"3": (1.5, 2.5)}


def test_parquet_knows_how_long_it_is(file: Path, tmp_path: Path) -> None:
    """The progress bar has a total for Parquet and none for CSV."""
    assert count_rows(file) == 3
    assert count_rows(tmp_path / "some.csv") is None


def test_a_file_that_is_no_parquet_is_refused_by_name(tmp_path: Path) -> None:
    """Counting and reading both name the file instead of failing somewhere inside."""
    path = tmp_path / "some.parquet"
    path.write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"some\.parquet cannot be read"):
        count_rows(path)
    with pytest.raises(InvalidInput, match=r"some\.parquet cannot be read"):
        list(read_drawdowns(path, Columns(), PLACES))

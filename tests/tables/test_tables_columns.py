"""A file of decisions as the columns of a rule set: names, types, nulls, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from decision_service.core.errors import InvalidInput
from decision_service.core.rules.columns import VectorRuleSet
from decision_service.core.rules.compile import compile_rule_set
from decision_service.core.rules.schema import read_rule_set
from decision_service.core.source import Findings
from decision_service.core.vocabulary import Kind, Layout, NameSpec, Vocabulary
from decision_service.policies.files import read_text
from decision_service.tables.columns import DecisionRows, read_decisions
from decision_service.tables.file import open_file

LAYOUT = Layout({"facility.limit": 0, "draws": 1, "odd": 2, "not_read": 3}, {"behaviour.grade": 0, "channel": 1})
NAMES = ("facility.limit", "draws", "odd", "behaviour.grade")
COLUMNS: dict[str, Any] = {
    "facility.limit": [1_000.0, None, 3_000.0],
    "draws": pa.array([1, 2, None], pa.int32()),
    "odd": [True, False, None],
    "behaviour.grade": ["A", None, "A"],
    "decided": [datetime(2026, 7, 1 + day, tzinfo=UTC) for day in range(3)],
    "what_nobody_asks_for": [{"x": 1}] * 3,
}


def written(folder: Path, suffix: str = ".parquet", **changed: Any) -> Path:
    """A file of three decisions."""
    path = folder / f"decisions{suffix}"
    parquet.write_table(pa.table(COLUMNS | changed), path, row_group_size=2)
    return path


def read(path: Path, **options: Any) -> list[DecisionRows]:
    """All batches of a file."""
    return list(read_decisions(open_file(path, None), LAYOUT, NAMES, instant="decided", **options))


def test_values_stand_in_their_slots_and_null_stays_null(tmp_path: Path) -> None:
    """Floats, whole numbers, flags and texts; NaN and -1 where nothing is given, also in slots nobody reads."""
    first, second = read(written(tmp_path))
    assert [r.rows.tolist() for r in (first, second)] == [[1, 2], [3]]
    assert first.columns.numbers[0].tolist() == pytest.approx([1_000.0, np.nan], nan_ok=True)
    assert first.columns.numbers[1].tolist() == [1.0, 2.0]
    assert first.columns.numbers[2].tolist() == [1.0, 0.0]
    assert np.isnan(second.columns.numbers[1]).all()
    assert np.isnan(first.columns.numbers[3]).all()
    assert first.columns.strings[0].plain() == ["A", None]
    assert first.columns.strings[1].plain() == [None, None]
    assert second.t_ms.tolist() == [1_783_036_800_000]


def test_a_csv_file_reads_the_same(tmp_path: Path) -> None:
    """Cells of a CSV file are texts; an empty one is null."""
    path = tmp_path / "decisions.csv"
    path.write_text(
        "decided,facility.limit,draws,odd,behaviour.grade\n"
        "2026-07-01T00:00:00Z,1000,1,1,A\n2026-07-02T00:00:00Z,,2,0,\n2026-07-03T00:00:00Z,3000,,,A\n"
    )
    (whole,) = read(path)
    halves = read(written(tmp_path))
    for slot in range(4):
        columns = np.concatenate([half.columns.numbers[slot] for half in halves])
        assert np.array_equal(whole.columns.numbers[slot], columns, equal_nan=True)
    assert whole.columns.strings[0].plain() == ["A", None, "A"]
    assert whole.t_ms.tolist() == [t for half in halves for t in half.t_ms.tolist()]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"facility.limit": ["1000", "many", "3"]}, "row 2, column 'facility.limit': 'many' is not a number"),
        ({"draws": [1.0, 2.0, float("inf")]}, "row 3, column 'draws': inf is not a finite number"),
        ({"decided": [1_000, None, 2_000]}, "row 2, column 'decided': None is not an instant"),
        ({"behaviour.grade": [1.0, 2.0, 3.0]}, "texts are expected in the column 'behaviour.grade', not double"),
        ({"odd": [[1], [2], [3]]}, "numbers are expected in the column 'odd', not list"),
    ],
)
def test_what_is_no_value_is_refused_with_its_row(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    """Nothing unreadable becomes null."""
    with pytest.raises(InvalidInput, match=r"expected|is not") as caught:
        read(written(tmp_path, **changed))
    assert told in caught.value.message


def test_names_that_are_missing_are_named(tmp_path: Path) -> None:
    """A misspelt column would silently be unknown for every decision."""
    file = open_file(written(tmp_path), None)
    with pytest.raises(InvalidInput, match="has no column 'channel'"):
        list(read_decisions(file, LAYOUT, ("channel",)))
    with pytest.raises(InvalidInput, match="nothing is called 'draw'"):
        list(read_decisions(file, LAYOUT, ("draw",)))


def test_a_rule_set_judges_a_file(tmp_path: Path) -> None:
    """Fired, silent and unknown of the rows, as the conditions say."""
    names = {"facility.limit": Kind.NUMBER, "behaviour.grade": Kind.STRING}
    vocabulary = Vocabulary({name: NameSpec(name, kind) for name, kind in names.items()})
    document = read_text(
        "rule_set: r\nscene: drawdown\nfallback: {static: {hold: review, reason: RC90}}\nrules:\n"
        "  - {id: r, when: facility.limit > 2000 or behaviour.grade == 'B', on_null: skip, then: {tag: large}}\n",
        "r.yaml", Findings(),
    )  # fmt: skip
    assert document is not None
    spec = read_rule_set(document, vocabulary, Findings())
    assert spec is not None
    rule_set = VectorRuleSet(compile_rule_set(spec, LAYOUT, Findings()).spec, LAYOUT)
    verdicts = [rule_set.judge(part.columns, part.t_ms).verdicts[0].tolist() for part in read(written(tmp_path))]
    assert verdicts == [[0, 2], [1]]

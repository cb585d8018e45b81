"""Digests over columns are those over rows."""

from __future__ import annotations

import pyarrow as pa
import pytest
from made_archive import chained_rows, rows_of

from decision_service.archive.chain import erased
from decision_service.archive.digests import audit_digests, chain, leaves, personal_digests
from decision_service.archive.schema import Row
from decision_service.archive.tables import table_of


def check(rows: list[Row], table: pa.Table) -> None:
    audit, personal = audit_digests(table), personal_digests(table)
    for at, row in enumerate(rows):
        assert audit[32 * at : 32 * at + 32] == row.audit_sha
        assert row.erased_at_ms is not None or personal[32 * at : 32 * at + 32] == row.personal_sha
    assert chain(leaves(table), bytes(32)) == [row.hash for row in rows]


def test_digests_of_columns_are_those_of_rows() -> None:
    """Decisions, changes, shadows, erased rows and rows without anything, whole and in slices of a larger table."""
    rows = chained_rows(0xA3, 300)
    rows = [erased(row, 7) if at % 11 == 0 else row for at, row in enumerate(rows)]
    check(rows, table_of(rows))
    twice = pa.concat_tables([table_of(rows_of(1, 5, seed=9)), table_of(rows)])
    check(rows, twice.slice(5))


@pytest.mark.parametrize("number", [1, 2])
def test_digests_of_few_rows_are_those_of_rows(number: int) -> None:
    """Columns in which nothing stands at all, lists without items."""
    for place in (-3, 0, 255):
        rows = chained_rows(place, number)
        check(rows, table_of(rows))

"""The chain: digests written out by hand, and every way to tamper with a row shows."""

from __future__ import annotations

from hashlib import sha256

import pytest
from archive_cases import chained_rows

from decision_service.archive.chain import (
    GENESIS,
    audit_digest,
    canonical,
    chained,
    erased,
    leaf_of,
    linked,
    personal_digest,
    problem_of,
)
from decision_service.archive.schema import AUDIT, COLUMNS, PERSONAL, Column, Row, audit_values, personal_values

SMALL = Row(
    0x0A3, 1, 1_795_348_800_000, 2, "change", decision_id="d0", asked_minor=-2, reasons=["RC10", "€"], rules=[],
    numbers=b"", customer_id="c-1",
)  # fmt: skip


def test_the_canonical_bytes_are_those_of_the_docstring() -> None:
    """Text, number, list, empty list, empty bytes and nothing, each written out."""
    columns = [
        Column("a", "text", "audit"), Column("b", "int64", "audit"), Column("c", "texts", "audit"),
        Column("d", "texts", "audit"), Column("e", "bytes", "audit"), Column("f", "text", "audit"),
    ]  # fmt: skip
    assert canonical(["d0", -2, ["RC10", "€"], [], b"", None], columns) == bytes.fromhex(
        "01 02000000 6430"
        "01 08000000 feffffffffffffff"
        "01 13000000 02000000 04000000 52433130 03000000 e282ac"
        "01 04000000 00000000"
        "01 00000000"
        "00"
    )


def test_a_row_by_hand() -> None:
    """The digests of a small row, put together here byte by byte from the docstring of `chain.py`."""
    audit = (
        bytes.fromhex("01020000006430") + bytes(3)  # decision_id; scene, outcome, hold
        + bytes.fromhex("0108000000feffffffffffffff") + bytes(6)  # asked; approved .. rung
        + bytes.fromhex("0113000000020000000400000052433130" "03000000e282ac")  # reasons
        + bytes.fromhex("010400000000000000")  # rules
        + bytes(8)  # cells, limit_*, apr_*, scores, magic
        + bytes.fromhex("0100000000")  # numbers
        + bytes(7)  # verdicts, seq, read_version, customer_key, version, origin, body
    )  # fmt: skip
    assert canonical(audit_values(SMALL), AUDIT) == audit
    salt = bytes(range(16))
    personal = bytes.fromhex("0103000000632d31") + bytes(12)
    assert canonical(personal_values(SMALL), PERSONAL) == personal
    identity = bytes.fromhex("a300000000000000010000000000000000a22003a20100000200000000000000")
    assert identity[16:24] == (1_795_348_800_000).to_bytes(8, "little")
    leaf = sha256(
        b"DSA1" + identity + b"change" + sha256(audit).digest() + sha256(salt + personal).digest()
    ).digest()  # fmt: skip
    assert leaf_of(SMALL, audit_digest(SMALL), personal_digest(SMALL, salt)) == leaf
    assert linked(GENESIS, leaf) == sha256(bytes(32) + leaf).digest()
    assert linked(GENESIS, leaf).hex() == PINNED


PINNED = "79f45bf650fd2dd8bcb7db1453f373ad38b387e24ea218e1b61c5aa47338055a"


def test_rows_follow_each_other() -> None:
    """From the first on each row has the next position and a hash that rests on the one before."""
    rows = chained_rows(4)
    previous = GENESIS
    for n, row in enumerate(rows):
        assert problem_of(row, n, previous) == ""
        assert row.hash is not None
        previous = row.hash
    assert len({row.salt for row in rows}) == 4
    more = chained(rows[:1], 4, previous)
    assert problem_of(more[0], 4, previous) == ""


@pytest.mark.parametrize("column", [column for column in COLUMNS if column.name != "erased_at_ms"])
def test_no_column_can_be_changed(column: Column) -> None:
    """Whichever column of a row is changed, put in or taken out, something is wrong with it."""
    row = chained_rows(1)[0]
    was = getattr(row, column.name)
    others: dict[str, list[object]] = {
        "int16": [5, None], "int64": [1, 2, None], "text": ["x", "", None], "texts": [["x"], [], None],
        "bytes": [b"x", b"", bytes(32), None],
    }  # fmt: skip
    for other in others[column.sort]:
        if other != was and not (other is None and column.group == "identity"):
            assert problem_of(row._replace(**{column.name: other}), 0, GENESIS), f"{column.name} = {other!r}"


def test_no_row_can_be_left_out_or_moved() -> None:
    """A row after another than its own does not follow, whatever position it is given."""
    first, second, third = chained_rows(3)
    assert first.hash is not None
    assert "position" in problem_of(third, 1, first.hash)
    assert problem_of(third._replace(position=2), 1, first.hash)
    assert problem_of(second, 1, GENESIS)


def test_an_erased_row_still_follows() -> None:
    """Without its personal columns and salt; but neither with some of them left nor with others put in."""
    row = chained_rows(1)[0]
    without = erased(row, 5)
    assert problem_of(without, 0, GENESIS) == ""
    assert (without.customer_id, without.answer, without.salt, without.erased_at_ms) == (None, None, None, 5)
    assert without.outcome == row.outcome
    assert "customer_id" in problem_of(without._replace(customer_id="c-2"), 0, GENESIS)
    assert problem_of(without._replace(salt=row.salt), 0, GENESIS)
    assert problem_of(without._replace(erased_at_ms=None), 0, GENESIS)


def test_a_value_of_another_sort_is_a_mistake() -> None:
    """Nothing is hashed that could mean two things."""
    for value in (5, True, b"x", ["x"]):
        with pytest.raises(TypeError, match="decision_id"):
            audit_digest(SMALL._replace(decision_id=value))  # type: ignore[arg-type]

"""An entry becomes a row, and the row gives back the frame and the change, byte for byte."""

from __future__ import annotations

import struct

import orjson
import pytest
from archive_cases import NOON_MS, PARTITION, at, change, decided_row, decision_id, frame, other_facility, rules_fired

from decision_service.archive.rows import change_of, entry_id, frame_of, read_entry, row_of, signed
from decision_service.archive.schema import ACCESS, COLUMNS, LISTS, POLICY, Row
from decision_service.core.event import header
from decision_service.core.facility import Attribute
from decision_service.core.links import customer_key
from decision_service.decision_log import CRC_BYTES, MAGIC_WITHOUT_CRC, decode
from decision_service.store.changes import pack


def test_a_decision_is_a_row_that_tells_what_was_decided_and_why() -> None:
    """Every audit column of a drawdown has its value, in minor units and milliseconds."""
    row = decided_row()
    assert row.kind == "change"
    assert (row.partition, row.position, row.at_ms, row.at_n) == (PARTITION, 0, NOON_MS, 1)
    assert (row.scene, row.outcome, row.hold, row.rung) == ("drawdown", "hold", "step_up", "full")
    assert (row.asked_minor, row.approved_minor, row.currency) == (499_000, 100_001, "CNY")
    assert (row.decided_at_ms, row.t_ms) == (NOON_MS, NOON_MS - 500)
    assert (row.limit_kind, row.limit_from_minor, row.limit_to_minor) == ("draw_cap", 499_000, 100_001)
    assert (row.apr_from_bps, row.apr_to_bps) == (1_800, 2_050)
    assert (row.reasons, row.cells) == (["RC10", "RC11"], ["m:C/0.5"])
    assert row.rules == [f"9f2c51d07a3b/drawdown/{i}" for i in (0, 2, 3)]
    assert orjson.loads(row.scores or "") == {"behaviour": {"points": 612, "pd": 0.0135, "grade": "C"}}
    assert (row.seq, row.read_version, row.version, row.origin) == (41, 6, 7, "service")
    assert (row.customer_id, row.request_id, row.facility_id) == ("c-1", "r-1", "f-1")
    assert row.customer_key == signed(customer_key("c-1"))
    assert (row.decision_id, row.policy_id) == (decision_id(), "9f2c51d07a3b")


def test_a_review_asks_for_nothing() -> None:
    """A review's amount is not 0: nobody asked."""
    row = row_of(PARTITION, read_entry(at(1), pack(change())), frame(scene="limit", approved_minor=0), rules_fired)
    assert (row.scene, row.asked_minor, row.approved_minor) == ("limit", None, 0)


@pytest.mark.parametrize("numbers", [b"", bytes(range(256)) * 8])
def test_a_row_gives_back_the_frame_byte_for_byte(numbers: bytes) -> None:
    """Frames with a checksum, and those from before there was one."""
    for stored in (frame(numbers=numbers), MAGIC_WITHOUT_CRC + frame(numbers=numbers)[4:-CRC_BYTES]):
        row = row_of(PARTITION, read_entry(at(1), pack(change())), stored, rules_fired)
        assert frame_of(row) == stored
        assert decode(frame_of(row)).numbers == numbers


def test_what_has_no_frame_says_so() -> None:
    """Neither a change without a decision nor an erased one gives a frame."""
    row = row_of(PARTITION, read_entry(at(1), pack(change(decision_id=""))), None)
    with pytest.raises(ValueError, match="no decision"):
        frame_of(row)
    with pytest.raises(ValueError, match="erased"):
        frame_of(decided_row()._replace(answer=None))


def test_a_row_gives_back_its_change() -> None:
    """With everything that a commit can do at once."""
    events = (b'{"event_id":"e-1","kind":"repayment"}', '{"event_id":"\u20ac","kind":"label"}'.encode())
    whole = change(
        header=header(5, NOON_MS), events=events, origin="journal",
        facilities={"f-1": other_facility(), "f\n2": other_facility()},
        attributes={"a": Attribute("x\u20ac", 5), "b": Attribute(0.1, 6)},
    )  # fmt: skip
    fields = pack(whole)
    entry = read_entry(at(1), fields)
    row = row_of(PARTITION, entry, frame())
    assert change_of(row) == whole


def test_a_change_that_is_erased_is_not_empty() -> None:
    """It raises, and is not taken for a commit that did nothing; what is no commit has none."""
    with pytest.raises(ValueError, match="erased"):
        change_of(decided_row()._replace(customer_id=None))
    assert change_of(Row(LISTS, kind="list")) is None


@pytest.mark.parametrize(
    ("place", "fields", "told"),
    [
        (LISTS, {b"kind": b"list", b"list": b"block", b"value": b"d-1", b"present": b"1"},
         {"list": "block", "value": "d-1", "present": "1"}),
        (POLICY, {b"kind": b"policy", b"number": b"3", b"head": b'{"id": "p"}'}, {"number": "3", "head": {"id": "p"}}),
        (ACCESS, {b"kind": b"access", b"body": b'{"by":"kim"}'}, {"by": "kim"}),
    ],
)  # fmt: skip
def test_other_facts_are_kept_as_they_are(place: int, fields: dict[bytes, bytes], told: dict[str, object]) -> None:
    """A fact's fields are its body."""
    row = row_of(place, read_entry(at(1), fields), None)
    assert (row.kind, row.partition) == (fields[b"kind"].decode(), place)
    assert orjson.loads(row.body or "") == told


def test_a_published_policy_is_found_by_its_id() -> None:
    """The head that is told of it names it."""
    fields = {b"kind": b"policy", b"number": b"3", b"head": b'{"policy_id":"9f2c"}'}
    assert row_of(POLICY, read_entry(at(1), fields), None).policy_id == "9f2c"


def test_a_shadow_score_names_its_decision_and_an_erasure_its_customer() -> None:
    """So that both are found by what they concern."""
    shadow = {b"kind": b"shadow", b"id": decision_id().encode(), b"scores": b'{"behaviour":{}}'}
    row = row_of(PARTITION, read_entry(at(1), shadow), None)
    assert (row.decision_id, orjson.loads(row.body or "")) == (decision_id(), {"scores": {"behaviour": {}}})
    erasure = {b"kind": b"erasure", b"body": b'{"customer_key":-5,"by":"kim","at":1,"why":"asked"}'}
    assert row_of(PARTITION, read_entry(at(1), erasure), None).customer_key == -5


@pytest.mark.parametrize(
    "fields",
    [
        {}, {b"kind": b"nonsense", b"\xff": b"\xfe"}, {b"kind": b"unreadable"}, {b"kind": b"decision", b"id": b"d1"},
        {b"kind": b"list", b"value": b"\xff"}, {b"kind": b"access", b"body": b"{"}, {b"kind": b"\xff"},
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_read_is_kept_whole(fields: dict[bytes, bytes]) -> None:
    """It says why, keeps every byte, and stops nothing."""
    row = row_of(PARTITION, read_entry(at(4), fields), None)
    assert (row.kind, row.at_ms, row.at_n) == ("unreadable", NOON_MS + 1, 1)
    assert orjson.loads(row.body or "")["why"]
    assert len(orjson.loads(row.raw or "")["fields"]) == len(fields)


@pytest.mark.parametrize("stored", [None, b"DSF2", frame()[:-1] + b"\0", b"DSF1" + struct.pack("<6I", *[0] * 6)])
def test_a_bad_frame_spoils_no_state(stored: bytes | None) -> None:
    """The row says that the frame is bad and keeps it, and its change is there for the states after it."""
    row = row_of(PARTITION, read_entry(at(1), pack(change())), stored)
    assert row.kind == "unreadable"
    assert row.decision_id == decision_id()
    assert change_of(row) == change()
    assert "frame" in orjson.loads(row.body or "")["why"]
    assert (orjson.loads(row.raw)["frame"] is None) == (stored is None) if row.raw else stored is None


def test_a_decision_of_an_older_version_is_found_by_its_frame() -> None:
    """Its entry tells only its id: whose it is the frame says, and what it changed nobody does."""
    row = row_of(PARTITION, read_entry(at(1), {b"kind": b"decision", b"id": decision_id().encode()}), frame())
    assert (row.kind, row.customer_id, row.outcome, row.version) == ("change", "c-1", "hold", None)
    assert change_of(row) is None
    assert frame_of(row) == frame()


def test_the_ids_of_entries() -> None:
    """Two numbers; anything else is a mistake in the calling code."""
    assert entry_id(b"1764000000000-12") == (1_764_000_000_000, 12)
    with pytest.raises(ValueError, match="no id"):
        entry_id(b"1764000000000")


def test_the_columns_are_those_of_the_format() -> None:
    """Their order is part of the digests: a change of it is a new format."""
    assert [f"{column.name}:{column.sort}" for column in COLUMNS[:6]] == [
        "partition:int16", "position:int64", "at_ms:int64", "at_n:int64", "kind:text", "decision_id:text",
    ]  # fmt: skip
    groups = [column.group for column in COLUMNS]
    assert [groups.count(group) for group in ("identity", "audit", "personal", "proof")] == [5, 29, 13, 5]

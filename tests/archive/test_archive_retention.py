"""Erasing and purging: what must go goes, what stays verifies, and whoever is killed in between goes on."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from made_archive import DAY_MS, FIRST_MS, key_of, put, put_place, rows_of

from decision_service.archive.chain import chained
from decision_service.archive.erasure import Erasure, carry_out, erasures_of, order_fields, pending
from decision_service.archive.files import Archive
from decision_service.archive.retention import Retention, purge
from decision_service.archive.rewriting import files_of
from decision_service.archive.schema import ACCESS, PERSONAL, Row
from decision_service.archive.tables import rows_of as rows_in
from decision_service.archive.verify import Evidence, Span, Verification, verify
from decision_service.core.errors import InvalidInput
from decision_service.policies.signers import new_key

KEY = new_key("auditor")
TRUSTED = {"auditor": KEY.key.public_key()}
PLACE = 7
WHO = "c-客户"


class Killed(Exception):
    """Stands for kill -9: nothing of what follows happens."""


class Mortal(Archive):
    """An archive whose owner is killed before its n-th write."""

    left = 10**9

    def write(self, path: str, content: bytes) -> None:
        self._die()
        super().write(path, content)

    def remove(self, path: str) -> None:
        self._die()
        super().remove(path)

    def _die(self) -> None:
        if not self.left:
            raise Killed
        self.left -= 1


def verified(archive: Archive) -> Verification:
    return verify(archive.url, {}, Span(), Evidence(TRUSTED))


def all_rows(archive: Archive, place: int = PLACE) -> list[Row]:
    return [row for segment in archive.segments(places=[place]) for row in rows_in(archive.read(segment))]


def with_order(archive: Archive, customer_id: str = WHO) -> tuple[list[Row], Erasure]:
    """Two days of a place, an order to erase a customer, and rows of theirs that come after it."""
    rows = put_place(archive, PLACE, files=2, each=20)
    fields = order_fields(customer_id, "dpo", "request 17", 5)
    order = Row(
        PLACE, 0, FIRST_MS + 2 * DAY_MS, 0, "erasure", customer_key=key_of(customer_id), body=fields[b"body"].decode()
    )
    last = chained(
        [order, *rows_of(PLACE, 10, 9, FIRST_MS + 2 * DAY_MS, [customer_id])], len(rows), rows[-1].hash or b""
    )
    put(archive, last, rows[-1].hash or b"")
    return [*rows, *last], Erasure(PLACE, len(rows) + 1, key_of(customer_id), "dpo", 5, "request 17")


def test_an_erasure_leaves_nothing_personal_and_a_chain_that_holds(tmp_path: Path) -> None:
    """Of the customer's rows before the order; all others stay as they are, to the byte."""
    archive = Archive(tmp_path)
    before, erasure = with_order(archive)
    assert pending(archive, PLACE) == [erasure]
    assert "is not carried out" in " ".join(verified(archive).notes)
    meant = [row for row in before if row.customer_id == WHO and row.position < erasure.position]
    assert [told[1] for told in carry_out(archive, pending(archive, PLACE), 99)] == [len(meant)]
    after = all_rows(archive)
    for old, new in zip(before, after, strict=True):
        if old in meant:
            assert new == old._replace(**dict.fromkeys((c.name for c in PERSONAL), None), salt=None, erased_at_ms=99)
        else:
            assert new == old
    assert WHO.encode() not in b"".join(Path(archive.full(s.path)).read_bytes() for s in archive.segments()[:4])
    assert pending(archive, PLACE) == []
    told = verified(archive)
    assert told.sound
    assert "is not carried out" not in " ".join(told.notes)


def test_an_older_file_that_comes_back_after_an_erasure_is_named(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    _, erasure = with_order(archive)
    segment = archive.segments()[0]
    older = archive.read_bytes(segment.path)
    assert list(carry_out(archive, pending(archive, PLACE), 99))
    archive.write(segment.path, older)
    (defect,) = verified(archive).defects
    assert defect.part == "personal"
    assert f"row {erasure.position} had it erased" in defect.what


def test_a_killed_erasure_goes_on(tmp_path: Path) -> None:
    """Before any of its writes: the archive verifies, the order still waits, and the next run finishes it."""
    archive = Mortal(tmp_path)
    with_order(archive)
    for kill_at in range(20):
        archive.left = kill_at if not kill_at else 1
        try:
            list(carry_out(archive, pending(archive, PLACE), 99))
        except Killed:
            assert verified(archive).sound
            continue
        break
    else:
        raise AssertionError("it never came to an end")
    assert kill_at > 2
    assert verified(archive).sound
    assert all(row.erased_at_ms for row in all_rows(archive) if row.customer_key == key_of(WHO) and row.position < 80)


def test_a_hidden_file_is_erased_as_well(tmp_path: Path) -> None:
    """What a compaction merged and has not removed yet must not keep what the merged file lost."""
    archive = Archive(tmp_path)
    with_order(archive)
    parts = archive.segments()[:2]
    put(archive, [row for part in parts for row in rows_in(archive.read(part))], bytes(32), writer="c1")
    list(carry_out(archive, pending(archive, PLACE), 99))
    for segment in files_of(archive, PLACE)[:3]:
        assert WHO not in {row.customer_id for row in rows_in(archive.read(segment))}


@pytest.mark.parametrize(("by", "why"), [("", "x"), ("dpo", " "), ("dpo", f"{WHO} asked"), ("dpo", "y" * 501)])
def test_a_reason_must_be_one_and_name_nobody(by: str, why: str) -> None:
    with pytest.raises(InvalidInput):
        order_fields(WHO, by, why, 1)


def test_an_order_is_found_in_any_file(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    _, erasure = with_order(archive)
    assert erasures_of(archive, PLACE) == [erasure]
    assert erasures_of(archive, 3) == []


def test_retention_takes_payloads_first_and_rows_later(tmp_path: Path) -> None:
    """Day by day from the front; the chain begins at a signed anchor, and verification holds all along."""
    archive = Archive(tmp_path)
    for place in (PLACE, -1, ACCESS):
        put_place(archive, place, files=2, each=10)
    kept = Retention(audit_days=400, personal_days=30, access_days=200)
    now_ms = FIRST_MS + 31 * DAY_MS
    assert purge(archive, kept, KEY, now_ms, "test", dry_run=True).payload == {PLACE: 20}
    assert all(row.customer_id is not None for row in all_rows(archive) if row.kind == "change")
    told = purge(archive, kept, KEY, now_ms, "test")
    assert (told.files, told.payload, told.payload_rows) == (0, {PLACE: 20}, 20)
    assert [row.erased_at_ms for row in all_rows(archive)] == [now_ms] * 20 + [None] * 20
    assert verified(archive).sound
    assert purge(archive, kept, KEY, now_ms, "test").as_json()["checkpoint"] == ""
    told = purge(archive, kept, KEY, FIRST_MS + 201 * DAY_MS, "test")
    assert {place: link.position for place, link in told.removed.items()} == {ACCESS: 20}
    assert [row.position for row in all_rows(archive, ACCESS)] == list(range(21, 41))
    assert verified(archive).sound
    told = purge(archive, kept, KEY, FIRST_MS + 402 * DAY_MS, "test")
    assert (told.files, len(archive.segments())) == (2 + 4 + 4, 0)
    told_sound = verified(archive)
    assert (told_sound.sound, told_sound.rows) == (True, 0), told_sound.defects
    assert verify(archive.url, {}, Span(), Evidence({})).defects


def test_a_killed_purge_goes_on(tmp_path: Path) -> None:
    archive = Mortal(tmp_path)
    put_place(archive, PLACE, files=2, each=10)
    kept = Retention(audit_days=30, personal_days=30, access_days=200)
    for _ in range(20):
        archive.left = 1
        try:
            purge(archive, kept, KEY, FIRST_MS + 31 * DAY_MS, "test")
        except Killed:
            assert verified(archive).sound
            continue
        break
    archive.left = 10**9
    purge(archive, kept, KEY, FIRST_MS + 31 * DAY_MS, "test")
    assert [segment.first for segment in archive.segments()] == [21, 31]
    assert verified(archive).sound


def test_a_place_with_a_defect_is_not_purged(tmp_path: Path) -> None:
    """An anchor must not be signed over rows that are not as they were written."""
    archive = Archive(tmp_path)
    put_place(archive, PLACE, files=2, each=10)
    Path(archive.full(archive.segments()[0].path)).unlink()
    told = purge(archive, Retention(30, 30, 200), KEY, FIRST_MS + 31 * DAY_MS, "test")
    assert told.defects
    assert not told.removed
    assert len(archive.segments()) == 3


@pytest.mark.parametrize("days", [(400, 30, 183), (30, 31, 366), (30, 0, 366)])
def test_a_retention_that_is_too_short_is_refused(days: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Retention(*days)


def test_the_tombstone_names_nobody() -> None:
    body = orjson.loads(order_fields(WHO, "dpo", "request 17", 5)[b"body"])
    assert body == {"customer_key": key_of(WHO), "by": "dpo", "at_ms": 5, "why": "request 17"}

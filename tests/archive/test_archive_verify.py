"""Attacks on an archive: each is found, and the first row that it touched is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from made_archive import put, put_place

from decision_service.archive.chain import chained, erased
from decision_service.archive.checkpointing import Checkpointing, checkpoint_verified, documents_new
from decision_service.archive.checkpoints import Checkpoint, Link, make_checkpoint, read_checkpoints
from decision_service.archive.defects import Defect
from decision_service.archive.files import Archive
from decision_service.archive.schema import Row
from decision_service.archive.segments import Segment
from decision_service.archive.tables import parquet_of, rows_of, table_of
from decision_service.archive.verify import Evidence, Span, Verification, verify
from decision_service.policies.signers import SigningKey, new_key

KEY = new_key("auditor")
OTHER_KEY = new_key("auditor")
TRUSTED = {"auditor": KEY.key.public_key()}
PLACE = 0xA3
ALL = Span()


@dataclass
class Attacked:
    """An archive of three places, with a checkpoint over each of its two days."""

    archive: Archive
    rows: list[Row]

    def segment(self, number: int) -> Segment:
        return self.archive.segments(places=[PLACE])[number]

    def rewrite(self, segment: Segment, rows: Sequence[Row], previous: bytes | None = None) -> None:
        """Put other rows into a file, which stays what its name says as far as it can."""
        old, _ = self.archive.hashes(segment)
        self.archive.write(segment.path, parquet_of(table_of(rows), old if previous is None else previous))

    def edit(self, segment: Segment, change: Callable[[list[Row]], Sequence[Row]]) -> None:
        self.rewrite(segment, change(rows_of(self.archive.read(segment))))

    def verified(self, evidence: Evidence | None = None, span: Span = ALL) -> Verification:
        return verify(self.archive.url, {}, span, evidence or Evidence(TRUSTED))

    def full(self, path: str) -> Path:
        return Path(self.archive.full(path))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    """The archive that every attack begins with a copy of."""
    archive = Archive(tmp_path_factory.mktemp("made") / "archive")
    places = {place: put_place(archive, place, seed=place + 2) for place in (0, PLACE, -1)}
    for count in (120, 240):
        heads = {place: Link(count, rows[count - 1].hash or b"") for place, rows in places.items()}
        gained = Checkpoint(1_795_400_000_000 + count, "test", places=heads, kept=documents_new(archive, set()))
        make_checkpoint(archive, gained, KEY)
    return Attacked(archive, places[PLACE])


@pytest.fixture
def attacked(made: Attacked, tmp_path: Path) -> Attacked:
    shutil.copytree(made.archive.url, tmp_path / "archive")
    return Attacked(Archive(tmp_path / "archive"), made.rows)


def only(told: Verification) -> Defect:
    assert [str(defect) for defect in told.defects[1:]] == []
    assert not told.sound
    return told.defects[0]


def test_an_untouched_archive_is_sound(attacked: Attacked) -> None:
    """Every row is walked, every pin met; in processes of their own as well."""
    told = attacked.verified()
    assert (told.sound, told.rows, told.believed) == (True, 720, 2), told.defects
    assert told.as_json()["pinned"] == 6
    again = verify(attacked.archive.url, {}, ALL, Evidence(TRUSTED), jobs=2)
    assert (again.sound, again.rows) == (True, 720)


@pytest.mark.parametrize(
    ("column", "part"),
    [("approved_minor", "audit"), ("numbers", "audit"), ("reasons", "audit"), ("request", "personal"),
     ("salt", "personal"), ("at_n", "chain"), ("kind", "chain"), ("hash", "chain")],
)  # fmt: skip
def test_a_changed_value_is_named(attacked: Attacked, column: str, part: str) -> None:
    """The row and what of it, wherever the value stands."""
    values = {
        "approved_minor": 1, "numbers": b"12345678", "reasons": ["RC01"], "request": b"{}", "salt": bytes(16),
        "at_n": 9, "kind": "shadow", "hash": bytes(32),
    }  # fmt: skip

    def change(rows: list[Row]) -> list[Row]:
        rows[17] = rows[17]._replace(**{column: values[column]})
        return rows

    attacked.edit(attacked.segment(1), change)
    told = attacked.verified().defects
    found = told[0]
    assert (found.part, found.place, found.position) == (part, PLACE, 58)
    assert found.decision_id == (attacked.rows[57].decision_id or "")
    assert found.path == attacked.segment(1).path
    assert len(told) == 1


def test_a_changed_value_with_its_digest_made_anew_is_named(attacked: Attacked) -> None:
    """Whoever recomputes the digests of the row breaks the chain at it."""

    def change(rows: list[Row]) -> list[Row]:
        forged = chained([rows[17]._replace(approved_minor=10**9)], 57, rows[16].hash or b"")[0]
        rows[17] = forged._replace(hash=rows[17].hash)
        return rows

    attacked.edit(attacked.segment(1), change)
    found = only(attacked.verified())
    assert (found.part, found.position) == ("chain", 58)


def test_a_removed_row_is_named(attacked: Attacked) -> None:
    attacked.edit(attacked.segment(1), lambda rows: [*rows[:17], *rows[18:]])
    found = only(attacked.verified())
    assert (found.part, found.position, found.last) == ("position", 58, 58)
    assert "removed" in found.what


def test_a_removed_row_is_named_though_the_others_were_numbered_again(attacked: Attacked) -> None:
    def remove(rows: list[Row]) -> list[Row]:
        return [*rows[:17], *(row._replace(position=row.position - 1) for row in rows[18:])]

    attacked.edit(attacked.segment(1), remove)
    told = attacked.verified().defects
    assert ("chain", 58) in [(defect.part, defect.position) for defect in told]


def test_removed_rows_at_the_end_of_a_file_are_named(attacked: Attacked) -> None:
    attacked.edit(attacked.segment(1), lambda rows: rows[:-3])
    told = attacked.verified().defects
    assert ("position", 78, 80) in [(defect.part, defect.position, defect.last) for defect in told]


def test_an_inserted_row_is_named(attacked: Attacked) -> None:
    attacked.edit(attacked.segment(1), lambda rows: [*rows[:17], rows[16], *rows[17:]])
    found = only(attacked.verified())
    assert (found.part, found.position) == ("position", 58)
    assert "inserted or repeated" in found.what


def test_two_rows_that_changed_places_are_named(attacked: Attacked) -> None:
    attacked.edit(attacked.segment(1), lambda rows: [*rows[:17], rows[18], rows[17], *rows[19:]])
    found = only(attacked.verified())
    assert (found.part, found.position) == ("position", 58)
    assert "reordered" in found.what


def test_two_rows_that_changed_places_and_positions_are_named(attacked: Attacked) -> None:
    def swap(rows: list[Row]) -> list[Row]:
        one, other = rows[17]._replace(position=59), rows[18]._replace(position=58)
        return [*rows[:17], other, one, *rows[19:]]

    attacked.edit(attacked.segment(1), swap)
    assert (attacked.verified().defects[0].part, attacked.verified().defects[0].position) == ("chain", 58)


def test_a_missing_file_is_named_by_its_rows(attacked: Attacked) -> None:
    attacked.full(attacked.segment(2).path).unlink()
    found = only(attacked.verified())
    assert (found.part, found.position, found.last) == ("position", 81, 120) or found.part == "checkpoint"


def test_a_missing_first_file_is_named(attacked: Attacked) -> None:
    attacked.full(attacked.segment(0).path).unlink()
    found = only(attacked.verified())
    assert (found.part, found.position, found.last) == ("position", 1, 40)


def test_a_missing_last_file_is_named_by_the_checkpoint(attacked: Attacked) -> None:
    attacked.full(attacked.segment(5).path).unlink()
    found = only(attacked.verified())
    assert (found.part, found.position, found.last) == ("tail", 201, 240)
    assert "checkpoints/" in found.what


def test_a_missing_tail_is_named_by_the_store(attacked: Attacked) -> None:
    """Whoever takes the last checkpoint away as well is told on by the store's head."""
    attacked.full(attacked.segment(5).path).unlink()
    newest = read_checkpoints(attacked.archive)[0][-1]
    attacked.full(newest.name).unlink()
    assert attacked.verified().sound
    heads = {PLACE: Link(240, attacked.rows[-1].hash or b"")}
    found = only(attacked.verified(Evidence(TRUSTED, heads)))
    assert (found.part, found.position, found.last) == ("tail", 201, 240)
    kept = (newest.name, b"")
    assert "is no checkpoint" in only(attacked.verified(Evidence(TRUSTED, copies=[kept]))).what


def test_a_copy_of_a_checkpoint_that_was_removed_tells_on_it(attacked: Attacked) -> None:
    newest = read_checkpoints(attacked.archive)[0][-1]
    copy = (newest.name, attacked.archive.read_bytes(newest.name))
    attacked.full(attacked.segment(5).path).unlink()
    attacked.full(newest.name).unlink()
    told = attacked.verified(Evidence(TRUSTED, copies=[copy])).defects
    assert [defect.part for defect in told] == ["checkpoint", "tail"]


def test_a_whole_place_that_is_gone_is_named(attacked: Attacked) -> None:
    for segment in attacked.archive.segments(places=[PLACE]):
        attacked.full(segment.path).unlink()
    found = only(attacked.verified())
    assert (found.part, found.place, found.position, found.last) == ("tail", PLACE, 1, 240)


def test_a_renamed_file_is_named(attacked: Attacked) -> None:
    """Into another place, to other positions, to what no archive has."""
    segment = attacked.segment(1)
    other = segment.path.replace("p=0a3", "p=0a4")
    attacked.full(other).parent.mkdir()
    attacked.full(segment.path).rename(attacked.full(other))
    told = attacked.verified().defects
    assert {(defect.part, defect.place) for defect in told} >= {("position", PLACE), ("file", 0xA4)}
    attacked.full(other).rename(attacked.full(segment.path.replace("000000000041", "000000000042")))
    assert "is not what its name says" in attacked.verified().defects[1].what
    attacked.full(segment.path.replace("000000000041", "000000000042")).rename(
        attacked.full(segment.path).with_name("x")
    )
    told = attacked.verified().defects
    assert told[0].what == "does not belong into an archive"
    assert (told[1].part, told[1].position, told[1].last) == ("position", 41, 80)


def test_a_second_file_with_the_same_positions_is_named(attacked: Attacked) -> None:
    rows = rows_of(attacked.archive.read(attacked.segment(1)))
    previous, _ = attacked.archive.hashes(attacked.segment(1))
    path = put(attacked.archive, rows, previous, writer="2")
    found = only(attacked.verified())
    assert (found.part, found.position, found.last, found.path) == ("position", 41, 80, path)
    assert "there twice" in found.what


def test_what_a_compaction_has_merged_and_not_removed_is_no_defect(attacked: Attacked) -> None:
    rows = [row for number in (0, 1, 2) for row in rows_of(attacked.archive.read(attacked.segment(number)))]
    put(attacked.archive, rows, bytes(32), writer="c1")
    assert attacked.verified().sound


def test_a_torn_file_is_named(attacked: Attacked) -> None:
    path = attacked.full(attacked.segment(1).path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    told = attacked.verified().defects
    assert told[0].part in ("file", "audit", "personal", "chain")
    assert told[0].path == attacked.segment(1).path
    path.write_bytes(bytes(content[:500]))
    found = only(attacked.verified())
    assert (found.part, found.position, found.last) == ("file", 41, 80)


def test_a_forged_chain_is_caught_by_the_checkpoint_after_it(attacked: Attacked) -> None:
    """Sound in itself from a row on; the checkpoint says between which rows it was begun."""
    previous, position = attacked.rows[149].hash or b"", 150
    for number in (3, 4, 5):
        segment = attacked.segment(number)
        rows = rows_of(attacked.archive.read(segment))
        kept = [row for row in rows if row.position <= 150]
        forged = chained([row._replace(approved_minor=1) for row in rows[len(kept) :]], position, previous)
        attacked.full(segment.path).unlink()
        before = attacked.rows[segment.first - 2].hash if kept else previous
        put(attacked.archive, [*kept, *forged], before or b"")
        previous, position = forged[-1].hash or b"", forged[-1].position
    found = only(attacked.verified())
    assert (found.part, found.position, found.last) == ("checkpoint", 121, 240)
    assert attacked.verified(Evidence({"auditor": OTHER_KEY.key.public_key()})).defects[0].part == "checkpoint"


def test_a_changed_checkpoint_is_named(attacked: Attacked) -> None:
    first, second = read_checkpoints(attacked.archive)[0]
    content = attacked.archive.read_bytes(first.name).replace(b"[120,", b"[119,")
    attacked.full(first.name).unlink()
    renamed = first.name[:-13] + sha256(content).hexdigest()[:8] + ".json"
    attacked.archive.write(renamed, content)
    told = [(defect.path, defect.what) for defect in attacked.verified().defects]
    assert told == [
        (renamed, "was changed after 'auditor' signed it, or was forged"),
        (second.name, "the checkpoint before it is missing, or was changed"),
    ]


@pytest.mark.parametrize(
    ("key", "what"), [(None, "is not signed"), (OTHER_KEY, "was changed after"), (new_key("eve"), "who is not trusted")]
)
def test_a_checkpoint_of_somebody_else_is_named(attacked: Attacked, key: object, what: str) -> None:
    make_checkpoint(attacked.archive, Checkpoint(0, "eve", places={PLACE: Link(10**6, os.urandom(32))}), key)  # type: ignore[arg-type]
    assert what in only(attacked.verified()).what


def test_what_a_consumer_without_a_key_pinned_is_signed_over(attacked: Attacked) -> None:
    """Its checkpoints before a trusted one are no defect, unless they let something be gone; later ones are."""

    def pin(position: int, key: SigningKey | None, payload: int = 0) -> None:
        told = {PLACE: Link(position, attacked.rows[position - 1].hash or b"")}
        assert make_checkpoint(attacked.archive, Checkpoint(0, "x", places=told, payload={PLACE: payload}), key)

    for kept in read_checkpoints(attacked.archive)[0]:
        attacked.full(kept.name).unlink()
    pin(236, KEY)
    pin(237, None)
    assert "is not signed" in only(attacked.verified()).what
    pin(238, KEY)
    assert attacked.verified().sound
    pin(239, None, payload=42)
    pin(240, KEY)
    assert "is not signed" in only(attacked.verified()).what


def test_a_payload_that_is_gone_needs_a_reason(attacked: Attacked) -> None:
    """Erased rows without an erasure row in the chain are named; retention explains those up to its row."""

    def erase(rows: list[Row]) -> list[Row]:
        return [erased(row, 5) if row.position in (42, 47) else row for row in rows]

    attacked.edit(attacked.segment(1), erase)
    told = attacked.verified().defects
    assert [(defect.part, defect.position) for defect in told] == [("personal", 42), ("personal", 47)]
    make_checkpoint(attacked.archive, Checkpoint(0, "test", payload={PLACE: 42}), KEY)
    assert [defect.position for defect in attacked.verified().defects] == [47]
    make_checkpoint(attacked.archive, Checkpoint(0, "test", payload={PLACE: 47}), KEY)
    assert attacked.verified().sound


def test_the_chain_begins_behind_what_retention_purged(attacked: Attacked) -> None:
    """With a signed anchor; without one the rows are missing."""
    make_checkpoint(
        attacked.archive, Checkpoint(0, "test", purged={PLACE: Link(80, attacked.rows[79].hash or b"")}), KEY
    )
    for number in (0, 0):
        attacked.full(attacked.segment(number).path).unlink()
    assert attacked.verified().sound
    assert attacked.verified(Evidence({})).defects[-1].position == 1


def test_a_span_of_days_is_verified_by_itself(attacked: Attacked) -> None:
    day = 86_400_000
    told = attacked.verified(span=Span(since_ms=1_795_305_600_000 + day, places=[PLACE]))
    assert (told.sound, told.rows, told.places[0].first) == (True, 120, 121)
    told = attacked.verified(span=Span(until_ms=1_795_305_600_000 + 5))
    assert (told.sound, told.rows) == (True, 360)


@pytest.mark.parametrize("folder", ["policies", "contents", "cards", "lists"])
def test_a_document_that_was_changed_or_is_missing_is_named(attacked: Attacked, folder: str) -> None:
    """Whatever rows rest on: records of policies, rule files, scorecards, lists."""
    (name,) = attacked.archive.names(folder)
    path = f"{folder}/{name}"
    content = attacked.archive.read_bytes(path)
    changed = content.replace(b"made", b"MADE").replace(b"tree", b"TREE").replace(b"c-1", b"c-2")
    attacked.archive.write(path, changed if changed != content else content[:-1] + b"\0")
    found = only(attacked.verified())
    assert (found.part, found.path) == ("document", path)
    attacked.full(path).unlink()
    found = only(attacked.verified())
    assert (found.part, found.path) == ("document", path)
    assert "is missing" in found.what


def test_a_real_archive_is_sound_until_it_is_touched(lived: Archive) -> None:
    """Decisions of every sort, made by the service, with policy and lists; then one amount of one of them."""
    told = verify(lived.url, {}, ALL, Evidence())
    assert told.sound, told.defects
    assert told.rows > 50
    assert told.documents > 1
    segment = next(s for s in lived.segments() if "approve" in lived.read(s, ["outcome"])["outcome"].to_pylist())
    rows = rows_of(lived.read(segment))
    at = next(i for i, row in enumerate(rows) if row.outcome == "approve")
    rows[at] = rows[at]._replace(approved_minor=(rows[at].approved_minor or 0) + 1)
    lived.write(segment.path, parquet_of(table_of(rows), lived.hashes(segment)[0]))
    (defect,) = verify(lived.url, {}, ALL, Evidence()).defects
    assert (defect.part, defect.decision_id) == ("audit", rows[at].decision_id)


def test_a_checkpoint_is_made_of_what_was_verified(lived: Archive) -> None:
    """By a command, and by whoever moved the heads; the second finds nothing new."""
    made, defects = checkpoint_verified(lived.url, {}, KEY, 1, "test")
    assert made is not None
    assert not defects
    assert made.checkpoint.kept.keys() == {f"policies/{name}" for name in lived.names("policies")}
    assert verify(lived.url, {}, ALL, Evidence(TRUSTED)).sound
    checkpointing = Checkpointing(lived, KEY, "test", every_minutes=1)
    assert checkpointing.make(made.checkpoint.places, 2) is None
    assert not checkpointing.due(60_001)
    assert checkpointing.due(60_002)


def test_nobody_signs_what_an_unsigned_checkpoint_claims(attacked: Attacked) -> None:
    """Rows that it lets be gone, and a hash that the chain does not have: a key does not make them true."""
    newest = read_checkpoints(attacked.archive)[0][-1].checkpoint
    link = newest.places[PLACE]
    claim = Checkpoint(newest.at_ms + 1, "forger", purged={PLACE: Link(40, attacked.rows[39].hash or b"")})
    forged = make_checkpoint(attacked.archive, claim, None)
    assert forged is not None
    made, (defect,) = checkpoint_verified(attacked.archive.url, {}, KEY, newest.at_ms + 2, "test")
    assert made is None
    assert (defect.part, defect.path) == ("checkpoint", forged.name)
    attacked.full(forged.name).unlink()

    rows = rows_of(attacked.archive.read(attacked.segment(-1)))
    more = chained([rows[-1]._replace(hash=None)], link.position, rows[-1].hash or b"")
    put(attacked.archive, more, rows[-1].hash or b"")
    wrong = Checkpoint(newest.at_ms + 1, "forger", places={PLACE: Link(link.position + 1, b"x" * 32)})
    assert make_checkpoint(attacked.archive, wrong, None) is not None
    made, defects = checkpoint_verified(attacked.archive.url, {}, KEY, newest.at_ms + 2, "test")
    assert made is None
    assert [defect.part for defect in defects] == ["checkpoint"]

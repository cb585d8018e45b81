"""Archives made for tests: rows of every kind, chained, as Parquet files where the archive has them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import sha256

import orjson

from decision_service.archive.chain import chained
from decision_service.archive.files import Archive
from decision_service.archive.schema import Row
from decision_service.archive.segments import day_of, segment_path
from decision_service.archive.tables import parquet_of, table_of
from decision_service.core.links import customer_key
from decision_service.policies.bundle import Content
from decision_service.policies.list_copies import ListCopies
from decision_service.policies.sources import card_name, content_name, list_name, packed, record_name

DAY_MS = 86_400_000
FIRST_MS = 1_795_305_600_000  # 2026-11-22T00:00Z
POLICY_ID = "9f2c51d07a3b"
CUSTOMERS = ("c-1001", "c-客户", "c-3", "c-4")


def key_of(customer_id: str) -> int:
    """A customer's key as rows have it."""
    key = customer_key(customer_id)
    return key - (1 << 64) if key >> 63 else key


def rows_of(
    place: int, number: int, seed: int = 1, at_ms: int = FIRST_MS, customers: Sequence[str] = CUSTOMERS
) -> list[Row]:
    """So many rows of a place, not chained: decisions, changes without one, shadows."""
    draw = random.Random(seed)
    made = []
    for index in range(number):
        customer = draw.choice(customers)
        at_ms += draw.randrange(0, 1_000)
        if index % 7 == 3:
            made.append(Row(place, 0, at_ms, index % 3, "shadow", f"d{place:03x}{index:032x}", body='{"scores": {}}'))
            continue
        decided = index % 5 != 4
        row = Row(
            place, 0, at_ms, 0, "change", customer_key=key_of(customer), version=index + 1, origin="service",
            customer_id=customer, records=draw.randbytes(64), header=draw.randbytes(64) if index % 3 == 0 else None,
            facilities='{"f-1": [1, 2]}' if index % 2 else None, events=None if decided else '[{"kind": "repayment"}]',
        )  # fmt: skip
        if decided:
            row = row._replace(
                decision_id=f"d{place:03x}{index:032x}", scene="drawdown", outcome=draw.choice(["approve", "hold"]),
                hold="review" if index % 2 else None, asked_minor=draw.randrange(1, 10**9), approved_minor=-index,
                currency="CNY", decided_at_ms=at_ms, t_ms=at_ms, policy_id=POLICY_ID, rung="full",
                reasons=[f"RC{n}" for n in range(index % 4)], rules=None if index % 6 == 0 else ["odd_hour", "客"],
                cells=[], scores="{}", magic=b"DSF2", numbers=draw.randbytes(8 * 40), verdicts=draw.randbytes(30),
                seq=index, read_version=index, request_id=f"r-{index}", facility_id="f-1",
                fingerprint=draw.randbytes(16), answer=b'{"decision": "hold"}', request=b'{"amount": 1}', rest=b"{}",
            )  # fmt: skip
        made.append(row)
    return made


def chained_rows(place: int, number: int, **told: object) -> list[Row]:
    """So many rows of a place from its beginning."""
    return chained(rows_of(place, number, **told), 0, bytes(32))  # type: ignore[arg-type]


def put(archive: Archive, rows: Sequence[Row], previous: bytes, writer: str = "1") -> str:
    """Write chained rows of one place and day as a segment; its path."""
    first, last = rows[0], rows[-1]
    assert last.hash is not None
    path = segment_path(first.partition, day_of(first.at_ms), first.position, last.position, writer, last.hash)
    archive.write(path, parquet_of(table_of(rows), previous))
    return path


def put_policy(archive: Archive) -> None:
    """The policy that rows name: a file, a list and a scorecard of nothing."""
    content = Content({"drawdown.yaml": "rule_set: drawdown\n"}, ())
    model = b"tree"
    manifest = f"model: {{file: model.txt, sha256: {sha256(model).hexdigest()}}}"
    card = {"manifest.yaml": manifest.encode(), "model.txt": model}
    digest = sha256(card["manifest.yaml"]).hexdigest()
    copies = ListCopies()
    listed = copies.look(frozenset({"c-1"}))
    record = {
        "id": POLICY_ID, "label": "made", "content": content.digest, "lists": {"block": listed}, "zone": "UTC",
        "cards": [["behaviour", "1", digest]],
    }  # fmt: skip
    archive.write(content_name(content.digest), content.pack())
    archive.write(card_name(digest), packed(card))
    archive.write(list_name(listed), copies.document())
    archive.write(record_name(POLICY_ID), orjson.dumps(record))


def put_place(archive: Archive, place: int, days: int = 2, files: int = 3, each: int = 40, seed: int = 1) -> list[Row]:
    """A place of so many days with so many files each; its rows."""
    written: list[Row] = []
    if not archive.exists(record_name(POLICY_ID)):
        put_policy(archive)
    for day in range(days):
        rows = rows_of(place, files * each, seed + day, FIRST_MS + day * DAY_MS)
        for at in range(0, len(rows), each):
            previous = written[-1].hash if written else bytes(32)
            assert previous is not None
            sealed = chained(rows[at : at + each], len(written), previous)
            put(archive, sealed, previous)
            written += sealed
    return written

"""`archive erase` and `archive verify --store` with a real store: ordered, chained, carried out, proven."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest
from made_archive import key_of, put, put_place

from decision_service.archive.chain import chained
from decision_service.archive.files import Archive
from decision_service.archive.rows import read_entry, row_of
from decision_service.archive.tables import rows_of as rows_in
from decision_service.cli import main
from decision_service.store.keys import decision_key, partition_of
from decision_service.store.open import open_store
from decision_service.store.outbox import ArchiveHead
from valkey_server import ValkeyServer

WHO = "c-客户"
PLACE = partition_of(WHO, 256)
T = 5.0


async def archive_all(url: str, archive: Archive) -> int:
    """What a consumer does with the entries of the place, in one round; how many there were."""
    store = open_store(url)
    try:
        head = await store.take_place(PLACE, "test", 10_000, T)
        assert head is not None
        rows = [row for segment in archive.segments(places=[PLACE]) for row in rows_in(archive.read(segment))]
        entries = await store.read_outbox(PLACE, head.last_id, 100, T)
        if not entries:
            return 0
        new = [row_of(PLACE, read_entry(at, fields), None) for at, fields in entries]
        sealed = chained(new, len(rows), rows[-1].hash or b"")
        path = put(archive, sealed, rows[-1].hash or b"")
        after = ArchiveHead(sealed[-1].position, sealed[-1].hash or b"", entries[-1][0], path, head.fence)
        await store.archived(PLACE, head, after, [], 1_000, b"", T)
        return len(entries)
    finally:
        await store.close()


def test_a_customer_is_erased_by_a_command(
    valkey: str, valkey_server: ValkeyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a consumer runs beside it; and verified against the store afterwards."""
    archive = Archive(tmp_path / "archive")
    put_place(archive, PLACE, days=1, files=2, each=20)
    stop = threading.Event()

    def consume() -> None:
        while not stop.is_set() and not asyncio.run(archive_all(valkey, archive)):
            stop.wait(0.1)

    decision_id = next(
        r.decision_id for s in archive.segments() for r in rows_in(archive.read(s)) if r.customer_id == WHO
    )
    assert decision_id is not None
    with valkey_server.client() as client:
        client.set(decision_key(PLACE, decision_id), b"a frame")
    consumer = threading.Thread(target=consume)
    consumer.start()
    options = ["--archive", archive.url, "--redis-url", valkey, "--json"]
    try:
        status = main(["archive", "erase", "--customer", WHO, "--by", "dpo", "--why", "request 17", *options])
    finally:
        stop.set()
        consumer.join()
    told = json.loads(capsys.readouterr().out)
    assert (status, len(told["carried_out"])) == (0, 1)
    rows = [row for segment in archive.segments(places=[PLACE]) for row in rows_in(archive.read(segment))]
    with valkey_server.client() as client:
        assert client.get(decision_key(PLACE, decision_id)) is None
    assert rows[-1].kind == "erasure"
    assert WHO not in {row.customer_id for row in rows}
    assert told["carried_out"][0]["rows"] == sum(row.customer_key == key_of(WHO) for row in rows[:-1]) > 0
    assert main(["archive", "verify", "--store", *options]) == 0
    assert main(["archive", "erase", "--pending", *options]) == 0
    Path(archive.full(archive.segments(places=[PLACE])[-1].path)).unlink()
    capsys.readouterr()
    assert main(["archive", "verify", "--store", *options]) == 1
    assert "tail" in {defect["part"] for defect in json.loads(capsys.readouterr().out)["defects"]}


def test_an_order_that_is_not_archived_in_time_waits(
    valkey: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = Archive(tmp_path / "archive")
    put_place(archive, PLACE, days=1, files=1, each=20)
    options = ["--archive", archive.url, "--redis-url", valkey]
    order = ["archive", "erase", "--customer", WHO, "--by", "dpo", "--why", "request 17", "--wait", "0"]
    assert main([*order, *options]) == 1
    assert "not archived yet" in capsys.readouterr().err
    assert asyncio.run(archive_all(valkey, archive)) == 1
    assert main(["archive", "erase", "--pending", *options]) == 0
    assert "rows erased" in capsys.readouterr().out
    assert main(["archive", "erase", "--customer", WHO, "--by", "dpo", "--why", f"{WHO} asked", *options]) == 5

"""`archive run --once` and `archive dead-letters` on a real store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from archive_checks import PARTITIONS, TIMEOUT_S, decide, rows_in

from decision_service.cli import main
from decision_service.store.open import open_store


@pytest.fixture
def arguments(valkey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options of a consumer on the test's own store and folder."""
    monkeypatch.setenv("DECISION_SERVICE_PARTITIONS", str(PARTITIONS))
    return ["--archive", str(tmp_path / "archive"), "--redis-url", valkey, "--json"]


async def fill(url: str) -> None:
    """Three decisions, one of which has lost its frame, and an entry that nobody understands."""
    store = open_store(url, partitions=PARTITIONS)
    try:
        ids = await decide(store, 1, range(3))
        place = int(ids[0][1:4], 16)
        await store.add_entry(place, {b"kind": b"riddle", b"what": b"\xff"}, TIMEOUT_S)
        head = await store.take_place(place, "test", 60_000, TIMEOUT_S)
        assert head is not None
        await store.archived(place, head, head, [ids[1]], 1, b"", TIMEOUT_S)  # the frame is gone a millisecond later
        await store.leave_place(place, "test", TIMEOUT_S)
    finally:
        await store.close()


def test_what_cannot_be_read_is_listed(
    valkey: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is archived with the rest, counted, told with its reason, and all that was there is kept."""
    asyncio.run(fill(valkey))
    assert main(["archive", "run", "--once", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 4
    where = ["--archive", str(tmp_path / "archive")]
    assert main(["archive", "dead-letters", *where, "--json", "--raw"]) == 1
    letters = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [letter["position"] for letter in letters] == [2, 4]
    assert "frame" in letters[0]["why"]
    assert letters[0]["decision_id"]
    assert letters[1]["raw"]["fields"] == {"kind": "cmlkZGxl", "what": "/w=="}
    assert main(["archive", "dead-letters", *where]) == 1
    assert "row 4" in capsys.readouterr().out
    assert main(["archive", "dead-letters", *where, "--until", "2026-01-01"]) == 0
    assert "everything was read" in capsys.readouterr().out
    kinds = [row.kind for rows in rows_in(tmp_path / "archive").values() for row in rows]
    assert kinds == ["change", "unreadable", "change", "unreadable"]


def test_wrong_settings_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An archive that no scheme opens, and a store in memory: exit status 3 and 2, with the name."""
    assert main(["archive", "run", "--once", "--redis-url", "memory://", "--archive", str(tmp_path)]) == 2
    assert "REDIS_URL" in capsys.readouterr().err
    where = ["--redis-url", "redis://127.0.0.1:1", "--archive", "memory://x"]  # trimmed from the store, and then gone
    assert main(["archive", "run", "--once", *where]) == 2
    assert "ARCHIVE_URL: memory://" in capsys.readouterr().err


async def _take_all(url: str) -> None:
    store = open_store(url, partitions=PARTITIONS)
    try:
        place = int((await decide(store, 1, range(3)))[0][1:4], 16)
        assert await store.take_place(place, "killed", 60_000, TIMEOUT_S) is not None
    finally:
        await store.close()


def test_what_another_consumer_has_is_not_told_as_done(
    valkey: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It may have been killed: who has the store taken down next must not believe that nothing waits."""
    asyncio.run(_take_all(valkey))
    assert main(["archive", "run", "--once", *arguments]) == 1
    assert json.loads(capsys.readouterr().out) == {"rows": 0, "held": 1, "failed": 0, "problems": []}

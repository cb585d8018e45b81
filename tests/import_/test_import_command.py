"""`decision-service import` as it is called: summary, report, exit status, a crash at any moment, a running service."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import redis
from import_cases import event, history, write

from decision_service.api.instants import format_instant
from decision_service.cli import main
from decision_service.core.limits import DAY_MS
from service_process import ROOT, ServiceProcess
from valkey_server import ValkeyServer

NOW_MS = time.time_ns() // 1_000_000


def command(url: str, *arguments: object) -> list[str]:
    """The command line."""
    rules = ["--rules", str(ROOT / "rules")]
    return [sys.executable, "-m", "decision_service", "import", "--redis-url", url, *rules, *map(str, arguments)]


def run(capsys: pytest.CaptureFixture[str], url: str, *arguments: object) -> tuple[int, Any, str]:
    """Import here; the exit status, the summary and what was said."""
    status = main(["import", "--redis-url", url, "--json", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, orjson.loads(out) if out else None, err


def recent(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as dated a day before now, a second apart."""
    start = NOW_MS - DAY_MS
    return [row | {"occurred_at": format_instant(start + 1_000 * i)} for i, row in enumerate(rows)]


def line(customer: str) -> dict[str, Any]:
    """A row: the facility of a customer."""
    return {
        "facility_id": f"f-{customer}", "customer_id": customer, "product": "revolver", "currency": "CNY",
        "limit": "5000", "outstanding": "0", "as_of": format_instant(NOW_MS - DAY_MS), "apr": "0.18",
        "status": "active", "granted_at": "2026-01-01T00:00:00+08:00",
    }  # fmt: skip


def test_a_summary_and_every_rejected_row(valkey: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rejected rows are counted, shown, written with file, row, column, value and reason, and end in status 1."""
    rows = recent([event(1), event(2, kind="purchas"), event(3, facility_id="f-c-1", currency="USD"), event(4)])
    events, lines = write(tmp_path / "events.csv", rows), write(tmp_path / "lines.csv", [line("c-1")])
    status, summary, said = run(
        capsys, valkey, "--events", events, "--facilities", lines, "--rejected", tmp_path / "rejected.csv"
    )  # fmt: skip
    assert status == 1
    assert (summary["accepted"], summary["rejected"], summary["rows"]) == (3, 2, 5)
    assert [one["sort"] for one in summary["files"]] == ["facilities", "events"]
    with (tmp_path / "rejected.csv").open() as file:
        told = [(row["file"], row["row"], row["column"], row["value"], row["reason"]) for row in csv.DictReader(file)]
    assert told[1] == ("events.csv", "3", "currency", "USD", "the facility is in CNY")
    assert told[0][:4] == ("events.csv", "2", "kind", "purchas")
    assert "events.csv, row 3: currency = 'USD': the facility is in CNY" in said
    assert "4 events read" in said


def test_a_good_file_ends_in_status_0_and_again_it_is_done(
    valkey: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second run tells the same counts, of an earlier run."""
    path = write(tmp_path / "events.parquet", recent([event(i, f"c-{i % 3}") for i in range(50)]))
    for earlier in (0, 50):
        status, summary, _ = run(capsys, valkey, "--events", path)
        assert (status, summary["accepted"], summary["of_earlier_runs"]) == (0, 50, earlier)


def test_a_dry_run_judges_everything_and_writes_nothing(
    valkey: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Events are judged by the facilities of the same run, and the store stays as it was."""
    rows = recent([event(1, facility_id="f-c-1", currency="USD"), event(2), event(2, amount="13.00")])
    events, lines = write(tmp_path / "events.csv", rows), write(tmp_path / "lines.csv", [line("c-1")])
    with redis.Redis.from_url(valkey) as client:
        run(capsys, valkey, "--events", write(tmp_path / "other.csv", recent([event(9, "c-9")])))
        before = dump(client)
        status, summary, _ = run(capsys, valkey, "--events", events, "--facilities", lines, "--dry-run")
        assert (status, summary["rejected"], summary["accepted"]) == (1, 2, 2)
        assert dump(client) == before


def dump(client: redis.Redis) -> dict[bytes, Any]:
    """Every key of a store that an import writes, with what it holds; outbox entries without their ids."""
    found: dict[bytes, Any] = {}
    for key in sorted(client.scan_iter()):
        sort = client.type(key)
        if sort == b"hash":
            found[key] = client.hgetall(key)
        elif sort == b"stream":
            entries = client.xrange(key)
            found[key] = sorted((entry[b"customer"], entry[b"records"]) for _, entry in entries)
        else:
            found[key] = client.get(key)
    return found


def test_a_missing_column_is_named_with_status_5(
    valkey: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt column is refused before anything is read, with the name that was meant."""
    path = tmp_path / "events.csv"
    path.write_text("customer_id,event_id,kind,occured_at\nc-1,e-1,login,2026-10-01T00:00:00Z\n")
    status, summary, said = run(capsys, valkey, "--events", path)
    assert (status, summary) == (5, None)
    assert "did you mean occurred_at" in said


def test_no_file_and_a_forgetful_store_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to import is wrong input; a store in memory would forget it at once."""
    assert run(capsys, "redis://127.0.0.1:1")[0] == 5
    assert run(capsys, "memory://", "--events", "events.csv")[0] == 2


def test_a_store_that_is_away_ends_in_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is read."""
    assert run(capsys, "redis://127.0.0.1:1", "--events", write(tmp_path / "e.csv", recent([event(1)])))[0] == 3


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_it_ends_as_a_clean_run(
    valkey_private: ValkeyServer, tmp_path: Path
) -> None:
    """After several kill -9 the logs, entity logs and the outbox are those of one undisturbed run, to the byte."""
    rows = history(np.random.default_rng(6), 20_000, 300, good=True)
    path = write(tmp_path / "events.parquet", rows)
    clean, disturbed = valkey_private.url, valkey_private.url.removesuffix("/0") + "/1"
    subprocess.run(command(clean, "--events", path), check=True, capture_output=True, timeout=120)
    rng = np.random.default_rng(7)
    with redis.Redis.from_url(clean) as first, redis.Redis.from_url(disturbed) as second:
        keys = first.dbsize()
        for share in sorted(rng.uniform(0.0, 1.0, 5).tolist()):
            kill_when(second, int(keys * share), command(disturbed, "--events", path))
        done = subprocess.run(command(disturbed, "--events", path, "--json"), capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert orjson.loads(done.stdout)["rows"] == len(rows)
        assert orjson.loads(done.stdout)["of_earlier_runs"] > 0
        ours, theirs = (
            {k: v for k, v in dump(c).items() if not k.startswith((b"ds:{imports}", b"ds:{meta}")) and k[-2:] != b":n"}
            for c in (first, second)  # but for the accounts of imports and the epoch, which is random
        )
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if ours[key] != theirs[key]] == []


def kill_when(client: redis.Redis, keys: int, arguments: list[str]) -> None:
    """Start an import, and kill it as soon as the store has this many keys."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while client.dbsize() < keys and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.001)
    process.kill()
    process.wait(10)


@pytest.mark.slow
@pytest.mark.parametrize("embedded", [False, True])
def test_a_running_service_sees_imported_history_at_once(valkey: str, tmp_path: Path, embedded: bool) -> None:
    """Features of a customer count events that were imported a moment ago, beside the service or into its own store."""
    rows = recent([event(i, "c-1", facility_id="f-c-1", kind="drawdown") for i in range(40)])
    rows += recent([event(i, f"c-{i}") for i in range(100, 300)])
    events, lines = write(tmp_path / "events.parquet", rows), write(tmp_path / "lines.csv", [line("c-1")])
    with ServiceProcess(tmp_path / "service", store_url=None if embedded else valkey) as service:
        where = ["--data-dir", str(tmp_path / "service" / "data")] if embedded else ["--redis-url", valkey]
        arguments = ["import", *where, "--events", str(events), "--facilities", str(lines), "--json"]
        asked = f"{service.url}/v1/customers/c-1/features"
        assert httpx.get(asked).status_code == 404
        done = subprocess.run(
            [sys.executable, "-m", "decision_service", *arguments], capture_output=True, timeout=120, cwd=ROOT,
            env=dict(os.environ),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        features = httpx.get(asked, params={"names": "vol_ok_cnt_7d"}).json()["features"]
        assert features["vol_ok_cnt_7d"]["value"] == 40
        assert httpx.get(f"{service.url}/v1/facilities/f-c-1").json()["customer_id"] == "c-1"

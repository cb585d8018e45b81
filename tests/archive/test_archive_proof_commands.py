"""`archive verify`, `archive checkpoint` and `archive purge`: what they say, and how they end."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from made_archive import put_place

from decision_service.archive.erasure import Erasure
from decision_service.archive.files import Archive
from decision_service.cli import main
from decision_service.cli.archive_erase import _tell
from decision_service.policies.signers import new_key, write_key


@pytest.fixture
def kept(tmp_path: Path) -> Archive:
    """An archive of one place, a signing key and who is trusted."""
    archive = Archive(tmp_path / "archive")
    put_place(archive, 0xA3, files=2, each=20)
    key = new_key("auditor")
    write_key(key, tmp_path / "auditor.key")
    (tmp_path / "signers").write_text(key.public_line + "\n")
    return archive


def told(
    capsys: pytest.CaptureFixture[str], archive: Archive, command: str, *options: str
) -> tuple[int, dict[str, Any]]:
    status = main(["archive", command, "--archive", archive.url, "--json", *options])
    return status, json.loads(capsys.readouterr().out)


def test_a_sound_archive_is_told_as_such_and_a_defect_by_its_row(
    kept: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pinned with a key, verified with whom to trust, attacked."""
    key, signers = str(tmp_path / "auditor.key"), str(tmp_path / "signers")
    status, made = told(capsys, kept, "checkpoint", "--key", key)
    assert (status, made["signer"], made["defects"]) == (0, "auditor", [])
    assert told(capsys, kept, "checkpoint", "--key", key)[1]["checkpoint"] is None
    status, found = told(capsys, kept, "verify", "--keys", signers, "--jobs", "1")
    assert (status, found["sound"], found["rows"], found["pinned"]) == (0, True, 80, 1)
    Path(kept.full(kept.segments()[3].path)).unlink()
    status, found = told(capsys, kept, "verify", "--keys", signers, "--jobs", "1")
    (defect,) = found["defects"]
    assert status == 1
    assert (defect["part"], defect["place"], defect["position"], defect["last"]) == ("tail", "0a3", 61, 80)
    assert told(capsys, kept, "checkpoint", "--key", key)[0] == 1


def test_a_verification_is_told_to_people(kept: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", "verify", "--archive", kept.url, "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "80 rows of 1 places in 4 files" in out
    assert out.endswith("nothing is wrong\n")
    Path(kept.full(kept.segments()[1].path)).unlink()
    assert main(["archive", "verify", "--archive", kept.url, "--place", "0a3"]) == 1
    assert "position: place 0a3, row 21 to 40" in capsys.readouterr().out


def test_a_purge_tells_what_it_would_do_and_does_it(
    kept: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the archive are as old as the test lets its clock say."""
    monkeypatch.setattr(
        "decision_service.cli.archive_purge.wall_clock_ms", lambda: 1_795_305_600_000 + 800 * 86_400_000
    )
    before = kept.segments()
    status, plan = told(capsys, kept, "purge", "--dry-run")
    assert (status, plan["payload"], plan["dry_run"]) == (0, {"0a3": 80}, True)
    assert kept.segments() == before
    status, done = told(capsys, kept, "purge", "--key", str(tmp_path / "auditor.key"))
    assert (status, done["payload_rows"], done["checkpoint"][:12]) == (0, 80, "checkpoints/")
    assert told(capsys, kept, "verify", "--keys", str(tmp_path / "signers"), "--jobs", "1")[0] == 0


@pytest.mark.parametrize(
    ("options", "status"),
    [(["--archive", "nowhere"], 2), (["--place", "zz"], 5), (["--since", "yesterday"], 5), (["--keys", "nobody"], 2)],
)
def test_wrong_usage_is_told(
    kept: Archive, options: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["archive", "verify", "--archive", kept.url, *options]) == status
    assert "decision-service: " in capsys.readouterr().err


def test_a_short_retention_of_accesses_is_refused(kept: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECISION_SERVICE_ARCHIVE_ACCESS_DAYS", "183")
    assert main(["archive", "purge", "--archive", kept.url]) == 2


def test_an_archive_without_rows_is_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be another folder than was meant."""
    (tmp_path / "other").mkdir()
    status, found = told(capsys, Archive(tmp_path / "other"), "verify")
    assert status == 0
    assert any("no row was looked at" in note for note in found["notes"])


def test_a_day_that_is_only_a_hint_is_named(kept: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the decision is not found for it."""
    absent = "d0a3" + "f" * 32
    assert main(["archive", "show", absent, "--archive", kept.url, "--day", "2031-01-01"]) == 6
    assert "without --day" in capsys.readouterr().err
    assert main(["archive", "show", absent, "--archive", kept.url]) == 6
    assert "--day" not in capsys.readouterr().err


def test_erasing_tells_what_it_does_not_do(kept: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    """--pending with a customer would carry out everybody's; an id that nobody has erases nothing."""
    assert main(["archive", "erase", "--archive", kept.url, "--pending", "--customer", "c-1"]) == 5
    assert "customer" in capsys.readouterr().err
    nobody = Erasure(0xA3, 41, 7, "dpo", 1, "typed wrongly")
    _tell(argparse.Namespace(json=False, pending=False), [(nobody, 0)], [], ordered=True)
    assert "is the id right" in capsys.readouterr().err

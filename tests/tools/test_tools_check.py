"""`rules check` tells what loading would tell, and says so when there is nothing to check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tools_command import Command

from decision_service.cli import main, rules


def test_a_sound_policy_is_summed_up_in_a_line(command: Command, policy_folder: Path) -> None:
    """Status 0, and how much of what is in the policy."""
    status, out, _ = command("check", policy_folder, "--models", policy_folder.parent / "models")
    assert status == 0
    assert out.splitlines()[0] == "0 errors, 0 warnings"
    assert "1 scene, 3 rules, 0 tables, 0 trees, 0 points scorecards, 1 matrix, 1 feature; policy " in out


def test_every_error_is_told_with_its_place(command: Command, policy_folder: Path) -> None:
    """Two mistakes, two findings, status 4."""
    path = policy_folder / "drawdown.yaml"
    text = path.read_text().replace("vel_prior_10m >= burst", "vel_prior_1m >= burst")
    path.write_text(text.replace("{hold: block}\n    reason: RC01", "{hold: blok}\n    reason: RC01"))
    status, out, _ = command("check", policy_folder)
    assert status == 4
    assert "did you mean `block`?" in out
    assert "did you mean `vel_prior_10m`?" in out
    assert "no policy" in out


def test_findings_and_summary_come_as_json(command: Command, policy_folder: Path) -> None:
    """A machine gets the diagnostics and the summary."""
    status, out, _ = command("check", policy_folder, "--models", policy_folder.parent / "models", "--json")
    report = json.loads(out)
    assert status == 0
    assert report["diagnostics"] == []
    assert report["summary"]["scenes"] == ["drawdown"]
    assert (report["summary"]["rules"], report["summary"]["matrix"]) == (3, 1)


def test_warnings_fail_only_if_asked_to(command: Command, policy_folder: Path) -> None:
    """An unused constant is a warning: status 0, and 1 with --strict."""
    path = policy_folder / "drawdown.yaml"
    path.write_text(path.read_text().replace("constants:", "constants:\n  spare: {value: 1, unit: n}"))
    models = policy_folder.parent / "models"
    assert command("check", policy_folder, "--models", models)[0] == 0
    assert command("check", policy_folder, "--models", models, "--strict")[0] == 1


def test_a_directory_without_a_policy_is_not_a_sound_policy(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing there, status 2: for `rules check`, `rules test` and `features check`."""
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("check", "test"):
        status, _, err = command(name, empty)
        assert (status, "no policy file" in err) == (2, True)
        assert command(name, tmp_path / "nowhere")[0] == 2
    assert main(["features", "check", str(empty)]) == 2
    assert "nothing to check" in capsys.readouterr().err


@pytest.mark.parametrize("name", rules.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` of every command names it and ends with status 0."""
    with pytest.raises(SystemExit) as ended:
        main(["rules", name, "--help"])
    assert ended.value.code == 0
    assert f"decision-service rules {name}" in capsys.readouterr().out

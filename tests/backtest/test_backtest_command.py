"""`decision-service backtest`: what it prints and writes, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from candidates import write
from lived_archive import ZONE, Made

from decision_service.api.instants import format_instant
from decision_service.cli import main


@pytest.fixture
def backtest(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command over the archive with a candidate; `(status, JSON, output, errors)`."""
    monkeypatch.setenv("DECISION_SERVICE_TIME_ZONE", ZONE)

    def command(rules: Path, *more: str) -> tuple[int, dict[str, Any], str, str]:
        out = tmp_path / "told.json"
        status = main([
            "backtest", "--candidate", str(rules), "--models", str(made.models), "--archive", made.url, "--since",
            format_instant(made.first_ms), "--until", format_instant(made.last_ms), "--json", str(out), *more,
        ])  # fmt: skip
        printed = capsys.readouterr()
        told = orjson.loads(out.read_bytes()) if out.exists() else {}
        return status, told, printed.out, printed.err

    return command


def test_a_report_says_what_changes_and_for_whom(backtest: Any, made: Made, tmp_path: Path) -> None:
    """Mixes add up, the swap set is told in counts and money, flips have traces of both sides, the page has it all."""
    page = tmp_path / "backtest.html"
    ids = list(made.answers)
    outcomes = pa.table({"decision_id": ids, "bad": [i % 7 == 0 for i in range(len(ids))]})
    pq.write_table(outcomes, tmp_path / "outcomes.parquet")
    status, told, text, _ = backtest(
        write(tmp_path / "rules", busy=6), "--html", str(page), "--outcomes", str(tmp_path / "outcomes.parquet"),
        "--traces", "1",
    )  # fmt: skip
    assert status == 0
    [scene] = told["scenes"]
    assert told["format"] == "backtest-1"
    assert scene["decisions"] == told["counts"]["decided"] == len(made.answers)
    for part in ("outcome", "hold", "limit", "price", "capped"):
        assert sum(scene[part]["before"].values()) == sum(scene[part]["after"].values()) == scene["decisions"]
    swap, whole = scene["swap"], scene["whole"]
    assert sum(cell["decisions"] for cell in swap.values()) == scene["decisions"]
    assert whole["known"] == len(ids)
    assert whole["bad"] == sum(i % 7 == 0 for i in range(len(ids)))
    assert whole["paid_before"] == pytest.approx(sum(a["approved_amount"] for a in made.answers.values()))
    assert swap["out"]["decisions"] > 0
    assert swap["out"]["paid_after"] == 0
    equal = scene["equal_approval"]
    assert equal["paying"] == min(whole["paying_before"], whole["paying_after"])
    assert equal["before"]["given_up"] > 0
    flips = [flip for flip in told["flips"] if flip["direction"] == "out"]
    assert len(flips) == min(20, swap["out"]["decisions"])
    assert sum(flip["after"]["trace"] is not None for flip in flips) == 1
    assert all("busy" in flip["after"]["rules"] for flip in flips)
    assert told["checked"]["differing"] == []
    assert told["checked"]["decisions"] > 30
    assert "swap set" in text
    html = page.read_text()
    for words in ("Swap set", "Equal" if False else "equal approval rate", flips[0]["decision_id"], "busy", "<svg"):
        assert words in html
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_money_and_losses_are_those_of_the_answers(backtest: Any, made: Made, tmp_path: Path) -> None:
    """Expected loss before is PD x what was paid x LGD, decision by decision."""
    _, told, _, _ = backtest(write(tmp_path / "rules"), "--lgd", "0.6")
    expected = sum(0.6 * a["approved_amount"] * (a["scores"]["behaviour"]["pd"] or 0.0) for a in made.answers.values())
    whole = told["scenes"][0]["whole"]
    assert whole["expected_loss_before"] == pytest.approx(expected)
    assert whole["expected_loss_after"] == pytest.approx(expected)
    assert told["flips"] == []


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--max-approval-drop", "0.9", "--max-flips", "0.9"), 0),
        (("--max-approval-drop", "0.0001"), 1),
        (("--max-bad-rate-rise", "0.5"), 1),  # no outcome is known
    ],
)
def test_thresholds_end_with_a_status(backtest: Any, tmp_path: Path, options: tuple[str, ...], status: int) -> None:
    """0 if all are kept, 1 if one is broken or cannot be told."""
    found, told, text, _ = backtest(write(tmp_path / "rules", busy=6), *options)
    assert found == status
    assert all(one["holds"] for one in told["thresholds"]) is (status == 0)
    assert ("BROKEN" in text) is (status == 1)


def test_outcomes_come_out_of_the_archive_as_well(backtest: Any, made: Made, tmp_path: Path) -> None:
    """Overdue events within the window make a decision bad; only windows that are over count."""
    options = ("--outcomes", "archive", "--bad-dpd", "30", "--performance-days", "2")
    _, told, _, _ = backtest(write(tmp_path / "rules"), *options)
    whole = told["scenes"][0]["whole"]
    assert 0 < whole["known"] < len(made.answers)
    assert 0 < whole["bad"] < whole["known"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--lgd", "1.5"), "lgd"), (("--since", "never"), "since"), (("--jobs", "0"), "jobs"),
        (("--outcomes", "nowhere.parquet"), "outcomes"), (("--scorecard", "other"), "scorecard"),
        (("--archive", "nowhere"), "nowhere does not exist"),
    ],
)  # fmt: skip
def test_wrong_options_are_named(backtest: Any, tmp_path: Path, options: tuple[str, ...], problem: str) -> None:
    """Status 5 and the option's name."""
    status, _, _, errors = backtest(write(tmp_path / "rules"), *options)
    assert status == 5
    assert problem in errors


def test_an_outcomes_file_without_a_column_says_which(backtest: Any, tmp_path: Path) -> None:
    """The column that lacks is named, and what is expected."""
    pq.write_table(pa.table({"decision_id": ["a"]}), tmp_path / "o.parquet")
    status, _, _, errors = backtest(write(tmp_path / "rules"), "--outcomes", str(tmp_path / "o.parquet"))
    assert status == 5
    assert "no column bad" in errors


def test_an_archive_without_decisions_is_not_found(made: Made, tmp_path: Path, capsys: Any) -> None:
    """Status 6."""
    (tmp_path / "empty").mkdir()
    rules = write(tmp_path / "rules")
    status = main(
        ["backtest", "--candidate", str(rules), "--models", str(made.models), "--archive", str(tmp_path / "empty")]
    )
    assert status == 6
    assert "no decision" in capsys.readouterr().err

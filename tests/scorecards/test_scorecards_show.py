"""`decision-service models show`: a scorecard for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from woe_maker import NAMES, write_woe

from decision_service.cli import main


def test_a_points_scorecard_is_shown_bin_by_bin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Feature, bin, points, WOE, share and bad rate; by directory, by name, and by name with version."""
    directory = write_woe(tmp_path)
    assert main(["models", "show", str(directory)]) == 0
    shown = capsys.readouterr().out
    for line in (
        "feature      bin               points  WOE     share  bad rate",
        "utl_now      below 0.3         217     0.900   50.0%  1.00%",
        "             0.3 to below 0.8  199     0.200   30.0%  2.00%",
        "             0.8 and more      169     -1.000  15.0%  6.67%",
        "             null              192     -0.100  5.0%   2.00%",
        "mob_months   below 6           188     -0.400  40.0%  3.00%",
    ):
        assert f"\n  {line}\n" in shown
    for name in ("classic", "classic/1"):
        assert main(["models", "show", name, "--models", str(tmp_path)]) == 0
        assert capsys.readouterr().out == shown


def test_the_points_table_is_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the bounds of every bin, and null among them by name."""
    assert main(["models", "show", str(write_woe(tmp_path)), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["scorecard"], told["version"], told["kind"], told["grain"]) == ("classic", "1", "woe", "customer")
    assert [feature["name"] for feature in told["features"]] == list(NAMES)
    bins = told["features"][0]["bins"]
    assert [(one["from"], one["below"], one["null"], one["points"]) for one in bins] == [
        (None, 0.3, False, 217), (0.3, 0.8, False, 199), (0.8, None, False, 169), (None, None, True, 192),
    ]  # fmt: skip
    assert sum(one["share"] for one in bins) == pytest.approx(1.0)


def test_a_tree_model_is_shown_by_its_features(version_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no table of points; its features have directions, nulls and reasons."""
    assert main(["models", "show", "behaviour", "--models", str(version_directory.parent.parent)]) == 0
    shown = capsys.readouterr().out
    assert "calibration  platt: pd = logistic(0.9 * margin -0.1)" in shown
    assert "  utl_now       RC30 " in shown
    assert "points  WOE" not in shown


def test_what_is_not_there_is_said_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 6 for a name that nothing has, 4 for a scorecard that does not load."""
    directory = write_woe(tmp_path)
    for asked, said in (("clasic", "did you mean classic?"), ("classic/2", "no version '2'")):
        assert main(["models", "show", asked, "--models", str(tmp_path)]) == 6
        assert said in capsys.readouterr().err
    (directory / "model.yaml").write_text("format: woe/1\n")
    assert main(["models", "show", "classic", "--models", str(tmp_path)]) == 4
    assert "SHA-256" in capsys.readouterr().err

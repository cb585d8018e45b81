"""What a scorecard directory must be before it is loaded (faults G01 to G06, G10, G11)."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scorecard_maker import NAMES, PLATT, Trained, manifest_text, write_scorecard

from decision_service.core.errors import ScorecardRejected
from decision_service.core.scorecards.manifest import GoldenRow
from decision_service.core.scorecards.scaling import Scaling
from decision_service.scorecards.files import active_version, load_scorecard, load_scorecards
from decision_service.scorecards.trial_process import trial

CUTS = (0.0005, 0.05, 0.30, 0.60, 0.90, 0.97, 0.99, 0.999, 0.9999)


def rejected(directory: Path) -> str:
    """Why the directory does not load."""
    with pytest.raises(ScorecardRejected) as caught:
        load_scorecard(directory)
    return caught.value.message


def edit(path: Path, pattern: str, replacement: str) -> None:
    """Replace one match in a text file, which must be there."""
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text)


def test_a_good_scorecard_loads_and_scores(version_directory: Path, small_model: Trained) -> None:
    """Points, PD and grade of the loaded scorecard are those of the model through its calibration."""
    card = load_scorecard(version_directory)
    assert (card.name, card.version, card.names) == ("behaviour", "1", NAMES)
    for row, margin in zip(small_model.rows[:200], small_model.margins[:200], strict=True):
        score = card.score(row)
        pd = PLATT.pd(float(margin))
        assert (score.pd, score.points, score.problem) == (pd, Scaling().points(pd), "")
        assert score.grade == card.manifest.grades.of(Scaling().points(pd))


@pytest.mark.fault("G01")
@pytest.mark.parametrize("cut", CUTS)
def test_a_truncated_model_is_refused_by_its_checksum(version_directory: Path, cut: float) -> None:
    """G01: the bytes of a torn file never reach LightGBM."""
    model = version_directory / "model.txt"
    model.write_bytes(model.read_bytes()[: int(len(model.read_bytes()) * cut)])
    assert "SHA-256" in rejected(version_directory)


@pytest.mark.parametrize("cut", CUTS)
def test_a_truncated_model_with_a_fitting_checksum_is_refused(
    version_directory: Path, cut: float, reseal: Callable[[], None]
) -> None:
    """G01 with the checksum made to fit: still refused, and this process lives."""
    model = version_directory / "model.txt"
    head = model.read_bytes().partition(b"\nend of trees\n")[0]
    model.write_bytes(head[: int(len(head) * cut)])
    reseal()
    assert "truncated" in rejected(version_directory) or "text format" in rejected(version_directory)


@pytest.mark.fault("G03")
def test_a_crash_while_loading_is_a_message(small_model: Trained) -> None:
    """G03: bytes that kill LightGBM kill only the trial process."""
    torn = small_model.text[: int(len(small_model.text) * 0.6)]
    golden = (GoldenRow((0.0,) * 5, 0.0, 0.5, 500),)
    with pytest.raises(ScorecardRejected, match=r"trial load (crashed with SIG|failed)|LightGBM refused"):
        trial(Path("model.txt"), torn, 5, golden)


def test_gutted_trees_with_a_fitting_checksum_are_refused(version_directory: Path, reseal: Callable[[], None]) -> None:
    """G03: a model whose trees are torn but whose end is in place gets as far as the trial, and no further."""
    model = version_directory / "model.txt"
    text = model.read_bytes()
    start = text.index(b"Tree=7\n")
    model.write_bytes(text[:start] + text[start + 900 :])
    reseal()
    assert "trial load" in rejected(version_directory) or "LightGBM refused" in rejected(version_directory)


@pytest.mark.fault("G02")
def test_one_digit_changed_is_refused_by_its_checksum(version_directory: Path) -> None:
    """G02: a flipped digit in a leaf loads and lies, so it must not get that far."""
    edit(version_directory / "model.txt", r"^leaf_value=(-?0\.)\d", r"leaf_value=\g<1>9")
    assert "SHA-256" in rejected(version_directory)


def test_one_digit_changed_with_a_fitting_checksum_fails_the_golden_rows(
    version_directory: Path, reseal: Callable[[], None]
) -> None:
    """G02 with the checksum made to fit: the golden rows score differently."""
    model = version_directory / "model.txt"
    model.write_text(re.sub(r"^leaf_value=.*$", _nines, model.read_text(), count=1, flags=re.MULTILINE))
    reseal()
    assert "golden row 0 scores" in rejected(version_directory)


def _nines(match: re.Match[str]) -> str:
    """Other digits in as many bytes: the header counts the bytes of every tree."""
    return match.group().translate(str.maketrans("12345", "99999"))


def _zeros(match: re.Match[str]) -> str:
    return match.group().translate(str.maketrans("123456789", "000000000"))


def test_permuted_features_are_refused(version_directory: Path) -> None:
    """G04: a manifest with the right names in another order does not fit the model."""
    manifest = version_directory / "manifest.yaml"
    text = manifest.read_text().replace("utl_now", "@").replace("amt_30d", "utl_now").replace("@", "amt_30d")
    manifest.write_text(text)
    assert "feature 0 is utl_now, the manifest says amt_30d" in rejected(version_directory)


def test_a_missing_feature_is_refused(tmp_path: Path, small_model: Trained) -> None:
    """G04: a manifest with fewer features than the model is caught."""
    text = re.sub(r"^  - \{name: amt_30d.*\n", "", manifest_text(small_model), flags=re.MULTILINE)
    text = re.sub(r"(inputs: \[.*), [^,]*\](, margin)", r"\1]\2", text)
    assert "has 5 features, the manifest 4" in rejected(write_scorecard(tmp_path, small_model, text))


@pytest.mark.fault("G05")
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_an_infinite_input_is_not_scored(version_directory: Path, small_model: Trained, bad: float) -> None:
    """G05: an infinity gives no score and names the feature."""
    row = np.nan_to_num(small_model.rows[0])
    row[2] = bad
    score = load_scorecard(version_directory).score(row)
    assert (score.points, score.pd, score.grade) == (None, None, None)
    assert score.problem == "feature inq_cnt_30d is infinite"


def test_a_huge_input_is_scored_within_the_scale(version_directory: Path) -> None:
    """G05: the largest doubles are ordinary numbers to a tree."""
    card = load_scorecard(version_directory)
    for value in (1.7e308, -1.7e308, 5e-324, -0.0):
        score = card.score(np.full(5, value))
        assert score.points is not None
        assert 300 <= score.points <= 850


@pytest.mark.fault("G06")
def test_an_all_null_row_is_not_scored(version_directory: Path) -> None:
    """G06: knowing nothing gives no score, not the model's favourite leaf."""
    score = load_scorecard(version_directory).score(np.full(5, np.nan))
    assert (score.points, score.pd, score.grade) == (None, None, None)
    assert score.problem == "all features null"


def test_one_known_feature_is_enough_for_a_score(version_directory: Path) -> None:
    """Null in is null-aware: the model was trained on nulls and scores around them."""
    row = np.array([0.4, np.nan, np.nan, np.nan, np.nan])
    assert load_scorecard(version_directory).score(row).points is not None


def test_a_null_the_model_never_saw_is_not_scored(version_directory: Path) -> None:
    """LightGBM would read it as 0, and unknown is never 0."""
    edit(version_directory / "manifest.yaml", r"(name: dpd_max_90d.*)nulls: allowed", r"\1nulls: refused")
    score = load_scorecard(version_directory).score(np.array([0.4, np.nan, 1.0, 1.0, 1.0]))
    assert score.points is None
    assert score.problem == "feature dpd_max_90d is null, which the model never saw"


class Payload:
    """Writes a file when unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.fault("G10")
def test_a_smuggled_pickle_is_refused_and_never_run(
    version_directory: Path, tmp_path: Path, reseal: Callable[[], None]
) -> None:
    """G10: only LightGBM's text is a model."""
    trap = tmp_path / "owned"
    (version_directory / "model.txt").write_bytes(pickle.dumps(Payload(str(trap))))
    reseal()
    assert "text format" in rejected(version_directory)
    assert not trap.exists()


@pytest.mark.parametrize(
    "content", [b'{"tree": 1}', b"\x00\x01", b"PMML", b"tree\nversion=v4\nend of trees\n\0", b"tree\n" * 9]
)
def test_other_formats_are_refused(version_directory: Path, content: bytes, reseal: Callable[[], None]) -> None:
    """G10: nothing that merely looks like a model is given to LightGBM."""
    (version_directory / "model.txt").write_bytes(content)
    reseal()
    assert "text format" in rejected(version_directory)


def test_a_line_that_would_only_fill_the_memory_is_refused(version_directory: Path, reseal: Callable[[], None]) -> None:
    """Before a number of it is read, here or in the trial."""
    path = version_directory / "model.txt"
    path.write_bytes(path.read_bytes().replace(b"\nleaf_count=", b"\nleaf_count=" + b"12 " * 3_000_000, 1))
    reseal()
    assert "has a line of 9,000," in rejected(version_directory)


def test_a_scorecard_without_calibration_is_refused(version_directory: Path) -> None:
    """G11: a raw margin must never pass for a probability."""
    edit(version_directory / "manifest.yaml", r"^calibration:.*\n", "")
    assert "manifest lacks 'calibration'" in rejected(version_directory)


@pytest.mark.fault("G11")
def test_a_calibration_that_does_not_fit_the_golden_rows_is_refused(version_directory: Path) -> None:
    """G11: another model's calibration is caught by the golden rows."""
    edit(version_directory / "manifest.yaml", r"a: 0\.9", "a: 0.8")
    assert "golden row 0 is calibrated to" in rejected(version_directory)


def test_a_calibration_that_turns_the_order_around_is_refused(version_directory: Path) -> None:
    """G11: a slope of zero or below would make the riskiest customers the best."""
    edit(version_directory / "manifest.yaml", r"a: 0\.9", "a: -0.9")
    assert "calibration.a must be greater than 0" in rejected(version_directory)


@pytest.mark.fault("G08")
def test_a_slow_model_is_refused(version_directory: Path) -> None:
    """G08: the golden rows are timed, and a limit below what they take refuses the model."""
    with pytest.raises(ScorecardRejected, match="us a score;"):
        load_scorecard(version_directory, score_us_max=0.001)


def test_a_model_that_tells_nobody_apart_is_refused(
    version_directory: Path, small_model: Trained, reseal: Callable[[], None]
) -> None:
    """G07: the same score for every golden row is no scorecard."""
    model, manifest = version_directory / "model.txt", version_directory / "manifest.yaml"
    model.write_text(re.sub(r"^leaf_value=.*$", _zeros, model.read_text(), flags=re.MULTILINE))
    reseal()
    margin = 0.0
    pd = PLATT.pd(margin)
    said = f"margin: {margin}, pd: {pd!r}, points: {Scaling().points(pd)}}}"
    manifest.write_text(re.sub(r"margin: .*\}$", said, manifest.read_text(), flags=re.MULTILINE))
    assert "tells nobody apart" in rejected(version_directory)


def test_all_mistakes_of_a_manifest_are_reported_at_once_with_their_lines(version_directory: Path) -> None:
    """The message of a bad manifest is a compiler's: line, caret, expectation, nearest name."""
    manifest = version_directory / "manifest.yaml"
    edit(manifest, "method: platt", "method: plat")
    edit(manifest, "reason: RC30", "reason: RC3O")
    edit(manifest, "PDO|pdo: 20", "pdo: often")
    message = rejected(version_directory)
    assert "did you mean `platt`?" in message
    assert "'RC3O' is not a reason code" in message
    assert "scaling.pdo is wrong" in message
    assert re.search(r"manifest\.yaml:\d+:\d+: error", message)
    assert "^" in message


@pytest.mark.parametrize("missing", ["manifest.yaml", "model.txt"])
def test_a_missing_file_is_named(version_directory: Path, missing: str) -> None:
    """The message names the file that is not there."""
    (version_directory / missing).unlink()
    assert missing in rejected(version_directory)


def test_a_pipe_in_place_of_the_model_does_not_hang(version_directory: Path) -> None:
    """Only regular files are read."""
    (version_directory / "model.txt").unlink()
    os.mkfifo(version_directory / "model.txt")
    assert "not a regular file" in rejected(version_directory)


@pytest.mark.fault("F16")
def test_a_model_outside_its_directory_is_refused(version_directory: Path) -> None:
    """The manifest cannot point elsewhere."""
    edit(version_directory / "manifest.yaml", r"file: model\.txt", "file: ../../secrets")
    assert "a file name without a folder" in rejected(version_directory)


def test_a_directory_that_another_version_was_copied_into_is_refused(version_directory: Path) -> None:
    """Name and version in the manifest must be those of the directory."""
    moved = version_directory.rename(version_directory.with_name("2"))
    assert "another's directory" in rejected(moved)


def test_the_highest_version_is_active_unless_one_is_named(tmp_path: Path) -> None:
    """Versions order by number, and the file `active` overrides."""
    for version in ("2026.9.1", "2026.10.1", "2026.2"):
        (tmp_path / version).mkdir()
    assert active_version(tmp_path).name == "2026.10.1"
    (tmp_path / "active").write_text("2026.9.1\n")
    assert active_version(tmp_path).name == "2026.9.1"
    (tmp_path / "active").write_text("../../etc")
    with pytest.raises(ScorecardRejected, match="names no version"):
        active_version(tmp_path)


def test_every_scorecard_of_a_directory_loads_by_name(version_directory: Path) -> None:
    """One active version each; files beside them and an absent directory do not matter."""
    models = version_directory.parent.parent
    (models / "README.md").write_text("notes")
    (models / "drafts").mkdir()
    assert {name: card.version for name, card in load_scorecards(models).items()} == {"behaviour": "1"}
    assert load_scorecards(models / "nowhere") == {}


def test_the_trial_leaves_no_file_and_loads_little(version_directory: Path) -> None:
    """The trial process imports neither the lightgbm package nor the YAML reader."""
    code = (
        "import sys, decision_service.scorecards.trial;"
        "sys.exit(any(m in sys.modules for m in ('lightgbm', 'yaml', 'numba', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert sorted(path.name for path in version_directory.iterdir()) == ["manifest.yaml", "model.txt"]


def test_a_reload_shares_a_scorecard_whose_bytes_did_not_change(version_directory: Path) -> None:
    """The same files need no second trial; other files give another scorecard, and bad ones are still refused."""
    models = version_directory.parent.parent
    first = load_scorecards(models)["behaviour"]
    assert load_scorecards(models)["behaviour"] is first
    manifest = version_directory / "manifest.yaml"
    manifest.write_text(manifest.read_text() + "# a note\n")
    second = load_scorecards(models)["behaviour"]
    assert second is not first
    model = version_directory / "model.txt"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ScorecardRejected, match="SHA-256"):
        load_scorecards(models)

"""Ready tables as a source: columns, splits, and what is wrong with either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from decision_service.core.errors import InvalidInput, PolicyRejected
from decision_service.scorecards.files import load_scorecards
from decision_service.train import NothingToLearn, Trained, train
from decision_service.train.champion import find_champion
from decision_service.train.config import read_train_config

HEAD = "scorecard: cards\nversion: 1.0.0\n"
SOURCE = "table: {file: rows.parquet, label: default, split: part, customer: who, performance_d: 30}\n"
REST = """\
model: {trees: 20, leaves: 5, rows_in_leaf_min: 20, stop_after: 10}
features:
  - {name: late, reason: RC31, monotone: 1}
  - {name: used, reason: RC30}
"""
ROWS = 3_000


def silent(_text: str) -> None:
    """Say nothing."""


def columns() -> dict[str, pa.Array]:
    """Rows whose outcome follows from how late somebody is."""
    rng = np.random.default_rng(3)
    late = rng.poisson(1.0, ROWS).astype(float)
    used = np.where(rng.random(ROWS) < 0.1, np.nan, rng.random(ROWS))
    bad = rng.random(ROWS) < 1 / (1 + np.exp(3.0 - 1.2 * late))
    return {
        "who": pa.array([f"k{i // 2}" for i in range(ROWS)]),
        "late": pa.array(late), "used": pa.array(used, mask=np.isnan(used)),
        "part": pa.array(["judge" if i % 3 == 0 else "train" if i % 3 == 1 else "spare" for i in np.arange(ROWS) // 2]),
        "default": pa.array(bad.astype(int)),
    }  # fmt: skip


def prepared(root: Path, source: str = SOURCE, rest: str = REST, **changed: pa.Array) -> Path:
    """A training file beside its table."""
    parquet.write_table(pa.table(columns() | changed), root / "rows.parquet")
    path = root / "train.yaml"
    path.write_text(HEAD + source + rest)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A scorecard of the table."""
    root = tmp_path_factory.mktemp("table")
    return train(prepared(root), root / "models", silent)


def test_a_table_makes_a_scorecard_that_says_it_is_of_a_table(trained: Trained) -> None:
    """It loads, ranks, and no policy would take its inputs for features."""
    card = load_scorecards(trained.directory.parent.parent)["cards"]
    assert trained.metrics["oot_auc"] > 0.7
    assert card.manifest.inputs_from == "table"
    assert str(card.manifest.target) == "label default within 30 days"
    assert card.names == ("late", "used")


@pytest.mark.parametrize(
    ("model", "late", "said"),
    [
        ("{trees: 20, leaves: 5}", 1.0, "gives all judged rows the same PD"),
        ("{kind: woe}", 1e300, "late has values beyond 3.4e38, which cannot be binned"),
    ],
)
def test_numbers_that_tell_nothing_or_cannot_be_told_make_no_scorecard(
    tmp_path: Path, model: str, late: float, said: str
) -> None:
    """A constant feature has nothing to learn from, a huge one no bins; both are said, and nothing is written."""
    rest = f"model: {model}\nfeatures:\n  - {{name: late, reason: RC31, monotone: 1}}\n"
    values = np.full(ROWS, 1.0)
    values[::7] = late
    with pytest.raises(NothingToLearn, match=said):
        train(prepared(tmp_path, rest=rest, late=pa.array(values)), tmp_path / "models", silent)
    assert not (tmp_path / "models").exists()


def test_a_directory_that_holds_no_version_has_no_champion(tmp_path: Path) -> None:
    """The first training beside its training file has nothing to be compared with, and no more to say of it."""
    config = read_train_config(prepared(tmp_path))
    (tmp_path / "models" / "cards").mkdir(parents=True)
    (tmp_path / "models" / "cards" / "train.yaml").write_text("")
    said: list[str] = []
    assert find_champion(config, tmp_path / "models", None, said.append) is None
    assert said == []


def test_the_split_is_taken_at_its_word(trained: Trained) -> None:
    """Judged rows are the table's, validation is a share of its training customers, and rows of no part are gone."""
    division, sample = trained.division, trained.sample
    assert int(division.judge.sum()) == ROWS // 3
    assert int(division.train.sum() + division.validate.sum()) == ROWS // 3
    assert not (division.train & division.judge).any()
    assert not set(sample.customer[division.train]) & set(sample.customer[division.validate])
    assert (division.calibrate == division.validate).all()
    assert sample.waterfall == (("rows of the table", ROWS), ("of no part of the split", -ROWS // 3))


def test_a_csv_file_makes_the_same_sample(trained: Trained, tmp_path: Path) -> None:
    """Texts of numbers are the numbers."""
    table = pa.table(columns())
    csv.write_csv(table, tmp_path / "rows.csv")
    path = prepared(tmp_path, SOURCE.replace(".parquet", ".csv"))
    again = train(path, tmp_path / "models", silent)
    np.testing.assert_array_equal(again.sample.rows, trained.sample.rows)
    assert again.fitted.model_text == trained.fitted.model_text


def test_shares_split_customers_and_values_name_parts(tmp_path: Path) -> None:
    """No customer is on both sides; a column's own values may say what is for what."""
    source = (
        "table: {file: rows.parquet, label: default, customer: who, split: {judge: 0.3, calibrate: 0.2, seed: 5}}\n"
    )
    division = train(prepared(tmp_path, source), tmp_path / "models", silent).division
    shares = [float(rows.mean()) for _, rows in division.parts()]
    assert shares == pytest.approx([0.4, 0.1, 0.2, 0.3], abs=0.04)
    source = SOURCE.replace("split: part", "split: {column: part, train: [spare, train], judge: [judge]}")
    division = train(prepared(tmp_path, source), tmp_path / "models", silent).division
    assert int(division.judge.sum()) == ROWS // 3


def test_everything_wrong_with_columns_is_said_at_once(tmp_path: Path) -> None:
    """A label, a split and a feature that the table does not have, each with what was probably meant."""
    source = SOURCE.replace("label: default", "label: defaults").replace("split: part", "split: parts")
    path = prepared(tmp_path, source, REST.replace("name: late", "name: lates"))
    with pytest.raises(PolicyRejected) as refused:
        read_train_config(path)
    text = refused.value.message
    for part in ("'defaults'", "'parts'", "'lates'", "did you mean `default`?", "did you mean `late`?"):
        assert part in text


def test_a_training_file_names_one_source(tmp_path: Path) -> None:
    """None and two are both refused."""
    for source in ("", SOURCE + "events: {}\n"):
        with pytest.raises(PolicyRejected, match=r"names (no source|2 sources)"):
            read_train_config(prepared(tmp_path, source))


@pytest.mark.parametrize(
    ("name", "cell", "message"),
    [("default", 2, "row 1: 2: expected 0 or 1"), ("late", "often", "'often': expected a finite number")],
)
def test_a_cell_of_another_kind_is_named_with_its_row(tmp_path: Path, name: str, cell: object, message: str) -> None:
    """Nothing is guessed of a table."""
    path = prepared(tmp_path, **{name: pa.array([cell] * ROWS)})
    with pytest.raises(InvalidInput) as refused:
        train(path, tmp_path / "models", silent)
    assert refused.value.field == name
    assert message.split(" is not ")[0] in refused.value.message


def test_a_table_without_judged_bads_makes_no_scorecard(tmp_path: Path) -> None:
    """There is nothing to judge with."""
    with pytest.raises(NothingToLearn, match="oot rows hold 0 bads among 0"):
        train(prepared(tmp_path, part=pa.array(["train"] * ROWS)), tmp_path / "models", silent)

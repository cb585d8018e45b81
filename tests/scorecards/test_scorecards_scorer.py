"""The single-row LightGBM call."""

from __future__ import annotations

import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from scorecard_maker import Trained

from decision_service.scorer import LightGbmScorer, ModelNotLoadable


def test_margins_equal_lightgbms_own_on_every_row(small_model: Trained) -> None:
    """The fast call gives bit for bit what `Booster.predict(raw_score=True)` gives, nulls included."""
    scorer = LightGbmScorer(small_model.text, small_model.rows.shape[1])
    assert [scorer.margin(row) for row in small_model.rows] == small_model.margins.tolist()


def test_contributions_equal_lightgbms_own_and_add_up_to_the_margin(small_model: Trained) -> None:
    """They are bit for bit what `Booster.predict(pred_contrib=True)` gives, nulls included; their sum is the margin."""
    scorer = LightGbmScorer(small_model.text, 5)
    rows = small_model.rows[:300]
    contributions = np.array([scorer.contributions(row) for row in rows])
    booster = lightgbm.Booster(model_str=small_model.text.decode())
    assert (contributions == booster.predict(rows, pred_contrib=True)).all()
    np.testing.assert_allclose(contributions.sum(axis=1), small_model.margins[:300], rtol=0, atol=1e-9)


def test_contributions_of_a_row_with_gaps_in_memory(small_model: Trained) -> None:
    """A column of a matrix is read as the values it holds, not as what lies between them."""
    scorer = LightGbmScorer(small_model.text, 5)
    columns = np.asfortranarray(small_model.rows[:20])
    for strided, row in zip(columns, small_model.rows, strict=False):
        assert (scorer.contributions(strided) == scorer.contributions(row)).all()


def test_an_infinity_is_refused(small_model: Trained) -> None:
    """An infinite feature raises instead of being scored."""
    scorer = LightGbmScorer(small_model.text, 5)
    for bad in (np.inf, -np.inf):
        row = small_model.rows[0].copy()
        row[3] = bad
        with pytest.raises(ValueError, match="feature 3 is infinite"):
            scorer.margin(row)
        with pytest.raises(ValueError, match="feature 3 is infinite"):
            scorer.contributions(row)
    assert scorer.margin(small_model.rows[0]) == small_model.margins[0]


def test_a_row_of_another_width_is_refused(small_model: Trained) -> None:
    """Neither a short row nor a single number spreads itself over the features."""
    scorer = LightGbmScorer(small_model.text, 5)
    for width in (0, 1, 4, 6):
        with pytest.raises(ValueError, match="shape"):
            scorer.margin(np.zeros(width))
        with pytest.raises(ValueError, match="shape"):
            scorer.contributions(np.zeros(width))


def test_a_model_of_another_width_is_refused(small_model: Trained) -> None:
    """The number of features is checked when the model loads."""
    with pytest.raises(ModelNotLoadable, match="5 features, 6 are expected"):
        LightGbmScorer(small_model.text, 6)


def test_a_closed_scorer_refuses(small_model: Trained) -> None:
    """Closing twice is harmless and scoring afterwards is an error, not a crash."""
    scorer = LightGbmScorer(small_model.text, 5)
    scorer.close()
    scorer.close()
    for call in (scorer.margin, scorer.contributions):
        with pytest.raises(ValueError, match="closed"):
            call(small_model.rows[0])


def test_threads_may_share_a_scorer(small_model: Trained) -> None:
    """Concurrent calls never see each other's rows."""
    scorer = LightGbmScorer(small_model.text, 5)
    with ThreadPoolExecutor(4) as pool:
        margins = list(pool.map(scorer.margin, small_model.rows[:2_000], chunksize=50))
    assert margins == small_model.margins[:2_000].tolist()


def test_a_row_may_be_explained_while_others_are_scored(small_model: Trained) -> None:
    """Contributions asked for in other threads change neither each other nor any margin."""
    scorer = LightGbmScorer(small_model.text, 5)
    rows = small_model.rows[:500]
    with ThreadPoolExecutor(4) as pool:
        explained = [pool.submit(scorer.contributions, row) for row in rows]
        margins = [scorer.margin(row) for row in rows]
        sums = [float(one.result().sum()) for one in explained]
    assert margins == small_model.margins[:500].tolist()
    assert sums == pytest.approx(margins, abs=1e-9)


@pytest.mark.fault("G14")
@pytest.mark.slow
def test_memory_is_flat_over_a_thousand_reloads(small_model: Trained) -> None:
    """G14: closing frees what loading took, and so does dropping the object."""

    def resident_kb() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024

    def reload(times: int) -> None:
        for i in range(times):
            scorer = LightGbmScorer(small_model.text, 5)
            scorer.margin(small_model.rows[i])
            if i % 2:
                scorer.close()

    reload(100)
    before = resident_kb()
    reload(1_000)
    assert resident_kb() - before < 8_192


def test_the_lightgbm_package_is_not_imported() -> None:
    """Scoring needs the shared library only; the package would cost a second and its memory."""
    code = "import sys, decision_service.scorer as s; s.library_path(); sys.exit('lightgbm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

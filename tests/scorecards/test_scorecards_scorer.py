"""The single-row LightGBM call."""

from __future__ import annotations

import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scorecard_maker import Trained

from decision_service.scorer import LightGbmScorer, ModelNotLoadable


def test_margins_equal_lightgbms_own_on_every_row(small_model: Trained) -> None:
    """The fast call gives bit for bit what `Booster.predict(raw_score=True)` gives, nulls included."""
    scorer = LightGbmScorer(small_model.text, small_model.rows.shape[1])
    assert [scorer.margin(row) for row in small_model.rows] == small_model.margins.tolist()


def test_an_infinity_is_refused(small_model: Trained) -> None:
    """An infinite feature raises instead of being scored."""
    scorer = LightGbmScorer(small_model.text, 5)
    for bad in (np.inf, -np.inf):
        row = small_model.rows[0].copy()
        row[3] = bad
        with pytest.raises(ValueError, match="feature 3 is infinite"):
            scorer.margin(row)
    assert scorer.margin(small_model.rows[0]) == small_model.margins[0]


def test_a_row_of_another_width_is_refused(small_model: Trained) -> None:
    """Neither a short row nor a single number spreads itself over the features."""
    scorer = LightGbmScorer(small_model.text, 5)
    for width in (0, 1, 4, 6):
        with pytest.raises(ValueError, match="shape"):
            scorer.margin(np.zeros(width))


def test_a_model_of_another_width_is_refused(small_model: Trained) -> None:
    """The number of features is checked when the model loads."""
    with pytest.raises(ModelNotLoadable, match="5 features, 6 are expected"):
        LightGbmScorer(small_model.text, 6)


def test_a_closed_scorer_refuses(small_model: Trained) -> None:
    """Closing twice is harmless and scoring afterwards is an error, not a crash."""
    scorer = LightGbmScorer(small_model.text, 5)
    scorer.close()
    scorer.close()
    with pytest.raises(ValueError, match="closed"):
        scorer.margin(small_model.rows[0])


def test_threads_may_share_a_scorer(small_model: Trained) -> None:
    """Concurrent calls never see each other's rows."""
    scorer = LightGbmScorer(small_model.text, 5)
    with ThreadPoolExecutor(4) as pool:
        margins = list(pool.map(scorer.margin, small_model.rows[:2_000], chunksize=50))
    assert margins == small_model.margins[:2_000].tolist()


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

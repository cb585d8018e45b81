"""(d) Score only: this service's scorer beside LightGBM's own calls and trees compiled to C (treelite, tl2cgen).

The scorecard of benchmarks/policies/peers, rows of values drawn from its training distribution with nulls in it,
another row each call. First every margin is compared with `Booster.predict`: equal to the bit, or the difference told.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
import yaml

import peer_paths  # noqa: F401
from decision_service.core.scorecards.tree_scorer import TreeScorer
from decision_service.scorer import LightGbmScorer
from peer_report import IN_TURNS_COLUMNS, Part, Ratio, in_turns, in_turns_rows, say

FOLDER: Final = Path(__file__).resolve().parents[1] / "policies" / "peers" / "models" / "behaviour" / "1"
OURS: Final = "this service"
BOOSTER: Final = "LightGBM Booster.predict"
ROWS: Final = 1_000
TOLERANCE: Final = 1e-12
NOTES: Final = [
    "margins (log-odds) of one row a call, another row each time, as decisions come; calibration and points would cost "
    "all of them the same.",
    "`Booster.predict` is what most services call; it is made for many rows. The fast call is LightGBM's own for one "
    "row, prepared once, called by ctypes with the row copied into its buffer.",
    "treelite with tl2cgen compiles the trees to C (gcc, its own flags). Shown twice: through its Python binding, "
    "which wants a matrix of its own made for every row, and called directly by ctypes, which is written here and is "
    "what it could do at best from Python.",
    "lleaves, the other library of this kind, does not run with the llvmlite that Numba needs (1.3.0: no "
    "PassManagerBuilder), so it is not here.",
    "this service checks each row for infinities and its shape in the time shown.",
]
Row = np.ndarray


class DifferentScores(Exception):
    """A scorer differs by more than TOLERANCE."""


def run(quick: bool) -> Part:
    """Compare, then time."""
    part = Part("score", "(d) Score only", list(NOTES), IN_TURNS_COLUMNS)
    rows = sample_rows()
    with tempfile.TemporaryDirectory() as folder:
        calls = scorers(Path(folder), part)
        part.checked = same_scores(calls, rows)
        timed: dict[str, Callable[[int], Any]] = {
            name: lambda i, call=call: call(rows[i % ROWS]) for name, call in calls.items()
        }
        say("score: rounds in turns")
        spent = in_turns(timed, *((1, 0.2) if quick else (5, 1.5)))
    part.rows = in_turns_rows(spent, OURS)
    part.ratios = [
        Ratio(f"CPU, {name} / this service", found.cpu_us / spent[OURS].cpu_us)
        for name, found in spent.items() if name != OURS
    ]  # fmt: skip
    return part


def manifest() -> dict[str, Any]:
    """The scorecard's manifest."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: dict[str, Any] = yaml.load((FOLDER / "manifest.yaml").read_text(encoding="utf-8"), loader)
    return found


def sample_rows(count: int = ROWS) -> list[Row]:
    """Rows of float64[n]: each value between two deciles of training, a tenth of them null where that is allowed."""
    rng, columns = np.random.default_rng(5), []
    for feature in manifest()["features"]:
        values = np.interp(rng.random(count) * 8, range(9), feature["deciles"])
        values = np.where(rng.random(count) < 0.3, np.round(values), values)
        columns.append(np.where(rng.random(count) < 0.1, np.nan, values) if feature["nulls"] == "allowed" else values)
    return list(np.ascontiguousarray(np.array(columns).T))


def scorers(folder: Path, part: Part) -> dict[str, Callable[[Row], float]]:
    """Every scorer as a function from a row to its margin; what could not be had is told in the part's notes."""
    text = (FOLDER / "model.txt").read_bytes()
    names = len(manifest()["features"])
    booster = lightgbm.Booster(model_str=text.decode())
    return {
        OURS: TreeScorer(text, names).margin,
        BOOSTER: lambda row: float(booster.predict(row[None, :], raw_score=True, num_threads=1)[0]),
        "LightGBM C API, single-row fast": fast_call(text, names),
        **compiled_trees(folder, part),
    }


def fast_call(text: bytes, names: int) -> Callable[[Row], float]:
    """The bare C call, without the checks and locks that this service's wrapper puts around it."""
    scorer = LightGbmScorer(text, names)
    buffer, predict, arguments, result = scorer._row, scorer._predict, scorer._arguments, scorer._result

    def margin(row: Row) -> float:
        buffer[:] = row
        predict(*arguments)
        return float(result[0])

    margin.scorer = scorer  # type: ignore[attr-defined]  # its native memory goes with it
    return margin


def compiled_trees(folder: Path, part: Part) -> dict[str, Callable[[Row], float]]:
    """treelite and tl2cgen, if they and a C compiler are there."""
    try:
        import tl2cgen
        import treelite

        say("score: compiling the trees to C")
        model = treelite.frontend.load_lightgbm_model(str(FOLDER / "model.txt"))
        library = folder / "trees.so"
        with printing_to_stderr():
            tl2cgen.export_lib(model, toolchain="gcc", libpath=str(library), params={"parallel_comp": 4})
        predictor = tl2cgen.Predictor(str(library), nthread=1)
    except Exception as error:
        part.notes.append(f"treelite and tl2cgen could not be used here: {type(error).__name__}: {error}")
        return {}
    told = f"treelite {version('treelite')} + tl2cgen {version('tl2cgen')}, compiled C"
    return {
        told: lambda row: float(predictor.predict(tl2cgen.DMatrix(row[None, :]), pred_margin=True).item()),
        f"{told}, by ctypes": compiled_call(library),
    }


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """What native code prints to standard output is progress, not the table."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def compiled_call(library: Path) -> Callable[[Row], float]:
    """The compiled function called without its binding: a row copied into its 8-byte unions, where -1 as an int is
    null; it adds to the result it is given."""
    predict = ctypes.PyDLL(str(library)).predict
    predict.argtypes, predict.restype = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p], None
    entries, result = np.zeros(len(manifest()["features"])), np.zeros(1)
    as_int, data, out = entries.view(np.int64), entries.ctypes.data, result.ctypes.data

    def margin(row: Row) -> float:
        entries[:] = row
        as_int[np.isnan(row)] = -1
        result[0] = 0.0
        predict(data, 1, out)
        return float(result[0])

    return margin


def same_scores(calls: dict[str, Callable[[Row], float]], rows: list[Row]) -> str:
    """How equal all are to `Booster.predict`; DifferentScores beyond TOLERANCE."""
    expected = [calls[BOOSTER](row) for row in rows]
    told = []
    for name, call in calls.items():
        found = [call(row) for row in rows]
        worst = max(abs(a - b) for a, b in zip(expected, found, strict=True))
        if not worst <= TOLERANCE:
            raise DifferentScores(f"{name} differs from {BOOSTER} by {worst}")
        if name != BOOSTER:
            told.append(f"{name} to the bit" if worst == 0 else f"{name} to {worst:.0e}")
    return f"{len(rows):,} rows beside {BOOSTER}: " + ", ".join(told)

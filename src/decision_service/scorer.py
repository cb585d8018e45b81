"""LightGBM itself, by its C API: on trial (`scorecards.trial`), for a training's golden rows, as the oracle of tests.

What serves is `core.scorecards.tree_scorer`, which walks the same trees faster and trusts nothing; this is what its
margins equal bit for bit and its contributions to 1e-9.

Why not `lightgbm.Booster`: importing the package costs a second and a hundred megabytes, and `Booster.predict` on one
row 70 us. The shared library inside the package, driven by ctypes through the *single-row fast* call, costs 10 us for
the same row again and 38 us for rows that change (300 trees x 31 leaves): everything that does not depend on the row
(predictor, parameters, output buffer) is prepared once. The library is found without importing the package. Loading and
explaining run with the GIL released; the fast call holds it.

LightGBM trusts its input: a truncated model kills the process. Where bytes come from outside, only a process of its own
may show them to it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
import weakref
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

_LIBRARY_NAMES: Final = ("lib_lightgbm.so", "lib_lightgbm.dylib", "lib_lightgbm.dll")
_LIBRARY_FOLDERS: Final = ("lib", "bin", ".")

_RAW_SCORE: Final = 1  # C_API_PREDICT_RAW_SCORE
_CONTRIBUTIONS: Final = 3  # C_API_PREDICT_CONTRIB
_FLOAT64: Final = 1  # C_API_DTYPE_FLOAT64
_ROW_MAJOR: Final = 1
_ALL_ITERATIONS: Final = -1
_PARAMETERS: Final = b"num_threads=1 verbosity=-1"  # one core a worker: threads would only fight (faults G09)


class ModelNotLoadable(Exception):
    """LightGBM itself refused the model; the message is LightGBM's."""


def library_path() -> Path:
    """Where the installed `lightgbm` package keeps its shared library. Raises FileNotFoundError."""
    spec = importlib.util.find_spec("lightgbm")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the lightgbm package is not installed")
    package = Path(spec.origin).parent
    for folder in _LIBRARY_FOLDERS:
        for name in _LIBRARY_NAMES:
            if (path := package / folder / name).is_file():
                return path
    raise FileNotFoundError(f"no LightGBM library below {package}")


@cache
def _loading() -> ctypes.CDLL:
    """The library for slow calls: the GIL is released while they run."""
    library = ctypes.CDLL(str(library_path()))
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    library.LGBM_BoosterLoadModelFromString.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]
    library.LGBM_BoosterGetNumFeature.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.LGBM_BoosterGetNumClasses.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.LGBM_BoosterPredictForMatSingleRowFastInit.argtypes = [
        ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int32,
        ctypes.c_char_p, ctypes.c_void_p,
    ]  # fmt: skip
    library.LGBM_BoosterPredictForMat.argtypes = [
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.c_int, ctypes.c_int,
        ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    library.LGBM_BoosterFree.argtypes = [ctypes.c_void_p]
    library.LGBM_FastConfigFree.argtypes = [ctypes.c_void_p]
    return library


@cache
def _scoring() -> ctypes.PyDLL:
    """The same library for the one fast call: the GIL is kept."""
    library = ctypes.PyDLL(str(library_path()))
    library.LGBM_BoosterPredictForMatSingleRowFast.argtypes = [ctypes.c_void_p] * 4
    return library


def _check(status: int) -> None:
    if status != 0:
        raise ModelNotLoadable(_loading().LGBM_GetLastError().decode(errors="replace"))


def _count(function: str, booster: ctypes.c_void_p) -> int:
    number = ctypes.c_int()
    _check(getattr(_loading(), function)(booster, ctypes.byref(number)))
    return number.value


def _free_booster(booster: int, /) -> None:
    _loading().LGBM_BoosterFree(booster)


def _free_config(config: int, /) -> None:
    _loading().LGBM_FastConfigFree(config)


class LightGbmScorer:
    """A loaded binary LightGBM model. Thread-safe; nothing is allocated by LightGBM per call.

    `model_text` is LightGBM's own text format; `n_features` what the manifest says, refused
    (ModelNotLoadable) if the model disagrees. Native memory is freed by `close` or when the object is
    collected, whichever comes first.
    """

    __slots__ = (
        "__weakref__", "_arguments", "_booster", "_explaining", "_free", "_infinite", "_infinite_flags", "_lock",
        "_predict", "_result", "_row", "_shape",
    )  # fmt: skip

    def __init__(self, model_text: bytes, n_features: int) -> None:
        booster = ctypes.c_void_p()
        iterations = ctypes.c_int()
        _check(_loading().LGBM_BoosterLoadModelFromString(model_text, ctypes.byref(iterations), ctypes.byref(booster)))
        self._free = [weakref.finalize(self, _free_booster, booster.value or 0)]
        self._require(booster, n_features)
        config = ctypes.c_void_p()
        _check(
            _loading().LGBM_BoosterPredictForMatSingleRowFastInit(
                booster,
                _RAW_SCORE,
                0,
                _ALL_ITERATIONS,
                _FLOAT64,
                n_features,
                _PARAMETERS,
                ctypes.byref(config),
            )
        )
        self._free.insert(0, weakref.finalize(self, _free_config, config.value or 0))
        self._booster = booster
        self._prepare(config, n_features)

    def _require(self, booster: ctypes.c_void_p, n_features: int) -> None:
        found = _count("LGBM_BoosterGetNumFeature", booster)
        if found != n_features:
            raise ModelNotLoadable(f"the model has {found} features, {n_features} are expected")
        classes = _count("LGBM_BoosterGetNumClasses", booster)
        if classes != 1:
            raise ModelNotLoadable(f"the model has {classes} classes; a scorecard gives one log-odds")

    def _prepare(self, config: ctypes.c_void_p, n_features: int) -> None:
        self._shape = (n_features,)
        self._row = np.empty(n_features, np.float64)
        self._infinite_flags = bytearray(n_features)
        self._infinite = np.frombuffer(self._infinite_flags, np.bool_)
        self._result = np.zeros(2, np.float64)  # the margin, and the number of results as LightGBM counts them
        out = self._result.ctypes.data
        self._arguments = (config, self._row.ctypes.data, out + 8, out)
        self._predict = _scoring().LGBM_BoosterPredictForMatSingleRowFast
        self._lock = threading.Lock()
        self._explaining = threading.Lock()  # LightGBM works out tree depths in place when asked for contributions

    def margin(self, row: npt.NDArray[np.float64]) -> float:
        """Log-odds of bad for float64[n_features]; NaN is null. Raises ValueError for an infinity or another
        shape.
        """
        if row.shape != self._shape:
            raise ValueError(f"a row of shape {self._shape} is expected, not {row.shape}")
        with self._lock:
            if not self._free:
                raise ValueError("the scorer is closed")
            self._row[:] = row
            np.isinf(self._row, out=self._infinite)
            if 1 in self._infinite_flags:
                raise ValueError(f"feature {self._infinite_flags.index(1)} is infinite")
            _check(self._predict(*self._arguments))
            return self._result.item(0)

    def contributions(self, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """float64[n_features + 1]: what each feature of a row adds to the margin (SHAP values), and last the margin
        expected of an unknown row; their sum is the margin. Slow; may be called beside `margin` from another
        thread. Raises ValueError like `margin`.
        """
        if row.shape != self._shape:
            raise ValueError(f"a row of shape {self._shape} is expected, not {row.shape}")
        if np.isinf(row).any():
            raise ValueError(f"feature {int(np.isinf(row).argmax())} is infinite")
        row = np.ascontiguousarray(row, np.float64)
        result = np.empty(len(row) + 1, np.float64)
        with self._explaining:
            if not self._free:
                raise ValueError("the scorer is closed")
            _check(
                _loading().LGBM_BoosterPredictForMat(
                    self._booster, row.ctypes.data, _FLOAT64, 1, len(row), _ROW_MAJOR, _CONTRIBUTIONS, 0,
                    _ALL_ITERATIONS, _PARAMETERS, ctypes.byref(ctypes.c_int64()), result.ctypes.data,
                )
            )  # fmt: skip
        return result

    def close(self) -> None:
        """Free the native memory. Closing twice is harmless; scoring afterwards raises ValueError."""
        with self._explaining, self._lock:
            for free in self._free:
                free()
            self._free = []

"""The margins of many rows: `forest_kernel.margin` in a compiled loop, for backtests. Equal to it bit for bit.

Compiled when it is first called, and cached on disk: what serves never asks for it. Numba's cache watches this file
only, so the loop closes over a digest of the kernel's source.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
from numba import njit

from decision_service.core.scorecards import forest_kernel

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

_margin: Final[Any] = forest_kernel.margin


def _digest_of_kernel() -> int:
    return int.from_bytes(blake2b(Path(str(forest_kernel.__file__)).read_bytes(), digest_size=7).digest(), "little")


def _build(digest: int) -> Any:
    @njit(cache=True, error_model="numpy")
    def margins(rows, columns, nodes, links, order):
        """float64[n] for float64[n, features]; inf where a feature is infinite."""
        out = np.empty(rows.shape[0], np.float64)
        for i in range(rows.shape[0]):
            out[i] = _margin(rows[i], columns, nodes, links, order)
        return out if digest else out[:0]

    return margins


margins: Final[Any] = _build(_digest_of_kernel())

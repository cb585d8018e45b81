"""How the functions of the feature kernel are compiled: without Numba's reference counting.

Every array of a plan outlives the call, and the kernel allocates nothing, so counting references to rows buys nothing;
with it, each call that passes ten rows pays for twenty atomic additions (measured: 450 ns against 18 ns for one
dispatched output). A function that allocates, or returns a row, does not compile this way, which is how "allocates
nothing" is kept. `_nrt` is an option of Numba's dispatcher without public documentation; if a version ever drops it,
decorating fails at import and plain `njit` gives the same results, slower.

Divisions follow IEEE 754 (`error_model="numpy"`): a test for zero before each would keep loops from being vectorised,
and the formulas ask for zero themselves where it can occur, as a ratio of nothing is null.
"""

from __future__ import annotations

from typing import Any, Final

from numba import njit

_njit: Any = njit
kernel_function: Final = _njit(
    _nrt=False, error_model="numpy"
)  # for the parts; only the entry is cached, and holds them all
kernel_entry: Final = _njit(cache=True, nogil=True, error_model="numpy")

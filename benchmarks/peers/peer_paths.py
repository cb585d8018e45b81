"""Makes the modules of benchmarks/ importable from benchmarks/peers/, however the latter is started."""

from __future__ import annotations

import sys
from pathlib import Path

_BENCHMARKS = str(Path(__file__).resolve().parents[1])
if _BENCHMARKS not in sys.path:
    sys.path.append(_BENCHMARKS)

"""Whoever imports this first can import what is in `benchmarks/peers`."""

from __future__ import annotations

import sys
from pathlib import Path

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
sys.path[:0] = [str(PEERS), str(PEERS.parent)]

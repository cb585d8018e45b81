"""Fixtures of the service tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "scorecards"))  # its maker of small real scorecards
sys.path.insert(0, str(Path(__file__).parent.parent / "faults"))  # its TCP proxy

from conftest_service import clock, rules, run  # noqa: F401

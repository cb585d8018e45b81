"""Fixtures of the fleet's tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "service"))  # its small policy
sys.path.insert(0, str(Path(__file__).parent.parent / "scorecards"))  # its maker of small real scorecards

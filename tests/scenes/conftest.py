"""Fixtures of the scene tests: the small service of the service tests, with a rule set for every scene."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "service"))
sys.path.insert(0, str(Path(__file__).parent.parent / "scorecards"))

from conftest_service import clock, run  # noqa: F401
from scene_cases import rules  # noqa: F401

"""Fixtures of the reconcile tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "service"))  # its small policy and its service in this process

from conftest_service import clock, rules, run  # noqa: F401

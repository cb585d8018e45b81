"""Services with a policy in shadow, of the small policy that the service's tests have."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "service"))

from conftest_service import clock, rules, run  # noqa: F401

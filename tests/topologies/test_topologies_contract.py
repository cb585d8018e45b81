"""The store's whole contract on Sentinel and on a cluster with replicas, and on a single server as the yardstick.

The tests are those of `tests/store/test_store_contract.py`; only the store below them is another.
"""

from __future__ import annotations

from test_store_contract import *  # noqa: F403

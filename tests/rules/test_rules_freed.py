"""A policy that is replaced is freed by its reference count: the collector never looks at one (`interpreter.py`)."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

from decision_service.core.limits import DAY_MS
from decision_service.policies.loading import load_policy

ROOT = Path(__file__).parents[2]


def ours(thing: object) -> bool:
    """Whether an object is of a class of this package, or code it generated."""
    return type(thing).__module__.startswith("decision_service") or getattr(thing, "__name__", "") == "generated"


def test_neither_loading_a_policy_nor_dropping_it_leaves_a_cycle() -> None:
    """A reload a minute for a year must not grow the process."""
    policy, _ = load_policy(ROOT / "rules", ROOT / "models", "Asia/Shanghai", DAY_MS)
    gc.unfreeze()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        del policy
        policy, _ = load_policy(ROOT / "rules", ROOT / "models", "Asia/Shanghai", DAY_MS)
        del policy
        gc.unfreeze()
        gc.collect()
        left = Counter(type(thing).__name__ for thing in gc.garbage if ours(thing))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not left

"""The whole definition: what every part of the oracle says about one case."""

from __future__ import annotations

import oracle
import oracle_credit


def features(case: oracle.Case) -> dict[str, float | None]:
    """Every feature by name."""
    out = oracle.features(case)
    more = oracle_credit.features(case, out)
    assert not out.keys() & more.keys(), "a feature has one definition"
    return out | more

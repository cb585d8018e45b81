"""The whole definition: what every part of the oracle says about one case."""

from __future__ import annotations

import oracle
import oracle_credit
import oracle_use


def features(case: oracle.Case) -> dict[str, float | None]:
    """Every feature by name."""
    out = oracle.features(case)
    more = oracle_credit.features(case, out)
    use = oracle_use.use_features(case)
    assert not out.keys() & more.keys() | (out | more).keys() & use.keys(), "a feature has one definition"
    return out | more | use

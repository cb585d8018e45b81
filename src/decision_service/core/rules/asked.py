"""What an inline test says is asked for, beside what was asked for: both as sets of actions.

The amounts of a test become actions as those of a rule do, by the code that serves, under the values of the test: money
in minor units, rates in basis points, shares of the limit as the limit they come to. A test that gives no limit or rate
is run with ones so large that no two shares or steps that anybody would write come to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from decision_service.core.decision import Action, CapDraw, ChangeLimit, ChangePrice
from decision_service.core.rules.spec import ComputedEffect, EffectSpec, FixedEffect, TestSpec, said
from decision_service.core.source import Place

SCALE: Final = 100
BPS: Final = 10_000
LIMIT_MINOR: Final = 100_000_000  # where a test gives none
APR_BPS: Final = 5_000
_DIGITS: Final = 8  # of a share: exact for the limit above


def limit_minor_of(test: TestSpec) -> int:
    """The limit that a test is run with."""
    limit = dict(test.given).get("facility.limit")
    return int(limit * SCALE) if isinstance(limit, float) and limit == limit else LIMIT_MINOR


def apr_bps_of(test: TestSpec) -> int:
    """The rate that a test is run with."""
    apr = dict(test.given).get("facility.apr")
    return round(apr * BPS) if isinstance(apr, float) and apr == apr else APR_BPS


def shown_asks(asks: Sequence[EffectSpec], unknown: Sequence[str]) -> str:
    """What a test says is asked for, as it says it; `unknown` are the amounts that the values given leave unknown."""
    shown = ", ".join(map(_flow, said(asks))) or "nothing"
    return shown + "".join(f" (but `{text}` is unknown here)" for text in unknown)


def shown_actions(actions: Iterable[Action], test: TestSpec) -> str:
    """What was asked for, as a test would say it: changes of the limit and the price in the terms of this one."""
    return ", ".join(sorted(_flow(_shown(action, test)) for action in actions)) or "nothing"


def _shown(action: Action, test: TestSpec) -> str | dict[str, Any]:
    sorts = {effect.sort for effect in test.asks or () if isinstance(effect, ComputedEffect)}
    match action:
        case CapDraw(amount_minor=amount):
            return {"cap_draw": _plain(amount / SCALE)}
        case ChangeLimit(kind="set", to_minor=to):
            limit = limit_minor_of(test)
            if "set" in sorts or limit == 0:
                return {"limit": {"set": _plain(to / SCALE)}}
            return {"limit": {"cut" if to < limit else "raise": _plain(abs(to - limit) / limit)}}
        case ChangePrice(apr_bps=apr):
            price = {"set_apr": _plain(apr / BPS)} if "set_apr" in sorts else {"add_bps": str(apr - apr_bps_of(test))}
            return {"price": price}
    return said([FixedEffect(action, Place("", 0, 0))])[0]


def _plain(value: float) -> str:
    text = f"{value:.{_DIGITS}f}"
    return text.rstrip("0").rstrip(".")


def _flow(value: str | dict[str, Any]) -> str:
    if isinstance(value, str):
        return value
    return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"

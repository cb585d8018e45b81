"""Warming: every kernel compiled (or taken from Numba's cache on disk) before the first request needs it.

A policy is warmed by deciding with it, in every scene, on an empty log and on a short one, and throwing the answers
away: whatever a decision calls has then been called. `python -m decision_service.warm` does so with the shipped
policy, which is how an image gets its cache at build time.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Final

from decision_service.core.decide import decide
from decision_service.core.errors import DecisionServiceError
from decision_service.core.event import APPROVED, DRAWDOWN, Event, Geo, facility_key, header
from decision_service.core.facility import Facility
from decision_service.core.limits import DAY_MS, HOUR_MS
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState

NOW_MS: Final = 1_700_000_000_000  # any instant does: the answers are thrown away
LINE: Final = Facility(
    facility_id="f", customer_id="c", product="warm", currency="CNY", limit_minor=100_000, outstanding_minor=0,
    as_of_ms=NOW_MS - DAY_MS, apr_bps=1_800, status="active", granted_at_ms=NOW_MS - DAY_MS,
)  # fmt: skip
PLACE: Final = Geo(31_000_000, 121_000_000, 3)
REQUEST: Final = DecisionRequest(
    request_id="warm", customer_id="c", facility_id="f", amount_minor=10_000, currency="CNY", occurred_at_ms=NOW_MS,
    channel="app", device_id="d", counterparty_id="m", purpose="consumption", geo=PLACE, term_months=12,
    facility=LINE, fingerprint=bytes(16), body=b"{}",
)  # fmt: skip


def warm(policy: Policy | None) -> None:
    """Decide with `policy` until nothing is left to compile. None (no policy yet) is fine: there is nothing to warm."""
    if policy is None:
        return
    records = b"".join(
        Event(
            key=number, kind=DRAWDOWN, status=APPROVED, occurred_at_ms=NOW_MS - number * HOUR_MS,
            amount_minor=5_000, facility=facility_key("f"), geo=PLACE,
        ).pack()
        for number in (2, 1)
    )  # fmt: skip
    for log in (header(), header() + records):
        state = CustomerState(1, log, {LINE.facility_id: LINE})
        for scene in policy.scenes:
            decide(replace(REQUEST, scene=scene), state, policy, NOW_MS, "0" * 36)


def main() -> int:
    """Warm the policy that the settings name; the exit status is the command line's for the same mistake."""
    from decision_service.cli import exit_status
    from decision_service.policies.loading import load_policy
    from decision_service.settings import load_settings

    started = time.perf_counter()
    try:
        settings = load_settings()
        policy, _ = load_policy(settings.rules, settings.models, settings.time_zone, settings.reservation_timeout_ms)
    except DecisionServiceError as error:
        print(error.message, file=sys.stderr)
        return exit_status(error)
    warm(policy)
    print(f"policy {policy.id} warmed in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

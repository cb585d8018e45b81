"""The store calls of a history, run again on another store, in the order in which the simulated server ran them.

What a call returned there, state bytes, versions and refusals, must be what it returns here. Calls after a power cut in
the profile `fast` are left out: no other store forgets the same.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from sim_history import History
from sim_store import Ran

from decision_service.core.errors import StoreUnavailable
from decision_service.core.event import EMPTY_LOG
from decision_service.core.state import CustomerState
from decision_service.store import Store

TIMEOUT_S = 10.0


async def differences(history: History, store: Store) -> list[str]:
    """Where another store says something else than the simulated one did; empty if nowhere."""
    found = []
    for number, ran in enumerate(history.server.ran):
        if ran.name == "power":
            break
        wanted, got = _comparable(ran.outcome, ran.name), _comparable(await _run(store, ran), ran.name)
        if wanted != got:
            found.append(f"seed {history.seed}, call {number} ({ran.name}): {wanted!r} there, {got!r} here")
    return found


async def connected(store: Store) -> None:
    """Return when a store answers; on a busy machine connecting may take several tries."""
    for _ in range(50):
        with suppress(StoreUnavailable):
            await store.read("nobody", None, TIMEOUT_S)
            return
        await asyncio.sleep(0.1)


async def _run(store: Store, ran: Ran) -> Any:
    try:
        if ran.name == "read_link":
            (name,) = ran.arguments
            return (await store.read_links([name], TIMEOUT_S).logs())[name[0]]
        return await getattr(store, ran.name)(*ran.arguments, TIMEOUT_S)
    except Exception as error:
        return error


def _comparable(outcome: Any, name: str) -> Any:
    if isinstance(outcome, Exception):
        return type(outcome).__name__
    if isinstance(outcome, CustomerState):
        return outcome.version, outcome.log, dict(outcome.facilities), dict(outcome.attributes), outcome.decision
    if name == "read_link":
        return EMPTY_LOG if outcome is None else outcome
    if name == "waiting_links":
        return sorted(outcome[1])
    return outcome

"""Changing a customer: the conditional-commit loop that everything but a decision goes through.

`plan(state)` looks at the state just read and says what to commit, or None for nothing. It is called again on every
round, so it must depend on nothing but the state and its own constants.

A lost reply means the change may have happened. Changes are idempotent (events are found by their keys, snapshots by
their instants), so the loop simply reads again while there is time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from decision_service.core.errors import Conflict, OutcomeUnknown, StoreError, VersionMoved
from decision_service.core.limits import COMMIT_ATTEMPTS_MAX
from decision_service.core.state import CustomerState
from decision_service.store import Commit, Store

CHANGE_BUDGET_S: Final = 5.0  # of an event, facility or attribute call; nobody's money waits for it
Plan = Callable[[CustomerState], Commit | None]
Prepare = Callable[[CustomerState], Awaitable[None]]


async def change_customer(
    store: Store, customer_id: str, plan: Plan, budget_s: float = CHANGE_BUDGET_S, prepare: Prepare | None = None
) -> CustomerState:
    """Apply a plan; the state it was applied to. StoreUnavailable, OutcomeUnknown; Conflict if it never had a turn.

    `prepare` does what must be done elsewhere before the plan looks at a state; like the plan it is called every round.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + budget_s
    lost: StoreError | None = None
    for _ in range(COMMIT_ATTEMPTS_MAX):
        left_s = deadline - clock()
        if left_s <= 0:
            break
        try:
            state = await store.read(customer_id, None, left_s)
            if prepare is not None:
                await prepare(state)
            commit = plan(state)
            if commit is not None:
                await store.commit(commit, max(0.001, deadline - clock()))
        except VersionMoved:
            continue
        except OutcomeUnknown as error:
            lost = error
            continue
        return state
    raise lost or Conflict("this customer is being changed by too many callers at once: try again")

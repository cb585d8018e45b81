"""The simulated store is no fiction: its calls, made to a real server, have the same replies."""

from __future__ import annotations

import pytest
from sim_history import History, run
from sim_replay import connected, differences
from sim_worker import PARTITIONS

from decision_service.store.open import open_store
from valkey_server import ValkeyServer

pytestmark = pytest.mark.anyio
HISTORIES = 200


@pytest.fixture
def histories() -> list[History]:
    """Histories that are over."""
    return [run(seed) for seed in range(HISTORIES)]


async def test_simulation_a_real_server_answers_as_the_simulated_one(
    valkey_server: ValkeyServer, histories: list[History]
) -> None:
    """The calls of two hundred histories, each on an empty server: every state, version and refusal is the same."""
    refused = sum(isinstance(ran.outcome, Exception) for history in histories for ran in history.server.ran)
    assert refused > HISTORIES / 20  # races were among them
    with valkey_server.client() as client:
        for history in histories:
            client.flushall()
            store = open_store(valkey_server.url, partitions=PARTITIONS)
            try:
                await connected(store)
                assert await differences(history, store) == []
            finally:
                await store.close()

"""Fixtures of the fault tests: a real service before a real store, with the proxy between them.

network         one for the tests of a module, healed before each: it costs seconds to start
network_private of one test's own, for what cannot be healed
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from network import Network, started_network


@pytest.fixture(scope="module")
def _network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    yield from started_network(tmp_path_factory.mktemp("network"))


@pytest.fixture
def network(_network: Network) -> Iterator[Network]:
    _network.heal()
    yield _network
    _network.heal()


@pytest.fixture
def network_private(tmp_path: Path) -> Iterator[Network]:
    yield from started_network(tmp_path)

"""The two servers that `stack.py` compares, each with a Valkey of its own that fsyncs every write before it answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import peer_paths  # noqa: F401  # puts benchmarks/ on the path
from servers import Server, free_port, serving, valkey
from stack_rules import RULES

HERE: Final = Path(__file__).parent
POLICY: Final = HERE.parent / "policies" / "peers"
MODEL: Final = POLICY / "models" / "behaviour" / "1"


@contextmanager
def our_service(folder: Path, cores: set[int], store_cores: set[int]) -> Iterator[tuple[Server, Server]]:
    """One worker of this service on the peers' policy, and its Valkey."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [
        sys.executable, "-m", "decision_service", "serve", "--port", str(port), "--workers", "1",
        "--rules", str(POLICY / "rules"), "--models", str(POLICY / "models"),
    ]  # fmt: skip
    with valkey(folder, store_cores) as store:
        environment = {
            "DECISION_SERVICE_REDIS_URL": f"redis://127.0.0.1:{store.port}/0",
            "DECISION_SERVICE_RATE_LIMIT_PER_S": "0",
            "DECISION_SERVICE_DATA_DIR": str(folder),
            "DECISION_SERVICE_LOG_LEVEL": "warning",
            "DECISION_SERVICE_REQUEST_AGE_MAX_MS": str(3 * 86_400_000),
        }  # fmt: skip
        with serving(command, port, cores, "/readyz", folder / "service.log", environment) as service:
            yield service, store


@contextmanager
def stack(folder: Path, variant: str, cores: set[int], store: Server, rules: Path = RULES) -> Iterator[Server]:
    """One worker of the stack on a Valkey."""
    port = free_port()
    command = [sys.executable, str(HERE / "stack_app.py"), str(port), str(store.port), str(MODEL), variant, str(rules)]
    with serving(command, port, cores, "/readyz", folder / f"stack-{variant}.log") as server:
        yield server

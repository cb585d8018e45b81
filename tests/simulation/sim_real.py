"""What a simulated world must not take from the real one: clocks, randomness, and errors that only the log is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sim_loop import World

import decision_service.journal.delivery as delivery_module
import decision_service.linker as linker_module
import decision_service.service as service_module


class _Drawn:
    """In the place of the module `secrets`: drawn from the seed."""

    world: World

    @classmethod
    def randbelow(cls, below: int) -> int:
        """See `secrets`."""
        return cls.world.rng.randrange(below)

    @classmethod
    def token_bytes(cls, number: int) -> bytes:
        """See `secrets`."""
        return cls.world.rng.randbytes(number)


class _Bugs(logging.Handler):
    """An error that is logged and not a trouble of the store is a mistake of ours."""

    world: World | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.world is not None and not self.world.over:
            told = record.exc_info[1] if record.exc_info else ""
            self.world.bugs.append(f"{record.name}: {record.getMessage()} {told!r}")


_BUGS = _Bugs(logging.ERROR)
_LOG = logging.getLogger("decision_service")


@contextmanager
def nothing_real(world: World) -> Iterator[None]:
    """Let the code under test see this world's clock and seed while a history runs."""
    _Drawn.world = world
    _BUGS.world = world
    clock, secrets = service_module.perf_counter, linker_module.secrets
    at_once, delivery_module.CUSTOMERS_AT_ONCE = delivery_module.CUSTOMERS_AT_ONCE, 2  # type: ignore[misc]
    service_module.perf_counter = lambda: world.now  # type: ignore[attr-defined]
    linker_module.secrets = _Drawn  # type: ignore[assignment]
    propagate, _LOG.propagate = _LOG.propagate, False
    _LOG.addHandler(_BUGS)
    try:
        yield
    finally:
        service_module.perf_counter, linker_module.secrets = clock, secrets  # type: ignore[attr-defined]
        delivery_module.CUSTOMERS_AT_ONCE = at_once  # type: ignore[misc]
        _LOG.removeHandler(_BUGS)
        _LOG.propagate = propagate

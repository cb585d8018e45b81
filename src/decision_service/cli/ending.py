"""The end of a long command: asked to stop it cleans up, and what it writes is not what it reads."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from decision_service.core.errors import InvalidInput

TERMINATED: Final = 128 + signal.SIGTERM


@contextmanager
def cleaning_up() -> Iterator[None]:
    """SIGTERM ends the block as an exception would, so that temporary directories are removed and servers stopped."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)


def check_apart(field: str, written: Path | None, read: Iterable[Path | None]) -> None:
    """Raise InvalidInput if a file that is going to be written is one of those that are read."""
    if written is None:
        return
    if any(path is not None and path.resolve() == written.resolve() for path in read):
        raise InvalidInput(field, f"{written} is one of the files to be read: it would be lost")

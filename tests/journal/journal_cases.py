"""What tests of the journal share: rows, and a journal of each sort in an event loop of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from decision_service.journal import Journal, StaticRow
from decision_service.journal.local import LocalJournal
from decision_service.journal.memory import MemoryJournal

T0_MS = 1_795_000_000_000


def decision_id(n: int) -> str:
    """A decision id; others for other numbers."""
    return f"d000{n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"


def row(n: int, customer: str = "c-1", approved: int = 0, frame: bytes = b"") -> StaticRow:
    """The n-th row."""
    return StaticRow(decision_id(n), customer, approved, T0_MS + n, frame or b"frame %d" % n, b"r" * 64, b"", b"")


def told(rows: list[StaticRow]) -> list[str]:
    """The ids of rows in their order."""
    return [one.decision_id for one in rows]


def run_local(directory: Path, test: Callable[[LocalJournal], Awaitable[Any]]) -> Any:
    """Run a coroutine function with a journal on the disk."""

    async def go() -> Any:
        journal = LocalJournal(directory)
        try:
            return await test(journal)
        finally:
            await journal.close()

    return asyncio.run(go())


def run_memory(_directory: Path, test: Callable[[Journal], Awaitable[Any]]) -> Any:
    """Run a coroutine function with a journal in memory."""

    async def go() -> Any:
        return await test(MemoryJournal())

    return asyncio.run(go())

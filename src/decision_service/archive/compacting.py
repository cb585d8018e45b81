"""Compacting beside a service: once a UTC day, `archive compact` in a process of its own.

For a service with an embedded store, which no cron knows of. Whoever runs consumers by themselves runs the command by
themselves, too: one a day suffices however many consumers there are.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from typing import Final

from decision_service.core.limits import DAY_MS, MINUTE_MS
from decision_service.settings import Settings

LOG = logging.getLogger("decision_service.archive")
LOOK_S: Final = 60.0
BEHIND_MIDNIGHT_MS: Final = 15 * MINUTE_MS  # the last rows of the day before are archived by then
AFTER_START_S: Final = 120.0  # not while a service starts


async def compact_daily(settings: Settings, now_ms: Callable[[], int]) -> None:
    """Have closed days compacted, until it is cancelled. A run that fails is logged, and made again the next day."""
    done_day = -1
    await asyncio.sleep(AFTER_START_S)
    while True:
        day, into_ms = divmod(now_ms(), DAY_MS)
        if day != done_day and into_ms >= BEHIND_MIDNIGHT_MS:
            await compact_once(settings)
            done_day = day
        await asyncio.sleep(LOOK_S)


async def compact_once(settings: Settings) -> int:
    """One run; its exit status. Cancelled, it ends the process: what is left is done by the next."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "decision_service", "archive", "compact", env={**os.environ, **settings.environment()},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if process.returncode:
        LOG.error("archive compact ended with status %d: %s", process.returncode, said.decode(errors="replace")[-500:])
    return process.returncode or 0

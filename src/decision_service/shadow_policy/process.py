"""The shadow process: `python -m decision_service.shadow_policy.process FD`, started by a worker (`keeping.py`).

It reads decisions from the socket FD, evaluates them and keeps what comes out in the store, over connections of its
own. It ends when the worker closes the socket, having kept what it has if the store is quick about it; signals to the
group (Ctrl-C, a drain) are the worker's business.

It runs when nobody else wants its core: SCHED_IDLE where there is such a thing, else the lowest priority. So a machine
that is busy answering leaves decisions unevaluated (they are dropped in the worker, and counted), and never the other
way round.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

import orjson
import uvloop

from decision_service.bootstrap import store_of
from decision_service.core.errors import StoreError
from decision_service.guarded_process import guard_process
from decision_service.policies.source import PolicySource
from decision_service.settings import Settings, load_settings
from decision_service.shadow_policy.candidate import ShadowCandidate
from decision_service.shadow_policy.counting import Counting
from decision_service.shadow_policy.evaluating import Broken, Evaluating
from decision_service.shadow_policy.meters import ShadowMeters
from decision_service.shadow_policy.standing import Standing
from decision_service.shadow_policy.wire import LENGTHS, Told, unpack
from decision_service.telemetry.logs import start_logging

CLOSE_S: Final = 1.0
AT_ONCE: Final = 8  # decisions evaluated before the loop gets a turn
BUFFER_BYTES: Final = 1_048_576
LOWEST: Final = 19


def step_back() -> None:
    """Let everybody else go before."""
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    os.nice(LOWEST)


class ShadowProcess:
    """Reads, evaluates and answers the worker."""

    def __init__(self, settings: Settings, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert settings.runtime_dir is not None
        self._reader = reader
        self._writer = writer
        self._store = store_of(settings)
        self._meters = ShadowMeters(settings.runtime_dir)
        self._counting = Counting(self._store)
        self._evaluating = Evaluating(self._store, self._counting, self._meters)
        source = PolicySource(
            settings.shadow_rules or settings.rules, settings.shadow_models or settings.models, settings.time_zone,
            settings.reservation_timeout_ms,
        )  # fmt: skip
        follows = settings.shadow_rules is not None
        self._candidate = ShadowCandidate(source, self._store, self._tell_standing, follows_disk=follows)

    async def run(self) -> None:
        """Until the worker closes, or the shadow breaks."""
        await self._candidate.start()
        tasks = [asyncio.create_task(loop) for loop in (self._counting.work(), self._evaluating.work())]
        try:
            await self._read()
        except Broken as error:
            self._tell({"broken": error.kind, "why": error.why})
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._candidate.close()
            with suppress(StoreError, TimeoutError, ConnectionError):
                async with asyncio.timeout(CLOSE_S):
                    await self._writer.drain()
                    await self._evaluating.save()
                    await self._counting.flush()
            await self._store.close()
            self._writer.close()
            self._meters.close()

    async def _read(self) -> None:
        while True:
            text, logs = LENGTHS.unpack(await self._reader.readexactly(LENGTHS.size))
            told = unpack(await self._reader.readexactly(text), await self._reader.readexactly(logs))
            if isinstance(told, Told):
                self._evaluating.note(told)
                continue
            policy = self._candidate.policy
            if policy is None:  # dropped while these were on their way
                self._meters.count("dropped", len(told))
            else:
                for start in range(0, len(told), AT_ONCE):
                    self._evaluating.take(told[start : start + AT_ONCE], policy, self._candidate.plain_id)
                    await asyncio.sleep(0)
            self._tell({"done": len(told)})

    def _tell_standing(self, standing: Standing) -> None:
        self._evaluating.new_candidate()
        gc.collect()
        gc.freeze()
        self._tell({"stands": asdict(standing)})

    def _tell(self, what: dict[str, Any]) -> None:
        if self._writer.is_closing():  # what the worker still sent before it closed is evaluated all the same
            return
        text = orjson.dumps(what)
        self._writer.write(LENGTHS.pack(len(text), 0) + text)


async def _run(settings: Settings, descriptor: int) -> None:
    ours = socket.socket(fileno=descriptor)
    ours.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours, limit=BUFFER_BYTES)
    await ShadowProcess(settings, reader, writer).run()


def main() -> int:
    """The whole life of the process; the exit status."""
    guard_process()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    step_back()
    settings = load_settings()
    assert settings.runtime_dir is not None, "the worker says where"
    listener = start_logging(settings.log_level, settings.log_json)
    try:
        uvloop.run(_run(settings, int(sys.argv[1])))
    finally:
        listener.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

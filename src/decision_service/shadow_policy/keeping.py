"""Keeping: the shadow process of a worker, from its start to its end, and the circuit that switches it off.

    wanted (a directory is set, or a policy is published to be in shadow)?  no: no process
      yes ──▶ starting ──it stands──▶ shadowing (fed) / refused (not fed; it waits for other files)
                 ▲                        │
                 └── after a pause ── broken: it ended, hung, is slow, or fails on what it is given

A pause is PAUSE_S, twice as long each time up to PAUSE_MAX_S, and back to PAUSE_S once a process has done well for so
long. Whatever happens to the process, decisions go on: `put` appends to a queue or does nothing.

The process gets the settings by its environment, as workers do, and one end of a socket pair; a thread starts it,
for starting a process from a large one takes a while.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import orjson

from decision_service.core.decision import Decision
from decision_service.core.errors import StoreError
from decision_service.core.policy import Policy
from decision_service.core.request import DecisionRequest
from decision_service.core.state import CustomerState
from decision_service.settings import Settings, environment_name
from decision_service.shadow_policy.feeding import Feed
from decision_service.shadow_policy.meters import ShadowMeters
from decision_service.shadow_policy.standing import Standing
from decision_service.shadow_policy.wire import LENGTHS
from decision_service.store import Store

LOG = logging.getLogger("decision_service.shadow")
POLL_S: Final = 1.0
STORE_TIMEOUT_S: Final = 2.0
STARTING_MAX_S: Final = 600.0  # a fresh machine compiles kernels, at the lowest priority
STALLED_S: Final = 30.0  # with something to do and nothing done
PAUSE_S: Final = 60.0
PAUSE_MAX_S: Final = 960.0
CLOSE_S: Final = 2.0  # for what it has still to keep
SEND_BUFFER_BYTES: Final = 1_048_576
COMMAND: Final = (sys.executable, "-m", "decision_service.shadow_policy.process")


class ShadowPolicy:
    """The shadow policy of one worker."""

    def __init__(
        self, settings: Settings, store: Store, meters: ShadowMeters, command: tuple[str, ...] = COMMAND
    ) -> None:
        """`command` is given the descriptor of its socket as one argument more."""
        self.standing = Standing()
        self._settings = settings
        self._store = store
        self.meters = meters
        self._command = command
        self._feed: Feed | None = None
        self._open = False  # whether decisions are taken
        self._child: _Child | None = None
        self._number = 0  # what is published
        self._pause_s, self._again_at = PAUSE_S, 0.0
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def put(self, request: DecisionRequest, state: CustomerState, decision: Decision, policy: Policy) -> None:
        """Hand on a decision that was committed. Waits for nothing and raises nothing."""
        if self._open and self._feed is not None:
            self._feed.put(request, state, decision, policy)

    def start(self) -> None:
        """Begin to keep a process as long as one is wanted."""
        self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        """End the process; it has CLOSE_S to keep what it has."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._end(Standing())

    async def _work(self) -> None:
        while True:
            try:
                await self._look()
            except Exception:  # nothing that goes wrong here may end the keeping
                LOG.exception("could not look after the shadow policy")
            await asyncio.sleep(POLL_S)

    async def _look(self) -> None:
        with suppress(StoreError):
            number = (await self._store.read_fleet(STORE_TIMEOUT_S)).shadow
            if number != self._number:
                self._number, self._again_at = number, 0.0  # another policy need not wait for the one that broke
        child = self._child
        if self._settings.shadow_rules is None and not self._number:
            if child is not None or self.standing.state != "off":
                await self._end(Standing())
            return
        if child is None:
            if monotonic() >= self._again_at:
                await self._begin()
            return
        lasted_s = monotonic() - child.began_at
        if child.broken is not None:
            await self._break(*child.broken)
        elif child.feed.stalled_s > STALLED_S:
            await self._break("hung", f"had decisions to evaluate and finished none for {STALLED_S:g} s")
        elif self.standing.state == "starting" and lasted_s > STARTING_MAX_S:
            await self._break("hung", f"was not ready after {STARTING_MAX_S:g} s")
        elif lasted_s > self._pause_s:
            self._pause_s = PAUSE_S

    async def _begin(self) -> None:
        self.standing = Standing("starting")
        runtime = {environment_name("runtime_dir"): str(self.meters.directory)}
        environment = {**os.environ, **self._settings.environment(), **runtime}
        self._child = child = await _Child.started(self._command, environment, self.meters, self._stands)
        self._feed = child.feed

    def _stands(self, standing: Standing) -> None:
        self.standing = standing
        self._open = standing.state == "shadowing"
        self.meters.set_running(self._open)

    async def _break(self, kind: str, why: str) -> None:
        """Open the circuit."""
        self.meters.count_break(kind)
        LOG.error("the shadow policy is switched off for %g s: %s, %s", self._pause_s, kind, why)
        self._again_at = monotonic() + self._pause_s
        was, problem = self.standing, f"{kind}: {why}"
        await self._end(Standing("broken", was.policy_id, was.label, was.source, was.number, problem), kill=True)
        self._pause_s = min(2 * self._pause_s, PAUSE_MAX_S)

    async def _end(self, standing: Standing, *, kill: bool = False) -> None:
        child, self._child, self._feed = self._child, None, None
        self._stands(standing)
        if child is not None:
            self._ending = asyncio.create_task(child.end(kill=kill))
        if self._ending is not None:
            await asyncio.shield(self._ending)  # a worker that closes meanwhile waits for it, too


class _Child:
    """A process with its connection."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
        meters: ShadowMeters, stands: Callable[[Standing], None],
    ) -> None:  # fmt: skip
        self.began_at = monotonic()
        self.broken: tuple[str, str] | None = None
        self.feed = Feed(writer, meters)
        self._process = process
        self._reader = reader
        self._writer = writer
        self._stands = stands
        self._tasks = [asyncio.create_task(loop) for loop in (self._listen(), self.feed.work())]

    @classmethod
    async def started(
        cls,
        command: tuple[str, ...],
        environment: dict[str, str],
        meters: ShadowMeters,
        stands: Callable[[Standing], None],
    ) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            ours.setblocking(False)
            number = theirs.fileno()
            process = await asyncio.to_thread(
                subprocess.Popen, (*command, str(number)), env=environment, pass_fds=(number,),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer, meters, stands)

    async def _listen(self) -> None:
        try:
            while True:
                text, _ = LENGTHS.unpack(await self._reader.readexactly(LENGTHS.size))
                self._take(orjson.loads(await self._reader.readexactly(text)))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.broken = self.broken or ("ended", "its process ended")
            self._stands(Standing("broken", problem="its process ended"))

    def _take(self, told: dict[str, Any]) -> None:
        if "done" in told:
            self.feed.done(told["done"])
        elif "stands" in told:
            stands = told["stands"]
            self._stands(Standing(**stands | {"diagnostics": tuple(stands["diagnostics"])}))
        elif "broken" in told:
            self.broken = told["broken"], told["why"]

    async def end(self, *, kill: bool) -> None:
        """Close the connection, and see that the process ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.feed.shut()
        self._writer.close()
        if kill:
            self._writer.transport.abort()
            self._process.kill()
        await asyncio.to_thread(self._wait)
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def _wait(self) -> None:
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

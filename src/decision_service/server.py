"""Running the service: one socket, one or many workers, an embedded store if none is named, and orderly ends.

    parent   checks the settings, opens the socket, starts the embedded store, keeps the workers alive, passes SIGHUP
             on to them, and stops everything on SIGTERM or SIGINT: workers first, the store last
    archive  a consumer of the decision log beside them (`archive/child.py`), stopped after the workers
    worker   uvicorn with uvloop and httptools around the `Gate`; SIGHUP reloads the policy

With one worker the parent is the worker. Workers read their settings from the environment that the parent leaves them.
SIGTERM drains: no connection is accepted any more, what is in flight finishes within `drain_timeout_ms`, the exit
status is 0. A worker whose parent is gone stops by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from decision_service.admission import Rank
from decision_service.api.access import open_access
from decision_service.api.connection import GuardedConnection
from decision_service.api.connections import raise_descriptor_limit
from decision_service.api.gate import Gate
from decision_service.api.handlers import Desk
from decision_service.api.rate import preview_limit
from decision_service.api.routes import LABELS
from decision_service.archive.child import consumer_beside
from decision_service.archive.meters import families as archive_families
from decision_service.archive.opening import archive_url_of
from decision_service.bootstrap import running_service
from decision_service.core.errors import SettingInvalid
from decision_service.guarded_process import guard_process
from decision_service.settings import Settings, load_settings
from decision_service.store.embedded import EmbeddedServer
from decision_service.telemetry import Meters
from decision_service.telemetry.logs import start_logging
from decision_service.telemetry.loop_watch import watched_loop

LOG = logging.getLogger("decision_service.server")
PARENT_VARIABLE: Final = "DS_PARENT_PID"
READY_TIMEOUT_S: Final = 600.0  # several workers of a fresh machine compile the kernel at once
PARENT_POLL_S: Final = 1.0
READY_PAUSE_S: Final = 0.05  # between asking workers that start whether they are ready
SUPERVISE_S: Final = 0.25
RESTART_S: Final = 1.0  # between attempts at a worker that cannot start
STARTUP_FAILED: Final = 3
BACKLOG: Final = 2_048
FOLD_BEATS: Final = 25  # of the loop's watch: half a second
SEND_BUFFER_BYTES: Final = 131_072  # a caller that does not read fills so much of the kernel's memory, not megabytes


def serve(settings: Settings, say: Callable[[str], None]) -> int:
    """Serve until a signal says stop; the exit status. `say` prints the one line that tells the address.

    Raises SettingInvalid, StoreError, PolicyRejected, ScorecardRejected if it cannot start.
    """
    guard_process()
    open_access(settings)  # wrong keys must stop the parent, not one worker after the other
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a policy to reload
    listener = start_logging(settings.log_level, settings.log_json)
    try:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(open_socket(settings))]
            runtime_dir = settings.runtime_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            runtime_dir.mkdir(parents=True, exist_ok=True)
            url = settings.store_url or stack.enter_context(embedded_store(settings))
            said = address_line(settings, sockets[0])
            known = {"redis_url": url, "runtime_dir": runtime_dir, "archive_url": archive_url_of(settings)}
            own = load_settings(**{**settings.model_dump(), **known})
            if archives(settings):
                stack.enter_context(consumer_beside(own))
            if settings.workers == 1:
                return _serve_here(own, sockets, lambda: say(said))
            return _serve_many(own, sockets, lambda: say(said))
    finally:
        listener.stop()


def archives(settings: Settings) -> bool:
    """Whether a consumer of the archive runs beside the workers."""
    if settings.archive_in_service is None:
        return settings.redis_url is None
    return settings.archive_in_service and settings.store_url != "memory://"


def open_socket(settings: Settings) -> socket.socket:
    """The listening socket. SettingInvalid if the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # connections inherit it
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise SettingInvalid(
            "DECISION_SERVICE_PORT", f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from None
    listening.listen(BACKLOG)
    listening.set_inheritable(True)
    return listening


@contextlib.contextmanager
def embedded_store(settings: Settings) -> Iterator[str]:
    """The URL of a private store that lives as long as the block. SettingInvalid if its directory cannot be made."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingInvalid(
            "DECISION_SERVICE_DATA_DIR", f"cannot make the directory {settings.data_dir}: {error.strerror}"
        ) from None
    fsync = "everysec" if settings.durability == "fast" else "always"
    with EmbeddedServer(settings.data_dir, fsync=fsync) as server:  # type: ignore[arg-type]
        server.keep_alive()
        yield server.url


def address_line(settings: Settings, listening: socket.socket) -> str:
    """The one line a person reads."""
    port = listening.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    store = "embedded store in " + str(settings.data_dir) if settings.redis_url is None else "external store"
    workers = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    return f"serving on http://{host}:{port} ({workers}, {store}); docs on http://{host}:{port}/docs"


# --- one worker -------------------------------------------------------------------------------------------------


def gate_of(settings: Settings) -> Gate:
    """A worker's ASGI application."""
    assert settings.runtime_dir is not None
    meters = Meters(settings.runtime_dir, LABELS)
    meters.also_told.append(partial(archive_families, settings.runtime_dir))

    @contextlib.asynccontextmanager
    async def open_desk() -> AsyncIterator[Desk]:
        async with running_service(settings, meters) as running:
            previews = preview_limit(settings.previews_per_hour, settings.authenticated)
            desk = Desk(
                running.decisions, running.customers, settings, meters, running.decisions.now_ms, previews=previews,
                accesses=running.accesses, searches=running.searches,
            )  # fmt: skip
            with _reloading_on_hangup(desk), _stopping_with_parent(), watched_loop(on_beat, meters.count_loop_block):
                yield desk

    beats = count(1)

    def on_beat(lag_s: float, wanted_s: float) -> None:
        gate.admission.measure(wanted_s)
        meters.set_load(lag_s, gate.admission.costs_s[Rank.DRAW])
        if next(beats) % FOLD_BEATS == 0:
            meters.fold()

    raise_descriptor_limit()
    gate = Gate(settings, open_access(settings), meters, open_desk)
    return gate


def worker_gate() -> Gate:
    """The application of a worker process, from its environment (uvicorn calls this)."""
    guard_process()
    settings = load_settings()
    start_logging(settings.log_level, settings.log_json)
    return gate_of(settings)


@contextlib.contextmanager
def _reloading_on_hangup(desk: Desk) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[Any]] = set()

    def reload() -> None:
        task = loop.create_task(desk.customers.active.reload())
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the default would end a process that is draining


@contextlib.contextmanager
def _stopping_with_parent() -> Iterator[None]:
    """A worker that outlives its parent would keep the port: it ends itself."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:
        yield
        return

    def watch() -> None:
        if os.getppid() != int(parent):
            signal.raise_signal(signal.SIGTERM)
            return
        handles[0] = loop.call_later(PARENT_POLL_S, watch)

    loop = asyncio.get_running_loop()
    handles: list[asyncio.Handle] = [loop.call_soon(watch)]
    try:
        yield
    finally:
        handles[0].cancel()


class SpeakingServer(uvicorn.Server):
    """uvicorn's server, telling when it is up."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._tell_started()


def _config(app: Any, settings: Settings, *, factory: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app, factory=factory, loop="uvloop", http=GuardedConnection, ws="none", interface="asgi3", lifespan="on",
        log_config=None, access_log=False, server_header=False, proxy_headers=False, backlog=BACKLOG,
        workers=settings.workers, timeout_keep_alive=settings.keep_alive_ms // 1000,
        timeout_graceful_shutdown=max(1, settings.drain_timeout_ms // 1000),
    )  # fmt: skip


def _serve_here(settings: Settings, sockets: list[socket.socket], started: Callable[[], None]) -> int:
    gate = gate_of(settings)
    server = SpeakingServer(_config(gate, settings, factory=False), started)
    with _signals_obeyed_once(server):
        try:
            server.run(sockets)
        except SystemExit:
            if gate.startup_error is not None:
                raise gate.startup_error from None
            raise
    return 0


@contextlib.contextmanager
def _signals_obeyed_once(server: uvicorn.Server) -> Iterator[None]:
    """uvicorn raises the signal that stopped it once more when it is done, which would end the process before the
    store is stopped; a signal that comes before uvicorn listens to any stops it as well."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- many workers -----------------------------------------------------------------------------------------------


class Workers(Multiprocess):
    """uvicorn's supervisor; a hangup reloads the policy instead of restarting everything."""

    stopped = False  # whether a signal asked for the end

    def handle_term(self) -> None:
        """Stop."""
        self.stopped = True
        super().handle_term()

    def handle_int(self) -> None:
        """Stop."""
        self.stopped = True
        super().handle_int()

    def handle_hup(self) -> None:
        """Pass the signal on to workers that listen to it; one that is starting reads the newest files anyway."""
        for process in self.processes:
            if process.pid is not None and process.is_ready(timeout=SUPERVISE_S):
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        """Replace workers that ended. One that cannot start now (the files on disk do not compile) is tried again and
        again; uvicorn would stop those that serve as well."""
        super().keep_subprocess_alive()
        if self.stopped or not self.should_exit.is_set():
            return
        self.should_exit.clear()
        LOG.error("a worker could not start; the others go on, and it is tried again")
        time.sleep(RESTART_S)
        for i, process in enumerate(self.processes):
            if process.exitcode == STARTUP_FAILED:
                self.replace(i)

    def replace(self, position: int) -> None:
        """Start a new worker in the place of one that ended."""
        self.processes[position] = Process(self.config, self.sockets)
        self.processes[position].start()


def _serve_many(settings: Settings, sockets: list[socket.socket], started: Callable[[], None]) -> int:
    os.environ.update(settings.environment())
    os.environ[PARENT_VARIABLE] = str(os.getpid())
    config = _config("decision_service.server:worker_gate", settings, factory=True)
    workers = Workers(config, sockets)
    workers.init_processes()
    failed = not _all_ready(workers)
    if not failed:
        started()
        while not workers.should_exit.wait(SUPERVISE_S):
            workers.handle_signals()
            workers.keep_subprocess_alive()
    workers.terminate_all()
    workers.join_all()
    return 0 if workers.stopped else STARTUP_FAILED


def _all_ready(workers: Workers) -> bool:
    """Wait until every worker serves; False if one cannot start, or a signal says stop. One that is killed meanwhile is
    replaced, as it would be later."""
    until = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < until:
        workers.handle_signals()
        if workers.should_exit.is_set():
            return False
        for i, process in enumerate(workers.processes):
            if not process.process.is_alive():
                if process.exitcode == STARTUP_FAILED:
                    return False
                workers.replace(i)
        if all(process.is_ready(timeout=SUPERVISE_S) for process in workers.processes):
            return True
        workers.should_exit.wait(READY_PAUSE_S)  # one that is not ready says so at once: asking on would take its core
    return False

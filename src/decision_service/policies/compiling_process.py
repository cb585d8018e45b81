"""The process that compiles for this worker, seen from the worker: how it is started, asked, and ends.

Compiling takes hundreds of milliseconds of the interpreter, which the event loop shares with every thread of a worker;
so another process (`compiling`) does it, and a thread of the worker unpacks what came out (`parcel`).

    none yet      START_S after the worker's start, for whoever starts has better things to do; and if it cannot be
                  started at all. A thread of the worker compiles then
    ready         asked; one task at a time
    ended         in the middle of a task, or silent for TASK_S: started anew and asked once more. Twice: the task is
                  refused, for what ends one process would end the worker as well

A worker has one of its own: 45 MB of its own memory as it waits, 90 when it has compiled the shipped policy. Standard
error is the worker's. It gets the variables of ENVIRONMENT and no other (the worker's hold secrets).
"""

from __future__ import annotations

import logging
import os
import pickle
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final

from decision_service.core.errors import PolicyRejected, ScorecardRejected
from decision_service.core.policy import POLICY_FILE
from decision_service.core.source import Diagnostic, Place
from decision_service.interpreter import beside_the_loop
from decision_service.policies.bundle import Content
from decision_service.policies.compiling import DONE, LENGTH_BYTES, REFUSED, Host, Task
from decision_service.policies.parcel import pack, unpack
from decision_service.policies.signatures import NOBODY_ASKED, SignatureRule
from decision_service.policies.source import Candidate, NotAtRest, PolicySource, Signature
from decision_service.scorecards.files import cards_in_use, identity_of

LOG = logging.getLogger("decision_service.policy")
START_S: Final = 10.0
READY_S: Final = 60.0  # to come up: a second on a machine with nothing else to do
TASK_S: Final = 300.0  # of every scorecard of a policy the trial may take 30
ENVIRONMENT: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
)  # fmt: skip
PREFIXES: Final = ("PYTHON", "NUMBA_")
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_COMMAND: Final = (sys.executable, "-P", "-m", "decision_service.policies.compiling")
_ERRORS: Final[Mapping[str, type[Exception]]] = {
    "PolicyRejected": PolicyRejected, "ScorecardRejected": ScorecardRejected, "NotAtRest": NotAtRest,
}  # fmt: skip
ATTEMPTS: Final = 2
_PIECE: Final = 1_048_576


class Ended(Exception):
    """The process ended, or said nothing for too long."""


class CompilingProcess:
    """A source whose work is done by another process once that is `ready`; by the thread that calls, until then.

    It has the methods of `PolicySource`, and raises what they raise. Call from threads; they wait for each other.
    """

    def __init__(self, source: PolicySource, command: Sequence[str] = _COMMAND) -> None:
        self._source = source
        self._unsigned = replace(source, signatures=NOBODY_ASKED)  # signatures are checked here, before
        self._command = command
        self._lock = threading.Lock()
        self._started: subprocess.Popen[bytes] | None = None
        self._child: subprocess.Popen[bytes] | None = None  # the same, once it is ready
        self._closed = False

    # --- its life -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether it has come up."""
        return self._child is not None

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return 0 if self._child is None else self._child.pid

    def start(self) -> None:
        """Start it and wait until it is ready; a process that cannot be started is told and done without."""
        with self._lock:
            if self._child is None and not self._closed:
                self._start()

    def _start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if name in ENVIRONMENT or name.startswith(PREFIXES)}
        try:
            child = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, process_group=0,
                env=kept | _ONE_THREAD,
            )  # fmt: skip
        except OSError as error:
            LOG.warning("no process that compiles policies: %s", error.strerror)
            return
        self._started = child
        if self._closed:
            self._kill()
        try:
            _talk(child, pickle.dumps(Host(self._unsigned, pack(cards_in_use(), ()))), READY_S)
        except Ended as error:
            self._end()
            LOG.warning("no process that compiles policies: %s", error)
        else:
            self._child = child

    def close(self) -> None:
        """End it, whatever it is doing; whoever waits for it does the work himself."""
        self._closed = True
        self._kill()
        with self._lock:
            self._end()

    def _end(self) -> None:
        """Kill it, with what it may have started, and forget it. Hold the lock."""
        self._kill()
        child, self._started, self._child = self._started, None, None
        if child is not None:
            for pipe in (child.stdin, child.stdout):
                assert pipe is not None
                pipe.close()
            child.wait()

    def _kill(self) -> None:
        if self._started is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._started.pid, signal.SIGKILL)

    # --- what a source does -------------------------------------------------------------------------------------

    @property
    def rules(self) -> Path:
        """The folder of the policy files."""
        return self._source.rules

    @property
    def models(self) -> Path:
        """The folder of the scorecards."""
        return self._source.models

    @property
    def signatures(self) -> SignatureRule:
        """Who must have signed."""
        return self._source.signatures

    def signature(self) -> Signature:
        """Changes whenever a file below the directories does."""
        return self._source.signature()

    def read(self) -> Content:
        """As `PolicySource.read`."""
        content: Content = self._done("read")
        return content

    def read_when_at_rest(self) -> Content:
        """As `PolicySource.read_when_at_rest`."""
        content: Content = self._done("read_when_at_rest")
        return content

    def with_files(self, files: Mapping[str, str]) -> Content:
        """As `PolicySource.with_files`."""
        content: Content = self._done("with_files", dict(files))
        return content

    def check(self, files: Mapping[str, str]) -> list[Diagnostic]:
        """As `PolicySource.check`."""
        found: list[Diagnostic] = self._done("check", dict(files))
        return found

    def compile(self, content: Content, *, signed: bool = True) -> Candidate:
        """As `PolicySource.compile`."""
        if not self.ready:
            return self._source.compile(content, signed=signed)
        if signed:
            self._source.signatures.check(content)  # the process knows no signers
        candidate: Candidate = self._done("compile", replace(content, loaded=()))
        return replace(candidate, content=content)

    # --- asking -------------------------------------------------------------------------------------------------

    def _done(self, method: str, *arguments: Any) -> Any:
        """What the process makes of a task; or this thread, if there is none or it is just starting."""
        if not self.ready:
            return getattr(self._unsigned, method)(*arguments)
        with self._lock:
            for _ in range(ATTEMPTS):
                if self._child is None:
                    break
                held = {identity_of(card): card for card in cards_in_use()}  # and keep them for as long as it takes
                try:
                    return self._asked(self._child, Task(method, arguments, tuple(held)))
                except Ended as error:
                    LOG.error("the process that compiles policies ended: %s", error)
                    self._end()
                    if not self._closed:
                        self._start()
            else:
                problem = "the process that compiles policies ended in the middle of it, twice"
                raise PolicyRejected([Diagnostic(Place(POLICY_FILE, 1, 1), problem)])
        return getattr(self._unsigned, method)(*arguments)

    def _asked(self, child: subprocess.Popen[bytes], task: Task) -> Any:
        """The answer of the process. Ended; what a source raises."""
        sort, told = pickle.loads(_talk(child, pickle.dumps(task), TASK_S))
        if sort == DONE:
            with beside_the_loop():
                return unpack(told)
        if sort == REFUSED:
            name, values = told
            raise _ERRORS[name](*values)
        LOG.error("the process that compiles policies failed: %s", told)
        return getattr(self._unsigned, task.method)(*task.arguments)


def _talk(child: subprocess.Popen[bytes], piece: bytes, within_s: float) -> bytes:
    """Send a piece, and the piece that is answered. Ended."""
    assert child.stdin is not None
    assert child.stdout is not None
    until = time.monotonic() + within_s
    try:
        os.set_blocking(child.stdin.fileno(), False)
        _write(child.stdin, len(piece).to_bytes(LENGTH_BYTES, "little") + piece, until)
        size = int.from_bytes(_read(child.stdout, LENGTH_BYTES, until), "little")
        return _read(child.stdout, size, until)
    except (OSError, ValueError) as error:  # a pipe that was closed has no number
        raise Ended(str(error)) from None


def _write(pipe: IO[bytes], piece: bytes, until: float) -> None:
    left = memoryview(piece)
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_WRITE)
        while left:
            _wait(selector, until)
            left = left[os.write(pipe.fileno(), left[:_PIECE]) :]


def _read(pipe: IO[bytes], size: int, until: float) -> bytes:
    pieces, left = [], size
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while left:
            _wait(selector, until)
            piece = os.read(pipe.fileno(), min(left, _PIECE))
            if not piece:
                raise Ended("its output was closed")
            pieces.append(piece)
            left -= len(piece)
    return b"".join(pieces)


def _wait(selector: selectors.BaseSelector, until: float) -> None:
    if not selector.select(max(0.0, until - time.monotonic())):
        raise Ended("it said nothing for too long")

"""The process of a trial load, seen from the service: what goes in, what may come out, and how it ends.

`trial` runs in it and is not trusted: it gives a model's bytes to a native library that crashes, hangs or
worse on what it does not expect. So here is bounded whatever it could do to the service:

  * it crashes, or is killed by its own limits of CPU and memory: a message;
  * it hangs: after TRIAL_TIMEOUT_S its whole process group is killed;
  * it floods standard output or error: of the answer at most ANSWER_BYTES_MAX are read, then the group is killed; of
    the rest the last SAID_BYTES_MAX are kept for the message;
  * it answers nonsense: an answer of another shape than was asked for is refused;
  * it looks around: it gets ENVIRONMENT and no other variable (the service's hold secrets), and no open file.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from decision_service.core.errors import ScorecardRejected
from decision_service.core.scorecards.manifest import GoldenRow

TRIAL_TIMEOUT_S: Final = 30.0
ANSWER_BYTES_MAX: Final = 262_144  # a thousand margins are 25,000
SAID_BYTES_MAX: Final = 4_096
ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_COMMAND: Final = (sys.executable, "-P", "-B", "-m", "decision_service.scorecards.trial")
_PIECE: Final = 65_536
_POLL_S: Final = 0.001


def trial(
    path: Path, model_text: bytes, n_features: int, golden: Sequence[GoldenRow], *,
    command: Sequence[str] = _COMMAND, timeout_s: float = TRIAL_TIMEOUT_S,
) -> dict[str, Any]:  # fmt: skip
    """Load the model and score golden rows in a subprocess: `margins` (None for a number that is not finite) and
    `call_us`. Raises ScorecardRejected if it gives none. `path` is named in messages."""
    task = json.dumps({"n_features": n_features, "rows": [inputs_of(row) for row in golden]})
    with _Process(command) as process:
        try:
            process.talk(task.encode() + b"\n" + model_text, time.monotonic() + timeout_s)
        except TimeoutError:
            raise ScorecardRejected(str(path), f"trial load took over {timeout_s:g} s") from None
        except OverflowError:
            raise ScorecardRejected(str(path), f"trial load answered over {ANSWER_BYTES_MAX:,} bytes") from None
    if problem := process.problem:
        raise ScorecardRejected(str(path), problem)
    return _answer(path, process.answer, len(golden))


def inputs_of(row: GoldenRow) -> list[float | None]:
    """A golden row's inputs as JSON has them."""
    return [None if math.isnan(value) else value for value in row.inputs]


def _answer(path: Path, said: bytes, n_rows: int) -> dict[str, Any]:
    """The answer, of the shape that was asked for."""
    try:
        answer = json.loads(said)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("refused"), str):
        raise ScorecardRejected(str(path), f"LightGBM refused it: {answer['refused']}")
    if not isinstance(answer, dict) or not _is_margins(answer.get("margins"), n_rows):
        raise ScorecardRejected(str(path), "trial load gave no answer to what it was asked")
    if not _is_number(answer.get("call_us")):
        raise ScorecardRejected(str(path), "trial load did not say how long a score takes")
    return answer


def _is_margins(margins: object, n_rows: int) -> bool:
    if not isinstance(margins, list) or len(margins) != n_rows:
        return False
    return all(margin is None or _is_number(margin) for margin in margins)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class _Process:
    """The child, alone in its process group; gone when the block is left, with everything it may have started."""

    def __init__(self, command: Sequence[str]) -> None:
        kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            process_group=0, env=kept | _ONE_THREAD,  # no session of its own: Linux may let such a one starve
        )  # fmt: skip
        self.answer = b""
        self._said = b""

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()
        self._child.wait()

    @property
    def problem(self) -> str:
        """How it ended, if not well."""
        status = self._child.returncode
        if status < 0:
            return f"trial load crashed with {signal.Signals(-status).name}: the model is damaged"
        if status > 0:
            lines = (self._said.decode(errors="replace").strip() or "no message").splitlines()
            return f"trial load failed: {lines[-1]}"
        return ""

    def talk(self, given: bytes, until: float) -> None:
        """Write and read until both outputs are closed and it has ended. TimeoutError, OverflowError."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        left = memoryview(given)
        with selectors.DefaultSelector() as selector:
            os.set_blocking(self._child.stdin.fileno(), False)
            selector.register(self._child.stdin, selectors.EVENT_WRITE)
            selector.register(self._child.stdout, selectors.EVENT_READ)
            selector.register(self._child.stderr, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(0.0, until - time.monotonic()))
                if not ready or time.monotonic() > until:
                    raise TimeoutError
                for key, _ in ready:
                    if key.fileobj is self._child.stdin:
                        left = self._write(left)
                        done = not left
                    else:
                        done = not self._read(key.fd, key.fileobj is self._child.stdout)
                    if done:
                        selector.unregister(key.fileobj)
                        cast("BinaryIO", key.fileobj).close()  # of its input: that is how it sees the end
        self._wait(until)

    def _write(self, left: memoryview) -> memoryview:
        """Write what goes in; what is left."""
        assert self._child.stdin
        try:
            left = left[os.write(self._child.stdin.fileno(), left[:_PIECE]) :]
        except BrokenPipeError:  # it ended early: its status says why
            left = left[:0]
        return left

    def _read(self, descriptor: int, is_answer: bool) -> bytes:
        piece = os.read(descriptor, _PIECE)
        if is_answer:
            self.answer += piece
            if len(self.answer) > ANSWER_BYTES_MAX:
                raise OverflowError
        else:
            self._said = (self._said + piece)[-SAID_BYTES_MAX:]
        return piece

    def _wait(self, until: float) -> None:
        """Until it has ended, without forgetting it: its group's number stays its own until it is killed."""
        while os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() > until:
                raise TimeoutError
            time.sleep(_POLL_S)

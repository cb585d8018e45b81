"""The process that compiles for a worker: `python -m decision_service.policies.compiling`.

It does what a `PolicySource` does, one task after another, and remembers between two tasks what it read and loaded, so
that a reload parses the one file that changed. Its talk is in pickles, each behind its length (u64,
little endian), on its own standard input and output:

    worker   Host                  ─▶   the source, and a parcel of the scorecards that the worker has tried already
             ◀─  "ready"
    worker   Task                  ─▶   which method, with what, and the scorecards that the worker holds
             ◀─  ("done", parcel)  |  ("refused", error as plain values)  |  ("failed", traceback)

It ends when its input does. It is nicer than a worker (NICER): a policy may wait for a core, a decision may not.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Collection
from dataclasses import replace
from typing import Any, BinaryIO, Final, NamedTuple

from decision_service.core.errors import PolicyRejected, ScorecardRejected
from decision_service.policies.bundle import Content
from decision_service.policies.parcel import pack, unpack, without_nodes
from decision_service.policies.source import Candidate, NotAtRest, PolicySource
from decision_service.scorecards.files import Identity

NICER: Final = 3
LENGTH_BYTES: Final = 8
READY: Final = "ready"
DONE, REFUSED, FAILED = "done", "refused", "failed"
NOTHING: Final = Content({}, ())  # instead of the content that the worker sent


class Host(NamedTuple):
    """What a worker compiles for, and the scorecards that it holds, packed."""

    source: PolicySource
    cards: bytes


class Task(NamedTuple):
    """A method of the source, its arguments, and the scorecards that the worker holds."""

    method: str
    arguments: tuple[Any, ...]
    held: Collection[Identity] = ()


def write_piece(file: BinaryIO, piece: bytes) -> None:
    """Send some bytes behind their length."""
    file.write(len(piece).to_bytes(LENGTH_BYTES, "little"))
    file.write(piece)
    file.flush()


def error_values(error: PolicyRejected | ScorecardRejected | NotAtRest) -> tuple[str, tuple[Any, ...]]:
    """An error that a source raises, by its name and its arguments."""
    match error:
        case PolicyRejected():
            return "PolicyRejected", (error.diagnostics,)
        case ScorecardRejected():
            return "ScorecardRejected", (error.path, error.reason)
    return "NotAtRest", (error.name,)


class Compiler:
    """Does one task after another with a source. What came out last is kept, and before that what the worker holds: so
    no scorecard is tried again."""

    def __init__(self, host: Host) -> None:
        self._source = host.source
        self._kept: dict[str, object] = {"compile": unpack(host.cards)}

    def done(self, task: Task) -> tuple[str, Any]:
        """The answer to a task."""
        try:
            return DONE, self._parcel(task)
        except (PolicyRejected, ScorecardRejected, NotAtRest) as error:
            return REFUSED, error_values(error)
        except Exception:  # the worker does it itself, and meets the same
            return FAILED, traceback.format_exc()

    def _parcel(self, task: Task) -> bytes:
        found = getattr(self._source, task.method)(*task.arguments)
        self._kept[task.method] = found
        if isinstance(found, Candidate):
            found = replace(found, policy=without_nodes(found.policy, found.content.files), content=NOTHING)
        return pack(found, task.held)


def main() -> None:
    """Compile until standard input ends."""
    os.nice(NICER)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not answer
    asked = sys.stdin.buffer

    def next_piece() -> bytes:
        return asked.read(int.from_bytes(asked.read(LENGTH_BYTES), "little"))

    compiler = Compiler(pickle.loads(next_piece()))
    write_piece(answers, pickle.dumps((READY, None)))
    while piece := next_piece():
        write_piece(answers, pickle.dumps(compiler.done(pickle.loads(piece))))


if __name__ == "__main__":
    main()

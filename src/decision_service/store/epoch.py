"""Epoch: how a store that lost its history is told from a store that is new.

A customer that the store knows nothing of is either new or forgotten, and only one of the two may be lent to as if
nothing had been. So every store has an *epoch*, a random id of its history, in `ds:{meta}` and, as a *marker*, in every
partition; an unknown customer is believed to be new only where the partition's marker is there and is the epoch that
this worker knows. The store also counts a *beat* about once a second (`scripts/beat.lua`). Epoch and beat are
remembered in `<data_dir>/store.epoch`, so that also a restart tells:

    the store holds             this host remembers                 verdict
    ------------------------    --------------------------------    ------------------------------------------
    no epoch                    nothing of a store at this place    new, or older than epochs: it gets one
    no epoch                    a store at this place               lost: it was emptied
    an epoch                    it, a beat at most TAIL_BEATS on    the same; the tail it forgot is told
    an epoch                    it, a later beat                    lost: it was set back to an earlier state
    an epoch                    another at this place               lost: it is another store
    an epoch that follows one   the one it follows                  accepted by an operator: the same from here on
    an epoch                    nothing of it or of this place      met for the first time

A *place* is where the store's URL points to without credentials; the embedded store is one place whatever its socket.
A fail-over may forget the last moments before it (replication is asynchronous), hence TAIL_BEATS; what was forgotten is
found by `decision-service reconcile`, which also accepts a store (`Store.accept_history`) once it is repaired.

The file is JSON, `[[epoch, beat, place], ...]`, newest first, shared by the workers of a host: whoever writes it takes
over what others wrote. Without a data directory only the process remembers. The honest limit: a host that remembers
nothing and meets an empty store believes it to be new.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

import orjson

FILE_NAME: Final = "store.epoch"
BEAT_S: Final = 1.0
TAIL_BEATS: Final = 5
REMEMBERED_MAX: Final = 16  # stores that a host remembers

PARTITIONS_FIELD: Final = b"partitions"
EPOCH_FIELD: Final = b"epoch"
BEAT_FIELD: Final = b"beat"
MARKED_FIELD: Final = b"marked"  # the epoch that stands in every partition's marker
AFTER_FIELD: Final = b"after:"  # and an epoch that the present one was accepted to follow


class Remembered(NamedTuple):
    """What a host knows of a store."""

    epoch: str
    beat: int
    place: str


class Told(NamedTuple):
    """What a store says of its history."""

    epoch: str | None
    beat: int
    follows: frozenset[str]


class Verdict(NamedTuple):
    """Why the store must not be used, "" if it may; and how many beats of its tail it forgot."""

    problem: str
    forgotten: int = 0


def new_epoch() -> str:
    """A random id."""
    return secrets.token_hex(8)


def told_by(meta: Mapping[bytes, bytes]) -> Told:
    """What the fields of `ds:{meta}` say."""
    epoch = meta.get(EPOCH_FIELD)
    follows = (name.removeprefix(AFTER_FIELD).decode() for name in meta if name.startswith(AFTER_FIELD))
    return Told(None if epoch is None else epoch.decode(), int(meta.get(BEAT_FIELD, b"0")), frozenset(follows))


def place_name(*parts: object) -> str:
    """A short name of where a store is; it tells nothing."""
    return blake2b(repr(parts).encode(), digest_size=8).hexdigest()


class EpochMemory:
    """What this process remembers, and this host if there is a file."""

    def __init__(self, path: Path | None, place: str) -> None:
        self._path = path
        self._place = place
        self._kept: list[Remembered] = []

    @property
    def here(self) -> Remembered | None:
        """The store last used at this place."""
        self._load()
        return next((one for one in self._kept if one.place == self._place), None)

    def judge(self, told: Told) -> Verdict:
        """Whether the store is the one that is remembered; the table above."""
        here = self.here
        if told.epoch is None:
            return Verdict("" if here is None else "the store is empty though it was in use: it lost its history")
        known = next((one for one in self._kept if one.epoch == told.epoch), None)
        if known is not None:
            forgotten = max(known.beat - told.beat, 0)
            if forgotten > TAIL_BEATS:
                return Verdict(f"the store was set back by {forgotten} s or more: it lost its history")
            return Verdict("", forgotten)
        if here is not None and here.epoch not in told.follows:
            return Verdict("another store is where the one in use was: its history is missing")
        return Verdict("")

    def remember(self, epoch: str, beat: int) -> None:
        """The store here has this epoch and has come to this beat. What is on disk is never set back."""
        self._load()
        known = next((one for one in self._kept if one.epoch == epoch), None)
        if known is not None and known.place == self._place and known.beat >= beat:
            return
        self._keep(Remembered(epoch, max(beat, 0 if known is None else known.beat), self._place))

    def set_back(self, epoch: str, beat: int) -> None:
        """The store here has this epoch and beat whatever was remembered: its tail is known to be gone."""
        self._load()
        self._keep(Remembered(epoch, beat, self._place))

    def _keep(self, one: Remembered) -> None:
        others = [other for other in self._kept if other.epoch != one.epoch and other.place != self._place]
        self._kept = [one, *others][:REMEMBERED_MAX]
        self._save()

    def _load(self) -> None:
        if self._path is None:
            return
        with suppress(OSError, ValueError, TypeError):  # none yet, or one that somebody spoilt: as good as none
            found = [Remembered(str(e), int(b), str(p)) for e, b, p in orjson.loads(self._path.read_bytes())]
            self._kept = found

    def _save(self) -> None:
        """Replace the file. A host that cannot write it remembers less, and goes on."""
        if self._path is None:
            return
        partial = self._path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(orjson.dumps([list(one) for one in self._kept]))
            partial.replace(self._path)

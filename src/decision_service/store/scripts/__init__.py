"""The scripts that run inside Redis, loaded once; each file is headed by its keys, arguments, reply and cost.

A script is called by its SHA-1. Redis forgets scripts (restart, failover, SCRIPT FLUSH) and then answers
NOSCRIPT having run nothing, so the same call is sent once more with the source: one effect either way.

`{EMPTY_LOG}` in a script is the header of an event log without records, as the inside of a Lua string.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Final

from decision_service.core.event import EMPTY_LOG


@dataclass(frozen=True, slots=True)
class Script:
    """A script, its digest, by which Redis knows it, and whether it writes. `by_sha` and `by_source` are the first
    two words of a command that runs it, as bytes; either may stand in the place of the other."""

    source: bytes
    sha: bytes
    by_sha: bytes
    by_source: bytes
    writes: bool


_EMPTY_LOG: Final = b"".join(b"\\%03d" % byte for byte in EMPTY_LOG)


def _load(name: str, *, writes: bool) -> Script:
    source = (files(__package__) / f"{name}.lua").read_bytes().replace(b"{EMPTY_LOG}", _EMPTY_LOG)
    sha = sha1(source, usedforsecurity=False).hexdigest().encode()
    by_sha = b"$7\r\nEVALSHA\r\n$%d\r\n%b\r\n" % (len(sha), sha)
    return Script(source, sha, by_sha, b"$4\r\nEVAL\r\n$%d\r\n%b\r\n" % (len(source), source), writes)


BEAT: Final = _load("beat", writes=True)
READ: Final = _load("read", writes=False)
COMMIT: Final = _load("commit", writes=True)
LINK: Final = _load("link", writes=True)
LINKED: Final = _load("linked", writes=True)
SHADOW: Final = _load("shadow", writes=True)
LISTS: Final = _load("lists", writes=False)
CHANGE_LIST: Final = _load("change_list", writes=True)
ANNOUNCE: Final = _load("announce", writes=True)
PUBLISH: Final = _load("publish", writes=True)
PUBLISH_SHADOW: Final = _load("publish_shadow", writes=True)
TAKE_PLACE: Final = _load("take_place", writes=True)
LEAVE_PLACE: Final = _load("leave_place", writes=True)
ARCHIVED: Final = _load("archived", writes=True)
EXPIRE: Final = _load("expire", writes=True)
OUTBOX_STATE: Final = _load("outbox_state", writes=False)
TALLY: Final = _load("tally", writes=True)

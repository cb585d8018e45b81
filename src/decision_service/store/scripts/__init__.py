"""The scripts that run inside Redis, loaded once; each file is headed by its keys, arguments, reply and cost.

A script is called by its SHA-1. Redis forgets scripts (restart, failover, SCRIPT FLUSH) and then answers
NOSCRIPT having run nothing, so the same call is sent once more with the source: one effect either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """The source of a script, the digest Redis knows it by, and whether it writes."""

    source: bytes
    sha: bytes
    writes: bool


def _load(name: str, *, writes: bool) -> Script:
    source = (files(__package__) / f"{name}.lua").read_bytes()
    return Script(source, sha1(source, usedforsecurity=False).hexdigest().encode(), writes)


READ: Final = _load("read", writes=False)
COMMIT: Final = _load("commit", writes=True)
LISTS: Final = _load("lists", writes=False)
CHANGE_LIST: Final = _load("change_list", writes=True)
ANNOUNCE: Final = _load("announce", writes=True)

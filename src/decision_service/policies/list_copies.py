"""List copies: what stands on the lists of a policy, kept by content, though lists change thousands of times a day.

A list's digest is the SHA-256 of its values, sorted, as a JSON array. Under it is kept one document, JSON:

    {"values": ["c-1", ...]}                              the whole list
    {"base": <digest>, "added": [...], "removed": [...]}  how it differs from another

A copy of 100,000 values is 1 MB. So a worker writes a whole copy now and then and after it what differs from that one;
when the differences together have become as large as a copy, the next is whole again. That is the least there can be
without differences that rest on differences (one step back rebuilds any list): with F bytes a copy and d a change, a
change costs about sqrt(2 F d) on average: 10 kB instead of 1 MB before compression. A worker builds only on copies that
it wrote itself, so nothing can come to rest on itself. What has a document already gets no second one.

`look` costs about as much as telling whether the list changed at all (100,000 values: 10 ms): the values stay sorted.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import orjson

NOTHING: Final[frozenset[str]] = frozenset()
STEPS_MAX: Final = 64  # back to a whole copy; more than one only if workers wrote the same list at the same moment


class ListCopies:
    """One list of one worker, as it changes."""

    def __init__(self) -> None:
        self._values = NOTHING
        self._ordered: list[str] = []
        self._base = NOTHING
        self._base_digest = ""
        self._left = 0  # bytes of differences until a copy is due
        self.digest = digest_of(self._ordered)

    def look(self, values: frozenset[str]) -> str:
        """Take over what now stands on the list; its digest."""
        if values is not self._values and values != self._values:
            kept = [value for value in self._ordered if value in values]
            kept += values - self._values
            kept.sort()  # runs that are sorted already cost one comparison a value
            self._values, self._ordered = values, kept
            self.digest = digest_of(kept)
        return self.digest

    def document(self) -> bytes:
        """What is to be kept under the digest."""
        if self._left > 0:
            added, removed = sorted(self._values - self._base), sorted(self._base - self._values)
            told = orjson.dumps({"base": self._base_digest, "added": added, "removed": removed})
            self._left -= len(told)
            return told
        told = orjson.dumps({"values": self._ordered})
        self._base, self._base_digest, self._left = self._values, self.digest, len(told)
        return told

    def start_again(self) -> None:
        """What was kept is lost: the next document is whole."""
        self._left = 0


def digest_of(ordered: list[str]) -> str:
    """The digest of a list's values, which must be sorted."""
    return sha256(orjson.dumps(ordered)).hexdigest()


def rebuild(digest: str, read: Callable[[str], bytes | None]) -> frozenset[str]:
    """The values of the list with this digest. `read` gives the document kept under a digest. ValueError if a document
    is missing, damaged, or not of this list."""
    changes: list[tuple[frozenset[str], frozenset[str]]] = []
    at = digest
    for _ in range(STEPS_MAX):
        told = parts_of(at, read(at))
        if "values" in told:
            break
        changes.append((frozenset(told["added"]), frozenset(told["removed"])))
        at = told["base"]
    else:
        raise ValueError(f"list {digest}: no whole copy within {STEPS_MAX} steps")
    values = frozenset(told["values"])
    for added, removed in reversed(changes):
        values = (values - removed) | added
    if digest_of(sorted(values)) != digest:
        raise ValueError(f"list {digest}: what is kept is another list")
    return values


def parts_of(digest: str, document: bytes | None) -> dict[str, Any]:
    """A document taken apart. ValueError."""
    if not document:
        raise ValueError(f"list {digest} is not kept")
    told: dict[str, Any] = {}
    try:
        told = orjson.loads(document)
        whole = set(told) == {"values"}
        lists = [told["values"]] if whole else [told["added"], told["removed"], [told["base"]]]
        sound = all(isinstance(one, list) and all(type(value) is str for value in one) for one in lists)
    except (ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        raise ValueError(f"list {digest}: its document is damaged")
    return told

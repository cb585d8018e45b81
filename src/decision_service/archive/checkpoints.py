"""Checkpoints: signed notes of how far every place's chain had come, each naming the one before.

A chain alone shows that rows follow from one another; whoever may write the archive could forge it anew from some row
on. A checkpoint pins the chain: what was archived before it can no longer be exchanged without its signer's key.

    checkpoints/20261122T194706.123Z-1f0c9a3e.json      the instant, and the first four bytes of its SHA-256
        {"checkpoint": {
            "format":   "dsa-checkpoint-1",
            "at_ms":    when it was made (UTC),
            "by":       who made it,
            "previous": SHA-256 of the file of the checkpoint before, hexadecimal; "" for the first,
            "places":   {"0a3": [position, hash]}  how far each place is archived,
            "purged":   {"0a3": [position, hash]}  the last row that retention took away: the chain begins behind it,
            "payload":  {"0a3": position}          rows up to here may lack their personal part: its time is over,
            "kept":     {"policies/<id>.json": SHA-256}   what else was kept since the checkpoint before},
         "signer": name or null, "signature": base64 or null}

What is signed is MESSAGE and the SHA-256 of the canonical JSON (sorted keys) of "checkpoint", with the keys that
`rules keygen` makes (`policies/signers.py`). Without a key it is written unsigned and proves nothing but order.

  * `purged` and `payload` never fall and are carried from one to the next, so the newest tells all of them;
  * several makers may write at once: each merges what the newest tells with what it knows itself, and two may name the
    same one before. Taking away the newest checkpoints, with the rows behind the one before, shows in the store's heads
    and in copies kept elsewhere, and nowhere else: keep copies (docs/archive.md).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson
from cryptography.exceptions import InvalidSignature

from decision_service.archive.files import Archive
from decision_service.archive.segments import place_name, place_of
from decision_service.policies.signers import Signers, SigningKey, decoded

FOLDER: Final = "checkpoints"
FORMAT: Final = "dsa-checkpoint-1"
UNSIGNED: Final = "is not signed"
MESSAGE: Final = b"decision-service checkpoint 1\n"
_HASH_CHARS: Final = 64


class Link(NamedTuple):
    """A row of a place's chain: its position and its hash."""

    position: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says. Places are numbers; see the drawing above."""

    at_ms: int
    by: str
    previous: str = ""
    places: Mapping[int, Link] = field(default_factory=dict)
    purged: Mapping[int, Link] = field(default_factory=dict)
    payload: Mapping[int, int] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)

    def canonical(self) -> bytes:
        """The bytes that are signed."""
        return orjson.dumps(self._told(), option=orjson.OPT_SORT_KEYS)

    def _told(self) -> dict[str, Any]:
        return {
            "format": FORMAT, "at_ms": self.at_ms, "by": self.by, "previous": self.previous,
            "places": _links_told(self.places), "purged": _links_told(self.purged),
            "payload": {place_name(place): position for place, position in self.payload.items()},
            "kept": dict(self.kept),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A checkpoint's file."""

    name: str
    checkpoint: Checkpoint
    sha256: str
    signer: str | None = None
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class CheckpointDefect:
    """What is wrong with a checkpoint's file."""

    name: str
    what: str


def _links_told(links: Mapping[int, Link]) -> dict[str, Any]:
    return {place_name(place): [link.position, link.hash.hex()] for place, link in links.items()}


def signed_message(checkpoint: Checkpoint) -> bytes:
    """What a signature of a checkpoint is over."""
    return MESSAGE + sha256(checkpoint.canonical()).digest()


def encode(checkpoint: Checkpoint, key: SigningKey | None) -> bytes:
    """A checkpoint's file, signed if there is a key."""
    signature = None if key is None else base64.b64encode(key.key.sign(signed_message(checkpoint))).decode()
    told = {
        "checkpoint": orjson.Fragment(checkpoint.canonical()), "signer": None if key is None else key.name,
        "signature": signature,
    }  # fmt: skip
    return orjson.dumps(told) + b"\n"


def decode(name: str, file: bytes) -> KeptCheckpoint:
    """What a checkpoint's file says, its signature not looked at. ValueError for what is none."""
    try:
        told = orjson.loads(file)
        body = told["checkpoint"]
        if body["format"] != FORMAT:
            raise ValueError(f"format {body['format']!r} instead of {FORMAT!r}")
        checkpoint = Checkpoint(
            int(body["at_ms"]), str(body["by"]), str(body["previous"]), _links_in(body["places"]),
            _links_in(body["purged"]), {place_of(name): int(at) for name, at in body["payload"].items()},
            {str(path): str(digest) for path, digest in body["kept"].items()},
        )  # fmt: skip
        signer = None if told["signer"] is None else str(told["signer"])
        signature = decoded(told["signature"] or "")
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"{name} is no checkpoint: {error}") from None
    return KeptCheckpoint(name, checkpoint, sha256(file).hexdigest(), signer, signature)


def _links_in(told: Mapping[str, Any]) -> dict[int, Link]:
    links = {}
    for name, (position, digest) in told.items():
        if len(digest) != _HASH_CHARS:
            raise ValueError(f"place {name}: {digest!r} is no SHA-256")
        links[place_of(name)] = Link(int(position), bytes.fromhex(digest))
    return links


def read_checkpoints(archive: Archive) -> tuple[list[KeptCheckpoint], list[CheckpointDefect]]:
    """All checkpoints, oldest first, and what is none."""
    kept, defects = [], []
    for name in sorted(archive.names(FOLDER)):
        path = f"{FOLDER}/{name}"
        try:
            kept.append(decode(path, archive.read_bytes(path)))
        except ValueError as error:
            defects.append(CheckpointDefect(path, str(error)))
    return sorted(kept, key=_order), defects


def newest(archive: Archive) -> KeptCheckpoint | None:
    """The newest checkpoint that can be read."""
    for name in sorted(archive.names(FOLDER), reverse=True):
        path = f"{FOLDER}/{name}"
        try:
            return decode(path, archive.read_bytes(path))
        except ValueError:
            continue
    return None


def _order(kept: KeptCheckpoint) -> tuple[int, str]:
    return kept.checkpoint.at_ms, kept.name


def checked(
    checkpoints: Sequence[KeptCheckpoint], trusted: Signers | None
) -> tuple[list[KeptCheckpoint], list[CheckpointDefect]]:
    """The checkpoints that may be believed, and what is wrong with the others. `trusted` None: signatures are not
    looked at."""
    good, defects = [], []
    known = {kept.sha256 for kept in checkpoints}
    by_digest = {kept.sha256: kept for kept in checkpoints}
    for number, kept in enumerate(checkpoints):
        problem = _problem(kept, trusted)
        if problem is None:
            good.append(kept)
        else:
            defects.append(CheckpointDefect(kept.name, problem))
        previous = kept.checkpoint.previous
        if previous and previous not in known:
            defects.append(CheckpointDefect(kept.name, "the checkpoint before it is missing, or was changed"))
        elif not previous and number:
            defects.append(CheckpointDefect(kept.name, f"names no checkpoint before it, though {number} are older"))
        elif previous:
            defects += _fallen(kept, by_digest[previous])
    signed_over = _before(good, by_digest)
    return good, [one for one in defects if one.what != UNSIGNED or one.name not in signed_over]


def _before(good: Sequence[KeptCheckpoint], by_digest: Mapping[str, KeptCheckpoint]) -> set[str]:
    """The names of what trusted checkpoints name before them, also through others. An unsigned one there is not
    believed and no defect: the consumer has no key, and whoever has one signs on top (docs/archive.md). One that lets
    rows or payloads be gone is never passed over."""
    names: set[str] = set()
    seen: set[str] = set()
    for kept in reversed(good):
        one = by_digest.get(kept.checkpoint.previous)
        while one is not None and one.sha256 not in seen:
            seen.add(one.sha256)
            before = by_digest.get(one.checkpoint.previous)
            now, then = one.checkpoint, Checkpoint(0, "") if before is None else before.checkpoint
            if (now.purged, now.payload) == (then.purged, then.payload):
                names.add(one.name)
            one = before
    return names


def _problem(kept: KeptCheckpoint, trusted: Signers | None) -> str | None:
    """Why a checkpoint is not to be believed."""
    if kept.name != f"{FOLDER}/{file_name(kept.checkpoint.at_ms, kept.sha256)}":
        return "its name is not that of its instant and content: it was renamed, or changed"
    if trusted is None:
        return None
    if kept.signer is None:
        return UNSIGNED
    key = trusted.get(kept.signer)
    if key is None:
        return f"is signed by {kept.signer!r}, who is not trusted here"
    try:
        key.verify(kept.signature, signed_message(kept.checkpoint))
    except InvalidSignature:
        return f"was changed after {kept.signer!r} signed it, or was forged"
    return None


def _fallen(kept: KeptCheckpoint, before: KeptCheckpoint) -> Iterable[CheckpointDefect]:
    """Nothing that a checkpoint tells lies behind what the one before told."""
    now, then = kept.checkpoint, before.checkpoint
    told = (
        ("places", {p: link.position for p, link in now.places.items()}, then.places),
        ("purged", {p: link.position for p, link in now.purged.items()}, then.purged),
    )
    for what, positions, earlier in told:
        for place, link in earlier.items():
            if positions.get(place, 0) < link.position:
                yield CheckpointDefect(kept.name, f"{what} of {place_name(place)} went back from {link.position}")
    for place, position in then.payload.items():
        if now.payload.get(place, 0) < position:
            yield CheckpointDefect(kept.name, f"payload of {place_name(place)} went back from {position}")


def file_name(at_ms: int, digest: str) -> str:
    """The name of a checkpoint's file."""
    at = datetime.fromtimestamp(at_ms // 1_000, UTC)
    return f"{at:%Y%m%dT%H%M%S}.{at_ms % 1_000:03d}Z-{digest[:8]}.json"


def make_checkpoint(archive: Archive, gained: Checkpoint, key: SigningKey | None) -> KeptCheckpoint | None:
    """Write a checkpoint: `gained` laid over what the newest one tells. None if that is nothing new.

    `gained.at_ms` is the earliest instant that it may bear: it is later than that of the one before.
    ArchiveUnavailable."""
    merged = _merged(gained, newest(archive))
    if merged is None:
        return None
    file = encode(merged, key)
    path = f"{FOLDER}/{file_name(merged.at_ms, sha256(file).hexdigest())}"
    archive.write(path, file)
    return decode(path, file)


def _merged(gained: Checkpoint, before: KeptCheckpoint | None) -> Checkpoint | None:
    if before is None:
        return gained if gained.places or gained.purged or gained.payload or gained.kept else None
    then = before.checkpoint
    merged = replace(
        gained,
        at_ms=max(gained.at_ms, then.at_ms + 1),
        previous=before.sha256,
        places=_farther(then.places, gained.places),
        purged=_farther(then.purged, gained.purged),
        payload={p: max(then.payload.get(p, 0), gained.payload.get(p, 0)) for p in {*then.payload, *gained.payload}},
    )
    changed = merged.places != then.places or merged.purged != then.purged or merged.payload != then.payload
    return merged if changed or gained.kept else None


def _farther(one: Mapping[int, Link], other: Mapping[int, Link]) -> dict[int, Link]:
    merged = dict(one)
    for place, link in other.items():
        if place not in merged or link.position > merged[place].position:
            merged[place] = link
    return merged

"""The decision log's record, the *frame*: everything about one decision in one byte string.

The frame is what the commit stores under the decision_id, what a repeat of the request is answered from, and what the
trace is rendered from. Sections follow a fixed header; numbers are not turned into text on the way in, so a frame of
200 values costs no more than a copy.

    header   4s  magic "DSF2" | u4 x 6 section lengths
    sections fingerprint (16 bytes) | answer JSON | request body | numbers (float64, little-endian) | verdicts
             | rest JSON
    trailer  u4  CRC-32 of all before; frames from before there was one say "DSF1" and end with the sections

A server that loads its append-only file does not notice a byte that changed inside a value: the CRC does. It is looked
at whenever a stored frame is told, and by `reconcile --verify`.

`rest` holds what is small and irregular: customer, strings, cells, guardrails that bound, seq, version, stage times in
microseconds; by scorecard the version that scored, its problem and its role (frames from before there were roles lack
the last: the champion).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

import orjson

from decision_service.core.decision import Decision, Trace
from decision_service.core.request import DecisionRequest

MAGIC: Final = b"DSF2"
MAGIC_WITHOUT_CRC: Final = b"DSF1"
CRC_BYTES: Final = 4
SECTIONS: Final = 6
_HEADER = struct.Struct("<4s6I")


@dataclass(frozen=True, slots=True)
class Frame:
    """A stored decision, taken apart."""

    fingerprint: bytes
    answer: bytes
    request: bytes
    numbers: bytes
    verdicts: bytes
    rest: dict[str, Any]


def encode(
    decision: Decision, trace: Trace, request: DecisionRequest, answer: bytes, stages_us: Mapping[str, float]
) -> bytes:
    """The frame of one decision."""
    numbers, strings, verdicts, cells, seq, version, bounded = trace
    rest = orjson.dumps(
        {
            "customer_id": decision.customer_id,
            "policy_id": decision.policy_id,
            "strings": strings,
            "cells": cells,
            "bounded": bounded,
            "seq": seq,
            "version": version,
            "scorecards": {name: (score.version, score.problem, score.role) for name, score in decision.scores.items()},
            "stages_us": stages_us,
        }
    )
    fingerprint, body = request.fingerprint, request.body
    lengths = (len(fingerprint), len(answer), len(body), len(numbers), len(verdicts), len(rest))
    whole = b"".join((_HEADER.pack(MAGIC, *lengths), fingerprint, answer, body, numbers, verdicts, rest))
    return whole + crc32(whole).to_bytes(CRC_BYTES, "little")


def decode(frame: bytes) -> Frame:
    """The sections of a frame. Raises ValueError for bytes that are not one, or were changed."""
    _, (fingerprint, answer, request, numbers, verdicts, rest) = sections_in(frame)
    return Frame(fingerprint, answer, request, numbers, verdicts, orjson.loads(rest))


def sections_in(frame: bytes) -> tuple[bytes, list[bytes]]:
    """The magic of a frame and its six sections as they are. Raises ValueError as `decode` does."""
    check_whole(frame)
    magic, *lengths = _HEADER.unpack_from(frame)
    sections = []
    start = _HEADER.size
    for length in lengths:
        sections.append(frame[start : start + length])
        start += length
    return magic, sections


def assemble(magic: bytes, sections: Sequence[bytes]) -> bytes:
    """The inverse of `sections_in`. Raises ValueError for a magic that no frame has, or not six sections."""
    if magic not in (MAGIC, MAGIC_WITHOUT_CRC) or len(sections) != SECTIONS:
        raise ValueError(f"no decision frame has {len(sections)} sections after {magic!r}")
    whole = b"".join((_HEADER.pack(magic, *map(len, sections)), *sections))
    return whole + crc32(whole).to_bytes(CRC_BYTES, "little") if magic == MAGIC else whole


def check_whole(frame: bytes) -> None:
    """ValueError for bytes that are no frame, or were changed since it was made."""
    magic = frame[:4]
    if len(frame) < _HEADER.size or magic not in (MAGIC, MAGIC_WITHOUT_CRC):
        raise ValueError(f"not a decision frame: {frame[:16]!r}")
    trailer = CRC_BYTES if magic == MAGIC else 0
    expected = _HEADER.size + sum(_HEADER.unpack_from(frame)[1:]) + trailer
    if expected != len(frame):
        raise ValueError(f"a torn decision frame: {len(frame)} bytes, {expected} expected")
    if trailer and crc32(memoryview(frame)[:-trailer]) != int.from_bytes(frame[-trailer:], "little"):
        raise ValueError("a decision frame of which something was changed")


def fingerprint_of(frame: bytes) -> bytes:
    """The content fingerprint alone, without taking the frame apart."""
    length = _HEADER.unpack_from(frame)[1]
    return frame[_HEADER.size : _HEADER.size + length]


def request_in(frame: bytes) -> bytes:
    """The request body alone, as it was received."""
    _, fingerprint, answer, request, *_ = _HEADER.unpack_from(frame)
    start = _HEADER.size + fingerprint + answer
    return frame[start : start + request]


def answer_in(frame: bytes) -> bytes:
    """The answer alone."""
    _, fingerprint, answer, *_ = _HEADER.unpack_from(frame)
    start = _HEADER.size + fingerprint
    return frame[start : start + answer]

"""The decision log's record, the *frame*: everything about one decision in one byte string.

The frame is what the commit stores under the decision_id, what a repeat of the request is answered from, and what the
trace is rendered from. Sections follow a fixed header; numbers are not turned into text on the way in, so a frame of
200 values costs no more than a copy.

    header   4s  magic "DSF1" | u4 x 6 section lengths
    sections fingerprint (16 bytes) | answer JSON | request body | numbers (float64, little-endian) | verdicts
             | rest JSON

`rest` holds what is small and irregular: customer, strings, cells, guardrails that bound, seq, version, stage times in
microseconds; by scorecard the version that scored, its problem and its role (frames from before there were roles lack
the last: the champion).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from decision_service.core.decision import Decision, Trace
from decision_service.core.request import DecisionRequest

MAGIC: Final = b"DSF1"
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
    rest = orjson.dumps(
        {
            "customer_id": decision.customer_id,
            "policy_id": decision.policy_id,
            "strings": trace.strings,
            "cells": trace.cells,
            "bounded": trace.bounded,
            "seq": trace.seq,
            "version": trace.version,
            "scorecards": {name: [score.version, score.problem, score.role] for name, score in decision.scores.items()},
            "stages_us": stages_us,
        }
    )
    sections = (request.fingerprint, answer, request.body, trace.numbers, trace.verdicts, rest)
    return _HEADER.pack(MAGIC, *map(len, sections)) + b"".join(sections)


def decode(frame: bytes) -> Frame:
    """The sections of a frame. Raises ValueError for bytes that are not one."""
    if len(frame) < _HEADER.size or frame[:4] != MAGIC:
        raise ValueError(f"not a decision frame: {frame[:16]!r}")
    _, *lengths = _HEADER.unpack_from(frame)
    if _HEADER.size + sum(lengths) != len(frame):
        raise ValueError(f"a torn decision frame: {len(frame)} bytes, {_HEADER.size + sum(lengths)} expected")
    sections = []
    start = _HEADER.size
    for length in lengths:
        sections.append(frame[start : start + length])
        start += length
    fingerprint, answer, request, numbers, verdicts, rest = sections
    return Frame(fingerprint, answer, request, numbers, verdicts, orjson.loads(rest))


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

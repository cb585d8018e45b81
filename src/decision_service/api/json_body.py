"""Strict JSON: what is read is exactly what the caller wrote, or it is refused and the place is named.

Parsers disagree about much that JSON leaves open; here a duplicate key, NaN and Infinity, a lone surrogate,
invalid UTF-8, a byte order mark, a comment, nesting beyond 200 levels and an integer of more than 4,300
digits are all malformed. Numbers with a fraction or exponent become exact Decimals. NUL is refused in every
string.
"""

from __future__ import annotations

import re
from typing import Any, Final

import jiter

from decision_service.core.errors import InvalidInput, MalformedBody

_POSITION: Final = re.compile(r" at line (\d+) column (\d+)$")
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?|[{}\[\],:]', re.DOTALL)
_PATH_PARTS_MAX: Final = 16


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises MalformedBody, or InvalidInput for NUL; both name the field."""
    try:
        value = jiter.from_json(
            body, allow_inf_nan=False, catch_duplicate_keys=True, float_mode="decimal", cache_mode="keys"
        )
    except ValueError as error:
        raise _malformed(body, str(error)) from None
    if type(value) is not dict:
        raise MalformedBody("", "a JSON object is expected")
    if b"\\u0000" in body:
        _refuse_nul(value, "")
    return value


def _malformed(body: bytes, message: str) -> MalformedBody:
    found = _POSITION.search(message)
    if found is None:
        return MalformedBody("", "not valid JSON")
    line, column = int(found[1]), int(found[2])
    start = 0
    for _ in range(line - 1):
        start = body.find(b"\n", start) + 1
    what = message[: found.start()]
    if what.startswith("Internal error"):
        what = "number out of range"
    return MalformedBody(path_at(body[: max(0, start + column - 1)]), f"not valid JSON: {what}{found[0]}")


def path_at(prefix: bytes) -> str:
    """The dotted path of the value being written where `prefix` of a JSON text ends."""
    stack: list[list[str | int | bool]] = []  # [key or index, key is complete]
    for token in _TOKEN.findall(prefix):
        match token:
            case b"{":
                stack.append(["", False])
            case b"[":
                stack.append([0, True])
            case b"}" | b"]":
                del stack[-1:]
            case b":" if stack:
                stack[-1][1] = True
            case b"," if stack:
                top = stack[-1]
                stack[-1] = [top[0] + 1, True] if isinstance(top[0], int) else ["", False]
            case _ if stack and not stack[-1][1]:
                stack[-1][0] = token.strip(b'"').decode("utf-8", "replace")
    parts = [str(name) for name, complete in stack if complete]
    return ".".join(parts[:_PATH_PARTS_MAX]) + ("..." if len(parts) > _PATH_PARTS_MAX else "")


def _refuse_nul(value: object, path: str) -> None:
    match value:
        case str() if "\0" in value:
            raise InvalidInput(path, "must not contain NUL")
        case dict():
            for name, member in value.items():
                below = f"{path}.{name}" if path else name
                if "\0" in name:
                    raise InvalidInput(below.replace("\0", "\\u0000"), "must not contain NUL")
                _refuse_nul(member, below)
        case list():
            for i, member in enumerate(value):
                _refuse_nul(member, f"{path}.{i}")

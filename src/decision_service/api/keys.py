"""API keys: who may call and what for. Only hashes are stored, so the file gives no access to whoever reads
it.

    keys file   {"keys": [{"name": "core-banking", "sha256": "<64 hex>", "scopes": ["decide", "events"]}]}
    a key       dsk_<43 characters of base64url>: 256 random bits, which is why a plain SHA-256 is enough

A key is looked up by its digest and compared in constant time. The file is looked at again at most once a
second, so adding or revoking a key needs no restart; a file that became unreadable leaves the keys as they
were.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from decision_service.core.errors import SettingInvalid

LOG = logging.getLogger("decision_service.access")
SCOPES: Final = ("decide", "events", "read", "rules", "admin")
SETTING: Final = "DECISION_SERVICE_KEYS_FILE"
KEY_PREFIX: Final = "dsk_"
KEYS_MAX: Final = 10_000
RECHECK_S: Final = 1.0
_NO_DIGEST: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, and what for. `admin` includes every scope."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Whether a scope is granted."""
        return scope in self.scopes or "admin" in self.scopes


class KeyFile:
    """The keys of one file, re-read when it changes."""

    def __init__(self, path: Path) -> None:
        """Raises SettingInvalid if the file cannot be read or is wrong."""
        self._path = path
        self._stamp = _stamp(path)
        self._principals = read_keys(path)
        self._checked_s = 0.0

    def principal(self, key: bytes, now_s: float) -> Principal | None:
        """Whose key this is, or None. `now_s` is any monotonic clock."""
        if now_s - self._checked_s >= RECHECK_S:
            self._checked_s = now_s
            self._reread()
        digest = hashlib.sha256(key).digest()
        known, principal = self._principals.get(digest, (_NO_DIGEST, None))
        return principal if hmac.compare_digest(known, digest) else None

    def _reread(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._principals = read_keys(self._path)
        except SettingInvalid as error:
            LOG.error("keys file not taken, the old keys stay: %s", error.message)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def read_keys(path: Path) -> dict[bytes, tuple[bytes, Principal]]:
    """Principals by the digest of their key. Raises SettingInvalid."""
    try:
        entries = json.loads(path.read_bytes())["keys"]
        if len(entries) > KEYS_MAX:
            raise SettingInvalid(SETTING, f"{path} holds more than {KEYS_MAX} keys")
        pairs = [_principal(entry) for entry in entries]
    except OSError as error:
        raise SettingInvalid(SETTING, f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingInvalid(SETTING, f"{path} is not a keys file: {error}") from None
    return {digest: (digest, principal) for digest, principal in pairs}


def _principal(entry: Mapping[str, Any]) -> tuple[bytes, Principal]:
    digest = bytes.fromhex(entry["sha256"])
    scopes = frozenset(entry["scopes"])
    if len(digest) != 32:
        raise ValueError(f"key {entry['name']!r}: sha256 must have 64 hex digits")
    if not scopes <= set(SCOPES):
        raise ValueError(f"key {entry['name']!r}: scopes are {', '.join(SCOPES)}")
    return digest, Principal(str(entry["name"]), scopes)


def add_key(path: Path, name: str, scopes: Iterable[str]) -> str:
    """Make a key, add its hash to the file (created 0600, replaced atomically) and return it: it is shown
    only once. Raises SettingInvalid."""
    entries: list[Any] = []
    if path.exists():
        read_keys(path)
        entries = json.loads(path.read_bytes())["keys"]
    if any(entry["name"] == name for entry in entries):
        raise SettingInvalid(SETTING, f"{path} already has a key named {name!r}")
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    entry = {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": sorted(set(scopes))}
    _principal(entry)
    partial = path.with_name(path.name + ".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"keys": [*entries, entry]}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return key

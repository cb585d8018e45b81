"""API keys: who may call, what for and about whom. Only hashes are stored, so the file gives no access to whoever
reads it; whoever can write it can let himself in, which is why that is warned of.

    keys file   {"keys": [{"name": "core-banking", "sha256": "<64 hex>", "scopes": ["decide", "events"],
                           "customers": ["retail-*"], "expires_at": "2027-06-30T00:00:00Z"}]}
    a key       dsk_<43 characters of base64url>: 256 random bits, which is why a plain SHA-256 is enough
    customers   optional: the only customers this key may touch or ask about, by id or by prefix and `*`
    expires_at  optional: from then on the key is refused

A key is looked up by its digest, which no prefix of it tells anything about, and compared in constant time. The file
is looked at again at most once a second, so adding, revoking or replacing a key needs no restart; a file that became
unreadable leaves the keys as they were.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import math
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from decision_service.core.errors import SettingInvalid
from decision_service.core.limits import ID_CHARS_MAX

LOG = logging.getLogger("decision_service.access")
SCOPES: Final = ("decide", "events", "read", "rules", "admin")
SETTING: Final = "DECISION_SERVICE_KEYS_FILE"
KEY_PREFIX: Final = "dsk_"
KEYS_MAX: Final = 10_000
NAME_CHARS_MAX: Final = 128
CUSTOMERS_MAX: Final = 64  # patterns of one principal
RECHECK_S: Final = 1.0
WRITABLE_BY_OTHERS: Final = 0o022
ANY_REST: Final = "*"
_NO_DIGEST: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, and what for. `admin` includes every scope.

    `customers` None means every customer. Otherwise the principal is *limited*: it reaches customers whose id is in
    the tuple, or starts with an entry up to its final `*`, and no call that is not about a customer.
    """

    name: str
    scopes: frozenset[str]
    customers: tuple[str, ...] | None = None

    def may(self, scope: str) -> bool:
        """Whether a scope is granted."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def limited(self) -> bool:
        """Whether there are customers it may not reach."""
        return self.customers is not None

    def reaches(self, customer_id: str) -> bool:
        """Whether it may touch or ask about a customer."""
        if self.customers is None:
            return True
        return any(
            customer_id.startswith(entry[:-1]) if entry.endswith(ANY_REST) else customer_id == entry
            for entry in self.customers
        )


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One key of the file; `expires_s` is in seconds of the epoch, infinite for never."""

    digest: bytes
    principal: Principal
    expires_s: float


class KeyFile:
    """The keys of one file, re-read when it changes."""

    def __init__(self, path: Path, wall_s: Callable[[], float] = time.time) -> None:
        """Raises SettingInvalid if the file cannot be read or is wrong."""
        self._path = path
        self._wall_s = wall_s
        self._stamp = file_stamp(path)
        self._known = read_keys(path)
        self._checked_s = -math.inf
        warn_if_writable(path)

    def principal(self, key: bytes, now_s: float) -> Principal | None:
        """Whose key this is, or None. `now_s` is any monotonic clock."""
        if now_s - self._checked_s >= RECHECK_S:
            self._checked_s = now_s
            self._reread()
        digest = hashlib.sha256(key).digest()
        known = self._known.get(digest)
        holds = hmac.compare_digest(_NO_DIGEST if known is None else known.digest, digest)
        if known is None or not holds or self._wall_s() >= known.expires_s:
            return None
        return known.principal

    def _reread(self) -> None:
        stamp = file_stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._known = read_keys(self._path)
        except SettingInvalid as error:
            LOG.error("keys file not taken, the old keys stay: %s", error.message)
        else:
            LOG.info("keys file taken again: %d keys", len(self._known))
            warn_if_writable(self._path)


def file_stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file does; zeros if there is none."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def warn_if_writable(path: Path) -> None:
    """Say in the log that others than its owner may change a file that decides who gets in."""
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode & 0o777
        if mode & WRITABLE_BY_OTHERS:
            LOG.warning("%s may be written by others (%04o): whoever does can let himself in", path, mode)


# --- reading ------------------------------------------------------------------------------------------------------


def read_keys(path: Path) -> dict[bytes, KnownKey]:
    """The keys by their digest. Raises SettingInvalid, which never quotes a hash."""
    keys = [_known_key(entry) for entry in _entries(path)]
    return {key.digest: key for key in keys}


def _entries(path: Path) -> list[dict[str, Any]]:
    """The entries of a keys file, each checked. SettingInvalid."""
    try:
        entries = json.loads(path.read_bytes())["keys"]
        if len(entries) > KEYS_MAX:
            raise SettingInvalid(SETTING, f"{path} holds more than {KEYS_MAX} keys")
        for entry in entries:
            _known_key(entry)
    except OSError as error:
        raise SettingInvalid(SETTING, f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SettingInvalid(SETTING, f"{path} is not a keys file: {error}") from None
    return list(entries)


def _known_key(entry: Mapping[str, Any]) -> KnownKey:
    name = str(entry["name"])
    unknown = sorted(set(entry) - {"name", "sha256", "scopes", "customers", "expires_at"})
    if unknown:  # a misspelt limit must not grant everything
        raise ValueError(f"key {name!r}: unknown field {unknown[0]!r}")
    try:
        digest = bytes.fromhex(entry["sha256"])
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ValueError(f"key {name!r}: sha256 must have 64 hex digits")
    if not isinstance(entry["scopes"], list) or not set(entry["scopes"]) <= set(SCOPES):
        raise ValueError(f"key {name!r}: scopes are {', '.join(SCOPES)}")
    customers = None if entry.get("customers") is None else read_customers(entry["customers"])
    expires_at = entry.get("expires_at")
    expires_s = math.inf if expires_at is None else expiry_of(expires_at).timestamp()
    return KnownKey(digest, Principal(name, frozenset(entry["scopes"]), customers), expires_s)


def read_customers(value: object) -> tuple[str, ...]:
    """The customers a principal is limited to. ValueError for anything but a list of ids and prefixes with `*`."""
    if not isinstance(value, list) or len(value) > CUSTOMERS_MAX:
        raise ValueError(f"customers must be a list of at most {CUSTOMERS_MAX} ids, or prefixes that end in *")
    if not all(isinstance(entry, str) and 1 <= len(entry) <= ID_CHARS_MAX for entry in value):
        raise ValueError(f"customers are ids of 1 to {ID_CHARS_MAX} characters, or prefixes that end in *")
    return tuple(value)


def expiry_of(text: str) -> datetime:
    """An instant with its offset. ValueError."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"expires_at must be an instant with offset such as 2027-06-30T00:00:00Z, not {text!r}")
    return instant


# --- changing -----------------------------------------------------------------------------------------------------


def add_key(
    path: Path, name: str, scopes: Iterable[str], *,
    customers: Sequence[str] | None = None, expires_at: str | None = None,
) -> str:  # fmt: skip
    """Make a key, add its hash to the file (created 0600, replaced atomically) and return it: it is shown
    only once. Raises SettingInvalid."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    entry: dict[str, Any] = {
        "name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": sorted(set(scopes))
    }  # fmt: skip
    entry |= {} if customers is None else {"customers": list(customers)}
    entry |= {} if expires_at is None else {"expires_at": expires_at}
    try:
        _known_key(entry)
    except ValueError as error:
        raise SettingInvalid(SETTING, str(error)) from None
    with _changing(path) as entries:
        if any(other["name"] == name for other in entries):
            raise SettingInvalid(SETTING, f"{path} already has a key named {name!r}")
        entries.append(entry)
    return key


def revoke_key(path: Path, name: str) -> None:
    """Take the key of this name out of the file: it is refused within a second. Raises SettingInvalid."""
    if not path.exists():
        raise SettingInvalid(SETTING, f"{path} does not exist")
    with _changing(path) as entries:
        if not any(entry["name"] == name for entry in entries):
            raise SettingInvalid(SETTING, f"{path} has no key named {name!r}")
        entries[:] = [entry for entry in entries if entry["name"] != name]


def listed_keys(path: Path) -> list[dict[str, Any]]:
    """What the file says of each key but its hash. Raises SettingInvalid."""
    return [{name: value for name, value in entry.items() if name != "sha256"} for entry in _entries(path)]


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[list[Any]]:
    """The file's entries, to be changed in the block and written back as a whole; one change at a time."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        before = path.stat() if path.exists() else None
        entries: list[Any] = [] if before is None else _entries(path)
        yield entries
        partial = path.with_name(path.name + ".partial")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            if before is not None:  # the service still has to be able to read it
                os.fchmod(file.fileno(), before.st_mode & 0o777 & ~WRITABLE_BY_OTHERS)
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            json.dump({"keys": entries}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        os.fsync(directory)
    except OSError as error:
        raise SettingInvalid(SETTING, f"{path} cannot be changed: {error.strerror}") from None
    finally:
        os.close(directory)

"""JWTs: checked against the public keys of an issuer (a JWKS file or URL), never against a shared secret.

A token must be signed with an asymmetric algorithm by a known key made for it, name our issuer and audience,
have not expired and be valid already (10 s of leeway). Its scopes are the words of `scope`, or the list
`scp`; its name is `sub`; the list `customers`, if there is one, limits it to those customers (`keys.Principal`).
What was verified is remembered for at most a minute, so that a signature costs once and not per request.

Nothing in a token says where a key is to be found: `jku`, `x5u`, `jwk` and `x5c` are not looked at, and a `kid` is only
ever a key of the table below, together with the algorithm, so a key never checks a signature of another kind.

    key set         {(kid, alg): public key}   `alg` is the key's own, else the usual one of its kind
    from a file     looked at once a second: a key taken out is refused within a second
    from a URL      fetched again every 5 minutes, and for an unknown kid at most every 30 s; https only, from this one
                    address (no redirects, no proxy), at most 1 MB in 5 s, off the event loop

A key set that cannot be fetched or is wrong leaves the keys as they were. While one is being fetched for an unknown
kid, at most 32 requests wait for it, each at most a second: strangers with made-up kids cannot fill the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import ssl
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import jwt

from decision_service.api.keys import NAME_CHARS_MAX, RECHECK_S, SCOPES, Principal, file_stamp, read_customers
from decision_service.core.errors import SettingInvalid
from decision_service.settings import LOOPBACK_HOSTS

LOG = logging.getLogger("decision_service.access")
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
KEY_TYPES: Final = ("RSA", "EC", "OKP")
SETTING: Final = "DECISION_SERVICE_JWKS"
LEEWAY_S: Final = 10
REFRESH_S: Final = 300.0
REFETCH_S: Final = 30.0
WAIT_S: Final = 1.0
WAITING_MAX: Final = 32
REMEMBER_S: Final = 60.0
REMEMBERED_MAX: Final = 4_096
TOKEN_BYTES_MAX: Final = 8_192
JWKS_BYTES_MAX: Final = 1_048_576
FETCH_TIMEOUT_S: Final = 5.0
assert REFETCH_S > FETCH_TIMEOUT_S

KeySet = Mapping[tuple[str | None, str], jwt.PyJWK]


class TokenKeys:
    """Verifies tokens of one issuer."""

    def __init__(
        self, source: str, issuer: str, audience: str, *,
        monotonic: Callable[[], float] = time.monotonic, trusted: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        """Reads the key set once. `trusted` are the certificates a URL's server may have, by default the system's.
        Raises SettingInvalid if it cannot be read or holds no usable key."""
        self._source = source
        self._is_file = not is_url(source)
        self._issuer = issuer
        self._audience = audience
        self._monotonic = monotonic
        self._trusted = trusted
        self._stamp = file_stamp(Path(source)) if self._is_file else None
        self._content = read_source(source, trusted)
        self._keys = key_set(self._content, source)
        self._fetched_s = self._checked_s = monotonic()
        self._fetching: asyncio.Task[None] | None = None
        self._waiting = 0
        self._remembered: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    def known(self, token: bytes) -> Principal | None:
        """Whose token this is, if it was verified a moment ago."""
        now_s = self._monotonic()
        self._look_again(now_s)
        remembered = self._remembered.get(token)
        return remembered[1] if remembered is not None and now_s < remembered[0] else None

    async def principal(self, token: bytes) -> Principal | None:
        """Whose token this is, or None if it does not hold."""
        known = self.known(token)
        if known is not None:
            return known
        now_s = self._monotonic()
        if len(token) > TOKEN_BYTES_MAX:
            return None
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in ALGORITHMS:
                return None
            named = header.get("kid"), str(algorithm)
            key = self._keys.get(named) or await self._newer_key(named)
            if key is None:
                return None
            claims = jwt.decode(
                token, key, algorithms=[key.algorithm_name], audience=self._audience, issuer=self._issuer,
                leeway=LEEWAY_S, options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
            principal = _principal_of(claims)
            left_s = min(REMEMBER_S, float(claims["exp"]) + LEEWAY_S - time.time())
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        self._remembered[token] = (now_s + left_s, principal)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return principal

    def _look_again(self, now_s: float) -> None:
        """Take over a changed file, or begin to fetch, if it is time to."""
        if not self._is_file:
            if now_s - self._fetched_s >= REFRESH_S:
                self._begin_fetch(now_s)
        elif now_s - self._checked_s >= RECHECK_S:
            self._checked_s = now_s
            stamp = file_stamp(Path(self._source))
            if stamp != self._stamp:
                self._stamp = stamp
                with self._old_keys_stay():
                    self._take(read_source(self._source, None))

    async def _newer_key(self, named: tuple[str | None, str]) -> jwt.PyJWK | None:
        """The key from a key set that is fetched for it, unless one was just before or too many wait already."""
        now_s = self._monotonic()
        if self._fetching is None:
            if self._is_file or now_s - self._fetched_s < REFETCH_S:
                return None
            self._begin_fetch(now_s)
        if self._fetching is not None and self._waiting < WAITING_MAX:
            self._waiting += 1
            try:
                await asyncio.wait((self._fetching,), timeout=WAIT_S)
            finally:
                self._waiting -= 1
        return self._keys.get(named)

    def _begin_fetch(self, now_s: float) -> None:
        if self._fetching is None:
            self._fetched_s = now_s
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            with self._old_keys_stay():
                self._take(await asyncio.to_thread(read_source, self._source, self._trusted))
        finally:
            self._fetching = None

    def _take(self, content: bytes) -> None:
        if content != self._content:
            self._keys = key_set(content, self._source)
            self._content = content
            self._remembered.clear()  # a key may have been withdrawn

    @contextlib.contextmanager
    def _old_keys_stay(self) -> Iterator[None]:
        try:
            yield
        except SettingInvalid as error:
            LOG.error("key set not taken, the old keys stay: %s", error.message)


def _principal_of(claims: Mapping[str, Any]) -> Principal:
    """Who a verified token names. ValueError, TypeError for a claim of the wrong form."""
    words = claims.get("scope", claims.get("scp", ()))
    scopes = words.split() if isinstance(words, str) else words if isinstance(words, list) else ()
    name = claims["sub"]
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise ValueError("sub")
    granted = frozenset(scope for scope in SCOPES if scope in scopes)
    return Principal(name, granted, read_customers(claims["customers"]) if "customers" in claims else None)


def key_set(content: bytes, source: str) -> KeySet:
    """The keys of a JWKS document by kid and algorithm. Raises SettingInvalid.

    Symmetric keys, keys for encryption and those of unknown kinds are passed over; a private or a short key is an error
    of whoever made the document.
    """
    try:
        document = json.loads(content)
        entries = [entry for entry in document["keys"] if entry.get("kty") in KEY_TYPES and _is_for_signatures(entry)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SettingInvalid(SETTING, f"no key set at {source}: {type(error).__name__}") from None
    found: dict[tuple[str | None, str], jwt.PyJWK] = {}
    for entry in entries:
        if "d" in entry:
            raise SettingInvalid(SETTING, f"the key set at {source} holds a private key")
        key = _key_of(entry, source)
        if key is None or key.algorithm_name not in ALGORITHMS:
            continue
        if (key.key_id, key.algorithm_name) in found:
            raise SettingInvalid(SETTING, f"the key set at {source} holds two keys of one kid and algorithm")
        found[key.key_id, key.algorithm_name] = key
    if not found:
        raise SettingInvalid(SETTING, f"the key set at {source} holds no asymmetric public key")
    return found


def _is_for_signatures(entry: Mapping[str, Any]) -> bool:
    operations = entry.get("key_ops")
    return entry.get("use", "sig") == "sig" and (operations is None or "verify" in operations)


def _key_of(entry: dict[str, Any], source: str) -> jwt.PyJWK | None:
    """None for a key of a curve or algorithm nobody here knows."""
    try:
        key = jwt.PyJWK(entry)
        too_short = key.Algorithm.check_key_length(key.key)
    except (jwt.PyJWTError, ValueError, TypeError, LookupError):
        return None
    if too_short:
        raise SettingInvalid(SETTING, f"the key set at {source} holds a key that is too short")
    return key


# --- where a key set comes from -----------------------------------------------------------------------------------


def is_url(source: str) -> bool:
    """Whether a key set is fetched rather than read."""
    return "://" in source


def read_source(source: str, trusted: ssl.SSLContext | None) -> bytes:
    """The document at a path or URL. Raises SettingInvalid, which never quotes what came from there."""
    try:
        return _fetched(source, trusted) if is_url(source) else Path(source).read_bytes()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SettingInvalid(SETTING, f"no key set at {source}: {type(error).__name__}") from None


def _fetched(url: str, trusted: ssl.SSLContext | None) -> bytes:
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" and not (parts.scheme == "http" and host in LOOPBACK_HOSTS):
        raise SettingInvalid(SETTING, "a key set is fetched over https only")
    if "@" in parts.netloc:
        raise SettingInvalid(SETTING, "the URL of a key set holds no user and password")
    if parts.scheme == "http":
        connection = http.client.HTTPConnection(host, parts.port, timeout=FETCH_TIMEOUT_S)
    else:
        context = trusted or ssl.create_default_context()
        connection = http.client.HTTPSConnection(host, parts.port, timeout=FETCH_TIMEOUT_S, context=context)
    # A socket's time-out is of one read: a server that sends a byte now and then is cut off by the timer.
    timer = threading.Timer(FETCH_TIMEOUT_S, _cut, (connection,))
    timer.daemon = True
    timer.start()
    try:
        connection.request("GET", urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, "")))
        answer = connection.getresponse()
        if answer.status != 200:
            raise SettingInvalid(SETTING, f"no key set at {url}: it answers {answer.status}")
        content = answer.read(JWKS_BYTES_MAX + 1)
    finally:
        timer.cancel()
        connection.close()
    if len(content) > JWKS_BYTES_MAX:
        raise SettingInvalid(SETTING, f"no key set at {url}: more than {JWKS_BYTES_MAX} bytes")
    return content


def _cut(connection: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)

"""JWTs: checked against the public keys of an issuer (a JWKS file or URL), never against a shared secret.

A token must be signed with an asymmetric algorithm by a known key made for it, name our issuer and audience,
have not expired and be valid already (10 s of leeway). Its scopes are the words of `scope`, or the list
`scp`; its name is `sub`. What was verified is remembered for at most a minute, so that a signature costs once
and not per request.

A token of an unknown key has the key set fetched again, at most every 30 s and off the event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.parse
import urllib.request
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import jwt

from decision_service.api.keys import SCOPES, Principal
from decision_service.core.errors import SettingInvalid

LOG = logging.getLogger("decision_service.access")
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SETTING: Final = "DECISION_SERVICE_JWKS"
LEEWAY_S: Final = 10
REFETCH_S: Final = 30.0
REMEMBER_S: Final = 60.0
REMEMBERED_MAX: Final = 4_096
TOKEN_BYTES_MAX: Final = 8_192
JWKS_BYTES_MAX: Final = 1_048_576
FETCH_TIMEOUT_S: Final = 5.0


class TokenKeys:
    """Verifies tokens of one issuer."""

    def __init__(self, source: str, issuer: str, audience: str) -> None:
        """Reads the key set once. Raises SettingInvalid if it cannot be read or holds no usable key."""
        self._source = source
        self._issuer = issuer
        self._audience = audience
        self._keys = read_jwks(source)
        self._fetched_s = time.monotonic()
        self._refetch = asyncio.Lock()
        self._remembered: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    async def principal(self, token: bytes) -> Principal | None:
        """Whose token this is, or None if it does not hold."""
        remembered = self._remembered.get(token)
        if remembered is not None and time.monotonic() < remembered[0]:
            return remembered[1]
        if len(token) > TOKEN_BYTES_MAX:
            return None
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(header.get("kid")) or await self._newer_key(header.get("kid"))
            if key is None or header["alg"] not in ALGORITHMS:
                return None
            claims = jwt.decode(
                token, key, algorithms=list(ALGORITHMS), audience=self._audience, issuer=self._issuer,
                leeway=LEEWAY_S, options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return self._remember(token, claims)

    def _remember(self, token: bytes, claims: dict[str, Any]) -> Principal:
        words = claims.get("scope", claims.get("scp", ()))
        scopes = words.split() if isinstance(words, str) else words if isinstance(words, list) else ()
        principal = Principal(str(claims["sub"]), frozenset(s for s in scopes if s in SCOPES))
        left_s = min(REMEMBER_S, float(claims["exp"]) + LEEWAY_S - time.time())
        self._remembered[token] = (time.monotonic() + left_s, principal)
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return principal

    async def _newer_key(self, kid: object) -> jwt.PyJWK | None:
        async with self._refetch:
            if time.monotonic() - self._fetched_s >= REFETCH_S:
                self._fetched_s = time.monotonic()
                try:
                    self._keys = await asyncio.to_thread(read_jwks, self._source)
                except SettingInvalid as error:
                    LOG.error("key set not taken, the old keys stay: %s", error.message)
        return self._keys.get(kid) if isinstance(kid, str) or kid is None else None


def read_jwks(source: str) -> dict[str | None, jwt.PyJWK]:
    """Keys by kid (None for a key without one). Raises SettingInvalid."""
    try:
        keys = jwt.PyJWKSet.from_dict(json.loads(_read(source))).keys
    except (OSError, ValueError, jwt.PyJWTError, AttributeError, TypeError) as error:
        raise SettingInvalid(SETTING, f"no key set at {source}: {type(error).__name__}") from None
    usable = {key.key_id: key for key in keys if key.key_type in ("RSA", "EC", "OKP")}
    if not usable:
        raise SettingInvalid(SETTING, f"the key set at {source} holds no asymmetric public key")
    return usable


def _read(source: str) -> bytes:
    scheme = urllib.parse.urlsplit(source).scheme
    if scheme not in ("http", "https"):
        return Path(source).read_bytes()
    host = urllib.parse.urlsplit(source).hostname
    if scheme == "http" and host not in ("127.0.0.1", "localhost", "::1"):
        raise SettingInvalid(SETTING, "a key set is fetched over https only")
    with urllib.request.urlopen(source, timeout=FETCH_TIMEOUT_S) as answer:
        content: bytes = answer.read(JWKS_BYTES_MAX)
    return content

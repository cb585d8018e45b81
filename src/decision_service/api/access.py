"""Access: who is calling, and may they at all.

With keys or a key set configured, `Authorization: Bearer <API key or JWT>` says who. Without, only callers on
this machine are served: the peer must be a loopback address, and the Host header must name one, or a web page
could talk to the service through its visitor's browser (DNS rebinding).

A principal may be limited to some customers. `check_reach` is what every handler asks that learns which customer a
call is about; a limited principal's other calls are refused before their handler (`app.run`). Where the caller named
the customer the answer is 403; where he named something of that customer's, the same 404 as if there were none. Both
are logged with the principal and the call, never with the customer.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from functools import lru_cache
from time import monotonic
from typing import Final

from decision_service.api.keys import SCOPES, KeyFile, Principal
from decision_service.api.refusals import Forbidden, Unauthenticated
from decision_service.api.tokens import TokenKeys
from decision_service.settings import LOOPBACK_HOSTS, Settings

LOG: Final = logging.getLogger("decision_service.access")
LOCAL: Final = Principal("local", frozenset(SCOPES))
_BEARER: Final = b"bearer "


class Access:
    """What is asked before anything else."""

    def __init__(self, keys: KeyFile | None = None, tokens: TokenKeys | None = None) -> None:
        self._keys = keys
        self._tokens = tokens
        self.authenticated = keys is not None or tokens is not None

    def known(self, headers: Mapping[bytes, bytes], peer: str | None) -> Principal | None:
        """Who calls, or None if only `principal` can tell: a token that was not verified yet, or one that does not
        hold. Raises Unauthenticated, or Forbidden for a caller from elsewhere."""
        if not self.authenticated:
            if not is_loopback(peer or "") or not names_loopback(headers.get(b"host", b"")):
                raise Forbidden("without authentication only this machine is served")
            return LOCAL
        token = _token_in(headers)
        principal = self._keys.principal(token, monotonic()) if self._keys is not None else None
        if principal is None and self._tokens is not None:
            principal = self._tokens.known(token)
        return principal

    async def principal(self, headers: Mapping[bytes, bytes], peer: str | None) -> Principal:
        """Who calls. Raises as `known` does, and Unauthenticated for what does not hold."""
        principal = self.known(headers, peer)
        if principal is None and self._tokens is not None:
            principal = await self._tokens.principal(_token_in(headers))
        if principal is None:
            raise Unauthenticated("the key or token does not hold")
        return principal


def _token_in(headers: Mapping[bytes, bytes]) -> bytes:
    """What an Authorization header holds behind `Bearer`. Unauthenticated."""
    credentials = headers.get(b"authorization", b"")
    if credentials[:7].lower() != _BEARER:
        raise Unauthenticated("an Authorization header with a Bearer key or token is needed")
    return credentials[7:].strip()


def open_access(settings: Settings) -> Access:
    """Read keys and key set as the settings say. Raises SettingInvalid."""
    keys = None if settings.keys_file is None else KeyFile(settings.keys_file)
    tokens = None
    if settings.jwks is not None:
        tokens = TokenKeys(settings.jwks, settings.jwt_issuer or "", settings.jwt_audience or "")
    return Access(keys, tokens)


def check_reach(principal: Principal, customer_id: str, what: str) -> None:
    """Raise Forbidden if a principal may not reach a customer; `what` he wanted stands in the log."""
    if not principal.reaches(customer_id):
        LOG.warning("refused: %s may not reach the customer of this %s", principal.name, what)
        raise Forbidden("these credentials do not reach this customer")


@lru_cache(maxsize=1_024)
def is_loopback(host: str) -> bool:
    """Whether an address is of this machine."""
    if host in LOOPBACK_HOSTS:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1_024)
def names_loopback(host_header: bytes) -> bool:
    """Whether a Host header names this machine."""
    text = host_header.decode("latin-1")
    if text.startswith("["):
        return is_loopback(text[1:].partition("]")[0])
    return is_loopback(text.partition(":")[0])

"""Access: loopback only without authentication; keys, tokens, scopes and the rate limit with it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from api_fakes import DRAWDOWN, FACILITY, office
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from decision_service.api.access import Access, open_access
from decision_service.api.keys import SCOPES, KeyFile, add_key, read_keys
from decision_service.api.rate import BUCKETS_MAX, RateLimit
from decision_service.api.routes import ROUTES
from decision_service.api.tokens import TokenKeys
from decision_service.core.errors import SettingInvalid
from decision_service.settings import Settings

ISSUER, AUDIENCE = "https://issuer.example", "decision-service"
KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
CURVE_KEY = ec.generate_private_key(ec.SECP256R1())


def jwks(path: Path, **keys: Any) -> Path:
    """A key set file with the public halves of some private keys, by kid."""
    algorithm = {"rsa": jwt.algorithms.RSAAlgorithm, "ec": jwt.algorithms.ECAlgorithm}
    entries = []
    for kid, key in keys.items():
        sort = "ec" if isinstance(key, ec.EllipticCurvePrivateKey) else "rsa"
        entries.append({**json.loads(algorithm[sort].to_jwk(key.public_key())), "kid": kid})
    path.write_text(json.dumps({"keys": entries}))
    return path


def claims(**change: Any) -> dict[str, Any]:
    """Claims that hold, with changes; None takes a claim away."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "bank", "exp": now + 600, "scope": "decide read"}
    return {name: value for name, value in {**good, **change}.items() if value is not None}


def signed(key: Any = KEY, algorithm: str = "RS256", kid: str = "k1", **change: Any) -> str:
    """A token."""
    return jwt.encode(claims(**change), key, algorithm, headers={"kid": kid})


def ask(
    directory: Path,
    access: Access,
    bearer: str | None,
    method: str = "POST",
    path: str = "/v1/decisions",
    **settings: Any,
) -> httpx.Response:
    """One call with these credentials."""

    async def go() -> httpx.Response:
        async with office(directory, access, **settings) as opened:
            headers = {} if bearer is None else {"authorization": bearer.encode("latin-1")}
            body = {"json": DRAWDOWN} if method == "POST" else {"json": FACILITY} if method == "PUT" else {}
            return await opened.client.request(method, path, headers=headers, **body)

    return asyncio.run(go())


@pytest.fixture
def token_access(tmp_path: Path) -> Access:
    """Access by the tokens of KEY and CURVE_KEY."""
    return Access(tokens=TokenKeys(str(jwks(tmp_path / "jwks.json", k1=KEY, k2=CURVE_KEY)), ISSUER, AUDIENCE))


# --- without authentication ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "host", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8000", 200),
        ("::1", "[::1]:8000", 200),
        ("127.8.8.8", "localhost", 200),
        ("10.0.0.9", "127.0.0.1", 403),
        ("127.0.0.1", "evil.example", 403),
        ("127.0.0.1", "127.0.0.1.evil.example", 403),
        ("127.0.0.1", "", 403),
    ],
)
def test_only_this_machine_is_served_without_authentication(peer: str, host: str, status: int, tmp_path: Path) -> None:
    """Peer and Host header must both be loopback: a page in a browser cannot rebind its name to us."""

    async def go() -> int:
        async with office(tmp_path) as opened:
            transport = httpx.ASGITransport(opened.gate, client=(peer, 5))  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return (await client.post("/v1/decisions", json=DRAWDOWN, headers={"host": host})).status_code

    assert asyncio.run(go()) == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_another_address_without_authentication_is_refused_by_name(host: str) -> None:
    """The service does not start open to the network."""
    with pytest.raises(ValueError, match="is not loopback"):
        Settings(host=host)


# --- API keys -----------------------------------------------------------------------------------------------------


def test_a_key_opens_its_scopes_and_no_others(tmp_path: Path) -> None:
    """Every scoped route is 403 without its scope and passes the gate with it."""
    file = tmp_path / "keys.json"
    keys = {scope: add_key(file, scope, [scope]) for scope in SCOPES}
    access = Access(KeyFile(file))
    for route in ROUTES:
        if route.scope is None or route.path == "/v1/policy/reload":
            continue
        path = route.path.replace("{list}", "l").replace("{value}", "v").replace("{decision_id}", "d")
        path = path.replace("{facility_id}", "f").replace("{customer_id}", "c")
        allowed = {
            s
            for s, key in keys.items()
            if ask(tmp_path, access, f"Bearer {key}", route.method, path).status_code not in (401, 403)
        }
        assert allowed == {route.scope, "admin"}, route.label


@pytest.mark.parametrize(
    "bearer", [None, "", "Bearer", "Bearer ", "Bearer dsk_wrong", "Basic dXNlcjpwYXNz", "dsk_x", "Bearer \xe4"]
)
def test_wrong_credentials_are_401(bearer: str | None, tmp_path: Path) -> None:
    """The answer asks for a Bearer and does not say what was wrong with it."""
    file = tmp_path / "keys.json"
    add_key(file, "bank", ["decide"])
    answer = ask(tmp_path, Access(KeyFile(file)), bearer)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_probes_and_docs_are_open(tmp_path: Path) -> None:
    """An orchestrator needs no key."""
    file = tmp_path / "keys.json"
    add_key(file, "bank", ["decide"])
    for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
        assert ask(tmp_path, Access(KeyFile(file)), None, "GET", path).status_code == 200
    assert ask(tmp_path, Access(KeyFile(file)), None, "GET", "/metrics").status_code == 401
    assert ask(tmp_path, Access(KeyFile(file)), None, "GET", "/nothing").status_code == 401


def test_the_file_holds_hashes_only_and_is_private(tmp_path: Path) -> None:
    """Whoever reads the keys file cannot call the service."""
    file = tmp_path / "keys.json"
    key = add_key(file, "bank", ["decide"])
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_revoked_key_stops_working_without_a_restart(tmp_path: Path) -> None:
    """The file is looked at again; a broken one leaves the keys as they were."""
    file = tmp_path / "keys.json"
    key = add_key(file, "bank", ["decide"]).encode()
    keys = KeyFile(file)
    assert keys.principal(key, 10.0) is not None
    file.write_text("{")
    os.utime(file, ns=(1, 1))
    assert keys.principal(key, 20.0) is not None
    file.write_text('{"keys": []}')
    assert keys.principal(key, 20.5) is not None
    assert keys.principal(key, 21.5) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"keys": 1}',
        '{"keys": [1]}',
        '{"keys": [{"name": "a", "sha256": "00", "scopes": []}]}',
        '{"keys": [{"name": "a", "sha256": "' + "0" * 64 + '", "scopes": ["root"]}]}',
    ],
)
def test_a_wrong_keys_file_names_the_setting(text: str, tmp_path: Path) -> None:
    """It stops the start, and says which setting and which file."""
    file = tmp_path / "keys.json"
    file.write_text(text)
    with pytest.raises(SettingInvalid, match=r"DECISION_SERVICE_KEYS_FILE.*keys\.json"):
        read_keys(file)


def test_a_missing_keys_file_names_the_setting(tmp_path: Path) -> None:
    """Authentication is never silently off."""
    with pytest.raises(SettingInvalid, match="KEYS_FILE"):
        open_access(Settings(keys_file=tmp_path / "none.json"))


# --- tokens -------------------------------------------------------------------------------------------------------


def test_a_token_of_a_known_key_is_let_in(token_access: Access, tmp_path: Path) -> None:
    """RSA and elliptic curves both sign; scopes come as words or as a list."""
    for token in (
        signed(),
        signed(CURVE_KEY, "ES256", "k2"),
        signed(scope=None, scp=["decide"]),
        signed(aud=["x", AUDIENCE]),
    ):
        assert ask(tmp_path, token_access, f"Bearer {token}").status_code == 200


def test_a_token_without_the_scope_is_403(token_access: Access, tmp_path: Path) -> None:
    """Unknown scopes grant nothing."""
    for scope in ("read", "", "root decide2", None):
        assert ask(tmp_path, token_access, f"Bearer {signed(scope=scope)}").status_code == 403


def _bad_tokens() -> dict[str, str]:
    now = int(time.time())
    public = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body, signature = signed().split(".")
    other_body = signed(scope="admin").split(".")[1]
    part = jwt.utils.base64url_encode
    none_head = part(b'{"alg":"none","kid":"k1"}').decode()
    confused_head = part(b'{"alg":"HS256","kid":"k1","typ":"JWT"}')
    to_sign = confused_head + b"." + body.encode()
    confused = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(to_sign, public)
    return {
        "expired": signed(exp=now - 60),
        "not yet valid": signed(nbf=now + 60),
        "other audience": signed(aud="other"),
        "no audience": signed(aud=None),
        "other issuer": signed(iss="https://evil.example"),
        "no issuer": signed(iss=None),
        "no expiry": signed(exp=None),
        "no subject": signed(sub=None),
        "other key": signed(OTHER_KEY),
        "unknown key id": signed(kid="k9"),
        "key of the other type": signed(kid="k2"),
        "issued in the future": signed(iat=now + 600),
        "shared secret": jwt.encode(claims(), "s" * 32, "HS256", headers={"kid": "k1"}),
        "public key as secret": (to_sign + b"." + part(confused)).decode(),
        "alg none": f"{none_head}.{body}.",
        "alg none signed": f"{none_head}.{body}.{signature}",
        "other claims": f"{head}.{other_body}.{signature}",
        "no signature": f"{head}.{body}.",
        "cut": f"{head}.{body}",
        "garbage": "a.b.c",
        "dots": "..",
        "long": "x" * 9_000,
        "null claims": f"{head}.{part(b'null').decode()}.{signature}",
    }


@pytest.mark.parametrize("name", sorted(_bad_tokens()))
def test_a_token_that_does_not_hold_is_401(name: str, token_access: Access, tmp_path: Path) -> None:
    """Forged, expired, foreign, unsigned and confused tokens are all refused alike."""
    assert ask(tmp_path, token_access, f"Bearer {_bad_tokens()[name]}").status_code == 401


def test_a_remembered_token_still_expires(tmp_path: Path) -> None:
    """What was verified once is not believed beyond its expiry."""
    keys = TokenKeys(str(jwks(tmp_path / "jwks.json", k1=KEY)), ISSUER, AUDIENCE)

    async def go() -> None:
        token = signed(exp=int(time.time()) - 9).encode()  # inside the leeway for about one more second
        assert await keys.principal(token) is not None
        await asyncio.sleep(2.1)
        assert await keys.principal(token) is None

    asyncio.run(go())


@pytest.mark.parametrize(
    "text", ["", "{}", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}', "[]"]
)
def test_a_key_set_without_asymmetric_keys_names_the_setting(text: str, tmp_path: Path) -> None:
    """A shared secret is no key set; neither is nothing."""
    file = tmp_path / "jwks.json"
    file.write_text(text)
    with pytest.raises(SettingInvalid, match="DECISION_SERVICE_JWKS"):
        TokenKeys(str(file), ISSUER, AUDIENCE)


def test_a_key_set_is_not_fetched_in_the_clear() -> None:
    """Plain http is for this machine only."""
    with pytest.raises(SettingInvalid, match="https only"):
        TokenKeys("http://issuer.example/jwks", ISSUER, AUDIENCE)


# --- rate limit ---------------------------------------------------------------------------------------------------


def test_a_bucket_lets_its_burst_in_and_then_its_rate() -> None:
    """Two a second with a burst of three."""
    limit = RateLimit(2, 3)
    assert [limit.take("a", 100.0)[0] for _ in range(4)] == [True, True, True, False]
    assert limit.take("b", 100.0) == (True, 2, 1)
    assert limit.take("a", 100.4)[0] is False
    assert limit.take("a", 100.5)[0] is True
    assert limit.take("a", 99.0)[0] is False
    assert [limit.take("a", 1_000.0)[0] for _ in range(4)] == [True, True, True, False]


def test_buckets_are_bounded() -> None:
    """A flood of names forgets the oldest, not memory's bounds."""
    limit = RateLimit(1, 1)
    for i in range(BUCKETS_MAX + 5):
        limit.take(str(i), 0.0)
    assert limit.take(str(BUCKETS_MAX + 4), 0.0)[0] is False
    assert limit.take("0", 0.0)[0] is True


@pytest.mark.fault("E13", "I08")
def test_too_many_requests_are_429_with_their_headers(tmp_path: Path) -> None:
    """Every answer tells what is left; the refused one when to come again; other principals are not touched."""
    file = tmp_path / "keys.json"
    one, two = add_key(file, "one", ["decide"]), add_key(file, "two", ["decide"])

    async def go() -> list[httpx.Response]:
        async with office(tmp_path, Access(KeyFile(file)), rate_limit_per_s=1, rate_limit_burst=2) as opened:
            return [
                await opened.client.post("/v1/decisions", json=DRAWDOWN, headers={"authorization": f"Bearer {key}"})
                for key in (one, one, one, two)
            ]

    answers = asyncio.run(go())
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]
    assert answers[0].headers["ratelimit-limit"] == "2"
    assert answers[0].headers["ratelimit-remaining"] == "1"
    assert int(answers[2].headers["retry-after"]) >= 1

"""Keys, a key set, and tokens made as a row of tokens.yaml says."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from pathlib import Path
from typing import Any, Final

import jwt
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

ISSUER: Final = "https://issuer.example"
AUDIENCE: Final = "decision-service"
SECRET: Final = b"s" * 32
ROWS: Final[list[dict[str, Any]]] = yaml.safe_load(Path(__file__).with_name("tokens.yaml").read_text(encoding="utf-8"))
_REPEATED: Final = re.compile(r"(.)\*(\d+)$", re.DOTALL)


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


KEYS: Final[dict[str, tuple[str, Any]]] = {
    "rsa": ("RS256", _rsa()),
    "ps": ("PS256", _rsa()),
    "ec": ("ES256", ec.generate_private_key(ec.SECP256R1())),
    "ec384": ("ES384", ec.generate_private_key(ec.SECP384R1())),
    "ed": ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    "stranger": ("RS256", _rsa()),
    "encryption": ("RS256", _rsa()),
}
_MAKERS: Final = {"R": jwt.algorithms.RSAAlgorithm, "P": jwt.algorithms.RSAAlgorithm, "E": jwt.algorithms.ECAlgorithm}


def public_jwk(kid: str) -> dict[str, Any]:
    """The public half of one of KEYS as a key set holds it."""
    algorithm, key = KEYS[kid]
    maker = jwt.algorithms.OKPAlgorithm if algorithm == "EdDSA" else _MAKERS[algorithm[0]]
    entry = {**json.loads(maker.to_jwk(key.public_key())), "kid": kid}
    entry.pop("key_ops", None)
    return entry | ({"alg": "PS256"} if algorithm == "PS256" else {})


def key_set_json() -> bytes:
    """The key set of the corpus, with entries that must be passed over."""
    usable = [public_jwk(kid) for kid in ("rsa", "ps", "ec", "ec384", "ed")]
    secret = {"kty": "oct", "kid": "oct", "k": jwt.utils.base64url_encode(SECRET).decode()}
    others = [{**public_jwk("encryption"), "use": "enc"}, secret, {"kty": "future", "kid": "f"}]
    return json.dumps({"keys": [*usable, *others]}).encode()


def token_of(row: dict[str, Any]) -> bytes:
    """The token a row describes."""
    alg = KEYS[row["key"]][0] if row["key"] in KEYS else "RS256"
    header = _changed({"alg": alg, "kid": row["key"], "typ": "JWT"}, row.get("header", {}))
    claims = _changed(good_claims(), row.get("claims", {}))
    header_text = _text(row.get("header_text"), header, "%header")
    claims_text = _text(row.get("claims_text"), claims, "%claims")
    h, c = (_part(text.encode("utf-8", "surrogatepass")) for text in (header_text, claims_text))
    s = _part(_signature(row, h, c))
    admin = _part(json.dumps(good_claims() | {"scope": "admin"}).encode())
    shape = row.get("token", "{h}.{c}.{s}")
    cut = re.search(r"\{s:(-\d+)\}", shape)
    if cut:
        shape = shape.replace(cut[0], s[: int(cut[1])])
    for name, part in (("{h}", h), ("{c}", c), ("{s}", s), ("{admin}", admin)):
        shape = shape.replace(name, part)
    return bytes(shape.encode("latin-1"))


def good_claims() -> dict[str, Any]:
    """Claims that hold."""
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "bank", "exp": int(time.time()) + 600, "scope": "decide read"}


def signed(kid: str = "rsa", **change: Any) -> bytes:
    """A good token with other claims."""
    return token_of({"key": kid, "claims": change})


def _changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = {**values, **{name: _value(value) for name, value in changes.items()}}
    return {name: value for name, value in merged.items() if value is not None}


def _value(value: Any) -> Any:
    """`now+60` as an instant, `9*7000` as that many characters."""
    if isinstance(value, str) and re.fullmatch(r"now[+-]\d+", value):
        return int(time.time()) + int(value[3:])
    if isinstance(value, str) and (repeated := _REPEATED.fullmatch(value)):
        return repeated[1] * int(repeated[2])
    return value


def _text(given: str | None, values: dict[str, Any], placeholder: str) -> str:
    """The JSON of a part; the text given takes its place, with the members where the placeholder stands."""
    if given is None:
        return json.dumps(values)
    members = json.dumps(values)
    given = given.replace(placeholder + ",", members[:-1] + ",").replace("," + placeholder, "," + members[1:])
    return _REPEATED.sub(lambda found: found[1] * int(found[2]), given)


def _part(content: bytes) -> str:
    return jwt.utils.base64url_encode(content).decode()


def _signature(row: dict[str, Any], h: str, c: str) -> bytes:
    signed_text = f"{h}.{c}".encode()
    match row.get("signature"):
        case "empty":
            return b""
        case "zeros":
            return bytes(64)
        case "der":
            raw = jwt.get_algorithm_by_name("ES256").sign(signed_text, KEYS["ec"][1])
            return encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    match row["key"]:
        case "none":
            return b""
        case "secret":
            return hmac.digest(SECRET, signed_text, hashlib.sha256)
        case "public":
            form = serialization.PublicFormat.SubjectPublicKeyInfo
            pem = KEYS["rsa"][1].public_key().public_bytes(serialization.Encoding.PEM, form)
            return hmac.digest(pem, signed_text, hashlib.sha256)
    algorithm, key = KEYS[row["key"]]
    return bytes(jwt.get_algorithm_by_name(algorithm).sign(signed_text, key))

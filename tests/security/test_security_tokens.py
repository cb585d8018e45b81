"""JWTs: the corpus of tokens.yaml, key sets that change, and a key server that does not do what it should."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from token_corpus import AUDIENCE, ISSUER, KEYS, ROWS, SECRET, key_set_json, public_jwk, signed, token_of

from certificates import make_certificate
from decision_service.api import tokens
from decision_service.api.tokens import TokenKeys
from decision_service.core.errors import SettingInvalid

pytestmark = pytest.mark.fault("I01")
SHORT_MODULUS = jwt.utils.base64url_encode(b"\xc3" + b"\x5a" * 126 + b"\x0b").decode()  # of 1,024 bits


def keys_at(source: Path | str, **options: Any) -> TokenKeys:
    """The keys at a path or URL."""
    return TokenKeys(str(source), ISSUER, AUDIENCE, **options)


def ask(keys: TokenKeys, *asked: bytes) -> list[str | None]:
    """The names of the principals of tokens, one after the other in one event loop."""

    async def go() -> list[str | None]:
        found = [await keys.principal(token) for token in asked]
        return [None if principal is None else principal.name for principal in found]

    return asyncio.run(go())


@pytest.fixture(scope="module")
def corpus_keys(tmp_path_factory: pytest.TempPathFactory) -> TokenKeys:
    path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_bytes(key_set_json())
    return keys_at(path)


# --- the corpus ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_a_token_of_the_corpus_grants_what_it_should(row: dict[str, Any], corpus_keys: TokenKeys) -> None:
    """Refused without an exception, or exactly the scopes and customers the row says."""
    principal = asyncio.run(corpus_keys.principal(token_of(row)))
    match row["expect"]:
        case "refused":
            assert principal is None
        case {"customers": customers}:
            assert principal is not None
            assert principal.customers == tuple(customers)
        case str() as scopes:
            assert principal is not None
            assert principal.scopes == frozenset(scopes.split())
            assert principal.customers is None


def test_the_corpus_covers_every_algorithm_and_says_each_thing_once() -> None:
    """Its names are different, and what is accepted is accepted by more than one kind of key."""
    assert len({row["name"] for row in ROWS}) == len(ROWS) > 100
    assert {row["key"] for row in ROWS if row["expect"] != "refused"} == {"rsa", "ps", "ec", "ec384", "ed"}
    assert set(tokens.ALGORITHMS).isdisjoint({"none", "HS256", "HS384", "HS512"})


# --- key sets -----------------------------------------------------------------------------------------------------


def test_a_key_taken_out_of_the_file_is_refused_within_a_second(tmp_path: Path) -> None:
    """A token that was verified before is not believed any longer either; a new key is known within the second."""
    path, now = tmp_path / "jwks.json", [100.0]
    path.write_bytes(json.dumps({"keys": [public_jwk("rsa")]}).encode())
    keys = keys_at(path, monotonic=lambda: now[0])
    old, new = signed("rsa"), signed("ec")
    assert ask(keys, old, new) == ["bank", None]
    path.write_bytes(json.dumps({"keys": [public_jwk("ec")]}).encode())
    now[0] += 1.0
    assert ask(keys, old, new) == [None, "bank"]


def test_a_key_file_that_breaks_leaves_the_keys_as_they_were(tmp_path: Path) -> None:
    """Broken, then gone, then mended."""
    path, now = tmp_path / "jwks.json", [100.0]
    path.write_bytes(key_set_json())
    keys = keys_at(path, monotonic=lambda: now[0])
    path.write_bytes(b"{")
    now[0] += 1.0
    assert ask(keys, signed("rsa")) == ["bank"]
    path.unlink()
    now[0] += 1.0
    assert ask(keys, signed("rsa")) == ["bank"]
    path.write_bytes(json.dumps({"keys": [public_jwk("ec")]}).encode())
    now[0] += 1.0
    assert ask(keys, signed("rsa"), signed("ec")) == [None, "bank"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}, "no asymmetric public key"),
        ({"keys": [{**public_jwk("rsa"), "use": "enc"}]}, "no asymmetric public key"),
        ({"keys": [{**public_jwk("rsa"), "key_ops": ["encrypt"]}]}, "no asymmetric public key"),
        ({"keys": [{**public_jwk("rsa"), "alg": "RSA-OAEP"}]}, "no asymmetric public key"),
        ({"keys": [{**public_jwk("ec"), "crv": "secp256k1"}]}, "no asymmetric public key"),
        ({"keys": [{**public_jwk("rsa"), "n": SHORT_MODULUS}]}, "too short"),
        ({"keys": [{**public_jwk("rsa"), "d": "AQAB"}]}, "private key"),
        ({"keys": [public_jwk("rsa"), {**public_jwk("stranger"), "kid": "rsa"}]}, "two keys"),
        ({"keys": "rsa"}, "AttributeError"),
        ({}, "KeyError"),
        ([], "TypeError"),
    ],
)
def test_a_wrong_key_set_names_the_setting_and_quotes_nothing(change: Any, why: str, tmp_path: Path) -> None:
    """It stops the start with the reason; no part of a key is in the message."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(change))
    with pytest.raises(SettingInvalid, match=f"DECISION_SERVICE_JWKS.*{why}") as caught:
        keys_at(path)
    assert public_jwk("rsa")["n"][:20] not in str(caught.value)
    assert SECRET.decode() not in str(caught.value)


# --- a key server -------------------------------------------------------------------------------------------------


class KeyServer:
    """An https server on loopback that answers what `answers` says next; the last of them again and again."""

    def __init__(self, certificate: Path) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = [(200, {}, key_set_json())]
        self.asked: list[str] = []
        self.hold = threading.Event()
        self.hold.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.hold.wait(20)
                status, headers, body = outer.answers[0] if len(outer.answers) == 1 else outer.answers.pop(0)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A caller that goes away, or does not trust the certificate, is what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}/keys"
        self.trusted = ssl.create_default_context(cafile=certificate)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificate: Path) -> Iterator[KeyServer]:
    server = KeyServer(certificate)
    yield server
    server.close()


def test_keys_are_fetched_from_a_server_that_proves_who_it_is(server: KeyServer) -> None:
    """Over TLS, from exactly this address; a server nobody vouches for is refused."""
    assert ask(keys_at(server.url, trusted=server.trusted), signed("rsa")) == ["bank"]
    assert server.asked == ["/keys"]
    with pytest.raises(SettingInvalid, match="SSLCertVerificationError"):
        keys_at(server.url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://issuer.example/jwks", "https only"),
        ("http://127.0.0.1.evil.example/jwks", "https only"),
        ("http://169.254.169.254/latest/meta-data", "https only"),
        ("ftp://issuer.example/jwks", "https only"),
        ("file:///etc/passwd", "https only"),
        ("data://text/plain,{}", "https only"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "https only"),
        ("https://user:secret@issuer.example/jwks", "no user and password"),
        ("https://127.0.0.1:port/jwks", "ValueError"),
    ],
)
def test_no_other_kind_of_address_is_asked(url: str, why: str) -> None:
    """Neither in the clear nor by another protocol."""
    with pytest.raises(SettingInvalid, match=why):
        keys_at(url)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((301, {"Location": "https://127.0.0.1:1/elsewhere"}, b""), "answers 301"),
        ((302, {"Location": "http://169.254.169.254/latest/meta-data"}, b""), "answers 302"),
        ((307, {"Location": "file:///etc/passwd"}, b""), "answers 307"),
        ((404, {}, key_set_json()), "answers 404"),
        ((500, {}, key_set_json()), "answers 500"),
        ((200, {}, b"<html>"), "JSONDecodeError"),
        ((200, {}, b'{"keys": []}'), "no asymmetric"),
        ((200, {}, b" " * (tokens.JWKS_BYTES_MAX + 1)), "more than"),
        ((200, {"Content-Length": "999999"}, key_set_json()[:300]), "JSONDecodeError|Timeout|timed out"),
    ],
    ids=["301", "302", "307", "404", "500", "page", "none", "large", "cut"],
)
def test_an_answer_that_is_no_key_set_is_not_taken(
    answer: tuple[int, dict[str, str], bytes], why: str, server: KeyServer
) -> None:
    """A redirect is not followed, an error's body not believed, a flood not read: one request, and no keys."""
    server.answers = [answer]
    with pytest.raises(SettingInvalid, match=why):
        keys_at(server.url, trusted=server.trusted)
    assert server.asked == ["/keys"]


def test_keys_rotate_and_a_failing_server_leaves_the_last_good_ones(
    server: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown kid has the set fetched, at most every 30 s; a withdrawn key goes within 5 minutes."""
    now = [1_000.0]
    server.answers = [(200, {}, json.dumps({"keys": [public_jwk("rsa")]}).encode())]
    keys = keys_at(server.url, trusted=server.trusted, monotonic=lambda: now[0])
    assert ask(keys, signed("rsa"), signed("ec"), signed("ec")) == ["bank", None, None]
    assert len(server.asked) == 1, "one was fetched just before"

    now[0] += tokens.REFETCH_S
    server.answers = [(503, {}, b"")]
    with caplog.at_level(logging.ERROR, "decision_service.access"):
        assert ask(keys, signed("ec"), signed("rsa")) == [None, "bank"]
    assert "the old keys stay" in caplog.text
    assert "answers 503" in caplog.text

    now[0] += tokens.REFETCH_S
    server.answers = [(200, {}, json.dumps({"keys": [public_jwk("rsa"), public_jwk("ec")]}).encode())]
    assert ask(keys, signed("ec"), signed("rsa")) == ["bank", "bank"]

    now[0] += tokens.REFRESH_S
    server.answers = [(200, {}, json.dumps({"keys": [public_jwk("ec")]}).encode())]

    async def withdrawn() -> bool:
        token = signed("rsa")
        for _ in range(200):
            if await keys.principal(token) is None:
                return True
            await asyncio.sleep(0.05)
        return False

    assert asyncio.run(withdrawn())


def test_a_hanging_key_server_holds_up_few_and_not_for_long(server: KeyServer) -> None:
    """While it hangs, good tokens are let in at once, and of a crowd with made-up kids only some wait, each briefly."""
    now = [1_000.0]
    keys = keys_at(server.url, trusted=server.trusted, monotonic=lambda: now[0])
    now[0] += tokens.REFETCH_S
    server.hold.clear()
    crowd = [token_of({"key": "rsa", "header": {"kid": f"k{i}"}}) for i in range(200)]

    async def go() -> None:
        waiting = [asyncio.create_task(keys.principal(token)) for token in crowd]
        await asyncio.sleep(0)
        assert (await keys.principal(signed("rsa"))) is not None
        done, pending = await asyncio.wait(waiting, timeout=0.2)
        assert len(pending) <= tokens.WAITING_MAX
        assert {task.result() for task in done} == {None}
        assert await asyncio.gather(*pending) == [None] * len(pending)
        server.hold.set()
        for _ in range(200):
            if keys._fetching is None:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the fetch never ended")

    asyncio.run(go())
    assert len(server.asked) == 2


def test_a_token_is_remembered_no_longer_than_its_bound(corpus_keys: TokenKeys) -> None:
    """The cache of verified tokens is bounded, and holds nothing that was refused."""
    before = len(corpus_keys._remembered)
    bad = [token_of({"key": "rsa", "header": {"kid": "k9"}, "claims": {"jti": str(i)}}) for i in range(5)]
    assert ask(corpus_keys, *bad) == [None] * 5
    assert len(corpus_keys._remembered) == before <= tokens.REMEMBERED_MAX


def test_private_keys_of_the_corpus_stay_in_this_process() -> None:
    """The tests make their keys anew each time: none is committed."""
    committed = Path(__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in committed.iterdir() if path.suffix in (".py", ".yaml")]
    assert not any("PRIVATE " + "KEY" in text for text in texts)
    assert len(KEYS) == 7
    assert os.environ.get("DECISION_SERVICE_JWKS") is None

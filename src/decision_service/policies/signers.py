"""Policy signers: whose signature under a policy counts, and the keys they sign with (ed25519).

    signers file   alice ed25519 <base64 of the public key>            one a line, `#` starts a comment; setting
                                                                       `policy_signers`
    key file       alice ed25519-private <base64 of the private key>   one line, mode 0600; stays with alice

Both are made by `decision-service rules keygen`. A name stands once in the signers file and so does a key: two names
for one key would let one person be two.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from decision_service.core.errors import SettingInvalid

SETTING: Final = "DECISION_SERVICE_POLICY_SIGNERS"
PUBLIC: Final = "ed25519"
PRIVATE: Final = "ed25519-private"
KEY_BYTES: Final = 32
SIGNERS_BYTES_MAX: Final = 65_536
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
Signers = Mapping[str, Ed25519PublicKey]


class SigningKey(NamedTuple):
    """A private key and whose it is."""

    name: str
    key: Ed25519PrivateKey

    @property
    def public_line(self) -> str:
        """Its line of the signers file."""
        return f"{self.name} {PUBLIC} {base64.b64encode(self.key.public_key().public_bytes_raw()).decode()}"


def read_signers(path: Path, setting: str = SETTING) -> Signers:
    """The signers of a file by name. SettingInvalid for `setting` with its line."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(setting, f"{path} cannot be read: {error}") from None
    if len(text) > SIGNERS_BYTES_MAX:
        raise SettingInvalid(setting, f"{path} is larger than {SIGNERS_BYTES_MAX:,} bytes")
    names: dict[str, int] = {}
    keys: dict[bytes, int] = {}
    signers: dict[str, Ed25519PublicKey] = {}
    for line, name, raw in _entries(path, text, setting):
        first = names.setdefault(name, line)
        same = keys.setdefault(raw, line)
        if first != line:
            raise SettingInvalid(setting, f"{path}:{line}: `{name}` is on line {first} already")
        if same != line:
            raise SettingInvalid(setting, f"{path}:{line}: the key of `{name}` is that of line {same}")
        signers[name] = Ed25519PublicKey.from_public_bytes(raw)
    return signers


def _entries(path: Path, text: str, setting: str) -> Iterator[tuple[int, str, bytes]]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        raw = decoded(words[2]) if len(words) == 3 and words[1] == PUBLIC else b""
        if len(raw) != KEY_BYTES or not NAME.fullmatch(words[0]):
            raise SettingInvalid(setting, f"{path}:{number}: expected `name {PUBLIC} <public key in base64>`")
        yield number, words[0], raw


def decoded(text: str) -> bytes:
    """What base64 stands for; nothing if it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def new_key(name: str) -> SigningKey:
    """A key that nobody else has. ValueError for a name that could not stand in the signers file."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r}: a signer's name has up to 64 letters, digits and . _ @ -, and no spaces")
    return SigningKey(name, Ed25519PrivateKey.generate())


def write_key(key: SigningKey, path: Path) -> None:
    """Write the key file, readable by its owner alone. FileExistsError: a key is never replaced. OSError."""
    line = f"{key.name} {PRIVATE} {base64.b64encode(key.key.private_bytes_raw()).decode()}\n"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_key(path: Path) -> SigningKey:
    """The key of a key file. ValueError if it is none, OSError."""
    words = path.read_text("utf-8", "replace").split()
    raw = decoded(words[2]) if len(words) == 3 and words[1] == PRIVATE else b""
    if len(raw) != KEY_BYTES or not NAME.fullmatch(words[0]):
        raise ValueError(f"{path} is not a key that `decision-service rules keygen` made")
    return SigningKey(words[0], Ed25519PrivateKey.from_private_bytes(raw))

"""Signatures under a policy: that enough people have seen these very files, and that nobody brings back older ones.

    policy.signatures   alice ed25519 <base64 of the signature>    one a line, beside policy.yaml; `#` starts a comment

It is no policy file and not part of what is signed. What is signed is MESSAGE and the SHA-256 of all policy files in
order of their names, each as length of name, name, length of content, content (lengths of 8 bytes, big-endian): a
changed byte, a changed name, a file more or less give another digest, and a signature for anything else is none here.

A signature counts if its signer is known (`policies/signers.py`) and it fits; each signer counts once. Lines that do
not count hurt nobody as long as enough others do, so a signer may leave before the file is tidied up.

`serial` of policy.yaml is signed with the rest. Whoever may publish could otherwise bring back, with its good
signatures, an old policy that was replaced for a reason: so none is taken below the highest serial that the fleet ever
published with signatures asked for (kept in the store, never falling). Going back means to sign the old files again
under a higher serial.

While the store is away the highest serial is unknown; a policy from disk is then in force here alone, and looked at
again before it is published.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature

from decision_service.core.errors import PolicyRejected, SettingInvalid
from decision_service.core.policy import POLICY_FILE, Policy
from decision_service.core.source import Diagnostic, Place, nearest_name
from decision_service.policies.bundle import Content
from decision_service.policies.files import SIGNATURES_FILE
from decision_service.policies.signers import PUBLIC, Signers, SigningKey, decoded, read_signers

MESSAGE: Final = b"decision-service policy 1\n"
SIGNATURE_BYTES: Final = 64
_LENGTH_BYTES: Final = 8


class Signature(NamedTuple):
    """A line of the signatures file; `raw` is empty if it could not be read."""

    signer: str
    raw: bytes
    place: Place


@dataclass(frozen=True, slots=True)
class SignatureState:
    """Who has signed, in order of their lines, and what is wrong with the lines that do not count."""

    signed_by: tuple[str, ...]
    problems: tuple[Diagnostic, ...]


@dataclass(frozen=True, slots=True)
class SignatureRule:
    """Who may sign, and how many must have. `least` 0: nobody is asked, and nothing is looked at."""

    signers: Signers = field(default_factory=dict)
    least: int = 0

    @property
    def asked(self) -> bool:
        """Whether a policy must be signed at all."""
        return self.least > 0

    def state(self, content: Content) -> SignatureState:
        """Which signatures of a content count."""
        message = signed_message(content.files)
        signed: list[str] = []
        problems: list[Diagnostic] = []
        for signature in signatures_in(content.signatures):
            problem = self._problem(signature, message, signed)
            if problem is None:
                signed.append(signature.signer)
            else:
                problems.append(problem)
        return SignatureState(tuple(signed), tuple(problems))

    def _problem(self, signature: Signature, message: bytes, signed: list[str]) -> Diagnostic | None:
        """Why a signature does not count."""
        name, place, length = signature.signer, signature.place, max(1, len(signature.signer))
        key = self.signers.get(name)
        if not signature.raw:
            return Diagnostic(place, "not a signature", f"`name {PUBLIC} <signature in base64>`", length=length)
        if key is None:
            known, nearest = ", ".join(sorted(self.signers)), nearest_name(name, self.signers)
            return Diagnostic(place, f"`{name}` is no signer known here", known, nearest or "", length)
        if name in signed:
            return Diagnostic(place, f"`{name}` has signed already; each signer counts once", length=length)
        try:
            key.verify(signature.raw, message)
        except InvalidSignature:
            message_ = (
                f"the signature of `{name}` is not for these files: something was changed after it, or it was forged"
            )
            return Diagnostic(place, message_, f"`decision-service rules sign DIR` by {name}", length=length)
        return None

    def check(self, content: Content) -> None:
        """Refuse a content that too few have signed. PolicyRejected."""
        if not self.asked:
            return
        state = self.state(content)
        if len(state.signed_by) < self.least:
            raise PolicyRejected([self._too_few(state, content), *state.problems])

    def _too_few(self, state: SignatureState, content: Content) -> Diagnostic:
        place = Place(SIGNATURES_FILE, 1, 1)
        who = ", ".join(state.signed_by)
        told = f"signed by {who} alone" if who else "nobody known here has signed these files"
        message = (
            f"{told}; {_asked(self.least)}" if content.signatures else f"the policy is not signed; {_asked(self.least)}"
        )
        left = [name for name in sorted(self.signers) if name not in state.signed_by]
        return Diagnostic(place, message, f"`decision-service rules sign DIR --key FILE` by {_one_of(left)}")

    def check_serial(self, policy: Policy, highest: int) -> None:
        """Refuse a policy without a serial, or with one below the highest the fleet has had. PolicyRejected."""
        if not self.asked:
            return
        node = policy.documents[POLICY_FILE].root.get("serial") if POLICY_FILE in policy.documents else None
        place = Place(POLICY_FILE, 1, 1) if node is None else node.place
        if policy.serial is None:
            message = "no `serial`, which a signed policy needs"
            raise PolicyRejected([Diagnostic(place, message, f"`serial: {highest + 1}`, and signatures after that")])
        if policy.serial < highest:
            message = f"serial {policy.serial} is below {highest}, the highest that the fleet has had"
            expected = (
                f"a serial of {highest + 1} or above; to go back to older files, "
                "give them that serial and sign them again"
            )
            raise PolicyRejected([Diagnostic(place, message, expected, length=len(str(policy.serial)))])


NOBODY_ASKED: Final = SignatureRule()


def _asked(least: int) -> str:
    return "one signature is asked for" if least == 1 else f"signatures of {least} different signers are asked for"


def _one_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}" if names else "somebody"


def signature_rule(signers: Path | None, least: int) -> SignatureRule:
    """The rule that the settings mean. SettingInvalid."""
    known = {} if signers is None else read_signers(signers)
    if least > len(known):
        count = "no signer is known" if not known else f"only {len(known)} signers are known"
        message = f"{least} signatures are asked for, and {count} (policy_signers)"
        raise SettingInvalid("DECISION_SERVICE_POLICY_SIGNATURES_MIN", message)
    return SignatureRule(known, least)


def signed_message(files: Mapping[str, str]) -> bytes:
    """What is signed of policy files."""
    digest = sha256()
    for name, text in sorted(files.items()):
        for part in (name.encode("utf-8", "surrogatepass"), text.encode("utf-8", "surrogatepass")):
            digest.update(len(part).to_bytes(_LENGTH_BYTES, "big"))
            digest.update(part)
    return MESSAGE + digest.digest()


def signatures_in(text: str) -> Iterator[Signature]:
    """The lines of a signatures file."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        raw = decoded(words[2]) if len(words) == 3 and words[1] == PUBLIC else b""
        place = Place(SIGNATURES_FILE, number, line.index(words[0]) + 1, line if line.isprintable() else "")
        yield Signature(words[0], raw if len(raw) == SIGNATURE_BYTES else b"", place)


def signed(content: Content, key: SigningKey) -> str:
    """The signatures file of a content with the signature of `key`, in the place of an older one of that signer."""
    raw = key.key.sign(signed_message(content.files))
    line = f"{key.name} {PUBLIC} {base64.b64encode(raw).decode()}"
    lines = content.signatures.splitlines()
    others = [old for old in lines if old.partition("#")[0].split()[:1] != [key.name]]
    return "\n".join([*others, line]) + "\n"

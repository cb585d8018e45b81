"""People who sign policies in tests, each with a real key, and hosts whose rules they have signed."""

from __future__ import annotations

from pathlib import Path

from conftest_service import RULES
from fleet_workers import files_of, save

from decision_service.policies.bundle import Content
from decision_service.policies.signatures import SIGNATURES_FILE, SignatureRule, signature_rule, signed
from decision_service.policies.signers import SigningKey, new_key

ALICE, BOB, CAROL, MALLORY = (new_key(name) for name in ("alice", "bob", "carol", "mallory"))
KNOWN = (ALICE, BOB, CAROL)


def two_of_three(folder: Path) -> SignatureRule:
    """Two signatures of alice, bob and carol are asked for."""
    path = folder / "signers"
    path.write_text("# who may sign\n" + "".join(f"{key.public_line}\n" for key in KNOWN))
    return signature_rule(path, 2)


def content_on(host: Path) -> Content:
    """The files and signatures on a host's disk."""
    path = host / "rules" / SIGNATURES_FILE
    return Content(files_of(host), (), signatures=path.read_text() if path.exists() else "")


def sign(host: Path, *keys: SigningKey) -> None:
    """Sign what is on a host's disk."""
    for key in keys:
        (host / "rules" / SIGNATURES_FILE).write_text(signed(content_on(host), key))


def edit(host: Path, label: str, serial: int | None, *keys: SigningKey, rules: str = RULES) -> dict[str, str]:
    """Save a policy and sign it, without a moment in between; the files as somebody would send them."""
    beside = host.parent / f"{host.name}-edited"
    (beside / "models").mkdir(parents=True, exist_ok=True)
    save(beside, label, rules)
    head = beside / "rules" / "policy.yaml"
    head.write_text(head.read_text() + ("" if serial is None else f"serial: {serial}\n"))
    (beside / "rules" / SIGNATURES_FILE).unlink(missing_ok=True)
    sign(beside, *keys)
    files = content_on(beside).sent_files
    (host / "models").mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name == SIGNATURES_FILE):
        target = host / "rules" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(files[name])
    return files

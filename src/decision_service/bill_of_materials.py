"""The bill of materials of an image: what is installed beside the service, as CycloneDX 1.6.

    python -m decision_service.bill_of_materials --lock requirements.lock --out sbom.cdx.json [--installed]

Components are the packages a lock file pins, each with its purl and every SHA-256 the lock accepts for it. With
`--installed` (the image build) they are the packages that are installed in this interpreter, and it is an error if one
of them is not in the lock, or not in the version it pins: nothing reaches an image that was not locked. The text
depends on the lock and the installed packages alone, so two builds of one lock give the same bytes and two bills can be
compared line by line.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

OURS: Final = "decision-service"
FORMAT: Final = "1.6"
_ENTRY: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class NotLocked(Exception):
    """What is installed is not what was locked."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock file in one version, and the SHA-256 of each file that may be installed for it."""

    name: str
    version: str
    hashes: tuple[str, ...]


def pins_of(text: str) -> dict[tuple[str, str], Pin]:
    """The pins of a lock file by name and version. ValueError for an entry without hashes."""
    found = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        entry = _ENTRY.match(block)
        if entry is None:
            continue
        pin = Pin(normalised(entry[1]), entry[2], tuple(sorted(_HASH.findall(block))))
        if not pin.hashes:
            raise ValueError(f"{pin.name}=={pin.version} is locked without hashes")
        found[pin.name, pin.version] = pin
    return found


def normalised(name: str) -> str:
    """A package's name in its one form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_pins(pins: Mapping[tuple[str, str], Pin], installed: Iterable[tuple[str, str]]) -> list[Pin]:
    """The pins of what is installed, ours aside. NotLocked for a package that is not locked in that version."""
    packages = sorted({(normalised(name), version) for name, version in installed} - _ours())
    foreign = [f"{name}=={version}" for name, version in packages if (name, version) not in pins]
    if foreign:
        raise NotLocked("installed but not locked: " + ", ".join(foreign))
    return [pins[package] for package in packages]


def _ours() -> set[tuple[str, str]]:
    return {(OURS, our_version())}


def our_version() -> str:
    """The version of the service, as it is installed."""
    try:
        return metadata.version(OURS)
    except metadata.PackageNotFoundError:
        return "0"


def bill(pins: Sequence[Pin]) -> dict[str, Any]:
    """The document."""
    ordered = sorted(pins, key=lambda pin: (pin.name, pin.version))
    content = "\n".join(f"{pin.name}=={pin.version} {' '.join(pin.hashes)}" for pin in ordered)
    root = f"pkg:pypi/{OURS}@{our_version()}"
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{FORMAT}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": FORMAT,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, root + content)}",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": root, "name": OURS, "version": our_version(), "purl": root}
        },
        "components": [_component(pin) for pin in ordered],
        "dependencies": [{"ref": root, "dependsOn": [_purl(pin) for pin in ordered]}],
    }


def _component(pin: Pin) -> dict[str, Any]:
    return {
        "type": "library", "bom-ref": _purl(pin), "name": pin.name, "version": pin.version, "purl": _purl(pin),
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in pin.hashes],
    }  # fmt: skip


def _purl(pin: Pin) -> str:
    return f"pkg:pypi/{pin.name}@{pin.version}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the bill; 1 if something is installed that is not locked."""
    parser = argparse.ArgumentParser(description="Write the CycloneDX bill of materials of a lock file.")
    parser.add_argument("--lock", type=Path, required=True, help="the lock file")
    parser.add_argument("--out", type=Path, required=True, help="where the bill is written")
    parser.add_argument("--installed", action="store_true", help="only what is installed here, which must be locked")
    args = parser.parse_args(arguments)
    pins = pins_of(args.lock.read_text(encoding="utf-8"))
    chosen = list(pins.values())
    if args.installed:
        try:
            chosen = installed_pins(pins, ((d.name, d.version) for d in metadata.distributions()))
        except NotLocked as error:
            print(f"bill of materials: {error}", file=sys.stderr)
            return 1
    args.out.write_text(json.dumps(bill(chosen), indent=2) + "\n", encoding="utf-8")
    print(f"bill of materials: {len(chosen)} packages in {args.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Known vulnerabilities of what a lock file pins, asked of the OSV database: `make audit`.

Exit status 0 if none is known, 1 if there are some (each is named), and 0 with a message if the database cannot be
reached: a machine without network must still be able to build. Only names and versions leave the machine.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any, Final

from decision_service.bill_of_materials import Pin, pins_of

DATABASE: Final = "https://api.osv.dev/v1/querybatch"
TIMEOUT_S: Final = 20.0
QUERIES_MAX: Final = 1_000


def known(pins: list[Pin], database: str = DATABASE) -> dict[str, list[str]]:
    """Ids of known vulnerabilities by `name==version`. OSError, ValueError if the database does not answer."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(pins), QUERIES_MAX):
        some = pins[start : start + QUERIES_MAX]
        queries = [{"package": {"name": pin.name, "ecosystem": "PyPI"}, "version": pin.version} for pin in some]
        request = urllib.request.Request(
            database, json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            results: list[dict[str, Any]] = json.load(answer)["results"]
        for pin, result in zip(some, results, strict=True):
            if result.get("vulns"):
                found[f"{pin.name}=={pin.version}"] = [vulnerability["id"] for vulnerability in result["vulns"]]
    return found


def main(locks: list[str], database: str = DATABASE) -> int:
    """Ask and tell; the exit status."""
    pins = {key: pin for lock in locks for key, pin in pins_of(Path(lock).read_text(encoding="utf-8")).items()}
    try:
        found = known(sorted(pins.values(), key=lambda pin: pin.name), database)
    except (OSError, ValueError, KeyError) as error:
        print(f"audit: skipped, the database cannot be reached ({type(error).__name__})")
        return 0
    for package, ids in found.items():
        print(f"audit: {package}: {', '.join(ids)}")
    print(f"audit: {len(pins)} packages, {len(found)} with known vulnerabilities")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

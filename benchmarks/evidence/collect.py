"""All evidence, one script after the other; what they found is kept in `results.json`, which the README shows.

    make evidence
    python benchmarks/evidence/collect.py portfolio        # only this one

A script whose data is not there is skipped and its figures stay as they were. Figures follow from data, code and seeds
alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tables import TABLES, text

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
DECIMALS = 6  # kept of a figure: processors differ in the last digits


def main() -> int:
    """Run; 0 if every script ended well."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(TABLES)} (all of them)")
    chosen = parser.parse_args().scripts or list(TABLES)
    if unknown := set(chosen) - set(TABLES):
        parser.error(f"no evidence {', '.join(sorted(unknown))}")
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    failed = []
    for name in chosen:
        print(f"--- {name}", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py"), "--json"], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            failed.append(name)
        if done.stdout:
            results[name] = json.loads(done.stdout, parse_float=lambda digits: round(float(digits), DECIMALS))
            print(text(TABLES[name](results[name])), end="\n\n", flush=True)
    kept = {name: results[name] for name in TABLES if name in results}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print("not as good as wanted, or failed: " + ", ".join(failed) if failed else "all well", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

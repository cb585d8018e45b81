"""All fault benchmarks, one after the other; what they found is kept in `results.json`, which the README shows.

    python benchmarks/faults/run.py                    all, full size: an hour and a half on two cores
    python benchmarks/faults/run.py --quick            all, small: five minutes, and results.json stays as it is
    python benchmarks/faults/run.py kills frozen       only these; the other results stay as they were
    python benchmarks/faults/kills.py --kills 50       one of them, with its own options (--help); --json prints what
                                                       results.json keeps under its name

    kills        1,000 times kill -9 of a worker, the store, or everything at once, under load             25 min
    power_loss   power lost under load, in profile safe and in profile fast (needs a C compiler)           10 min
    frozen       1,000,000 requests with the store frozen at random moments                                20 min
    failover     a cluster loses its primary under load                                                     5 min
    overload     twice as many requests as the service can decide                                           3 min
    slowloris    two hundred slow sockets                                                                   5 min

Run it on a machine that does nothing else: kills, power_loss and failover judge what is true afterwards and only take
longer on a busy one, but frozen, overload and slowloris measure times. Each script starts its own service and store in
a temporary directory (up to 3 GB) on free loopback ports and ends what it started. The exit status is 1 if a figure is
not as good as wanted or a script fails; progress goes to standard error, tables to standard output.

A further benchmark is a script that says what it found through `figures.run`, and its name in SCRIPTS.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from figures import text

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
SCRIPTS = ("kills", "power_loss", "frozen", "failover", "overload", "slowloris")


def main() -> int:
    """Run; 0 if every figure is as good as wanted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SCRIPTS)} (all of them)")
    parser.add_argument("--quick", action="store_true", help="small runs, which are not kept")
    args = parser.parse_args()
    if unknown := set(args.scripts) - set(SCRIPTS):
        parser.error(f"no fault benchmark {', '.join(sorted(unknown))}")
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    missed = []
    for name in args.scripts or [name for name in SCRIPTS if (HERE / f"{name}.py").is_file()]:
        print(f"--- {name}", file=sys.stderr, flush=True)
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", *(["--quick"] if args.quick else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            missed.append(name)
        if not done.stdout:
            continue
        found = json.loads(done.stdout)
        print(text(found), end="\n\n", flush=True)
        if not args.quick:
            results[name] = found
            kept = {name: results[name] for name in SCRIPTS if name in results}
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print("not as good as wanted, or failed: " + ", ".join(missed) if missed else "all well", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

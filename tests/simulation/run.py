"""One history, or many, by hand: `python tests/simulation/run.py --seed 17 --trace`, `... --seed 0 --count 1000`.

    --seed N     the first (or only) seed
    --count N    so many seeds from there on; the first that breaks an invariant ends it
    --trace      print what happened, step by step

Exit status 1 if an invariant was broken.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sim_check import violations
from sim_history import History, run


def main() -> int:
    """Run, print, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--trace", action="store_true")
    asked = parser.parse_args()
    for seed in range(asked.seed, asked.seed + asked.count):
        history = run(seed)
        if asked.trace:
            print_trace(history)
        found = list(violations(history))
        if found:
            print(f"seed {seed}:", *found, sep="\n  ")
            return 1
    print(f"{asked.count} histories, nothing broken; the last one's digest: {history.digest()}")
    return 0


def print_trace(history: History) -> None:
    """What happened, one line each: step, virtual time in ms, what."""
    hosts = ", ".join(f"{host.name} ({len(host.workers)} workers)" for host in history.hosts)
    print(
        f"seed {history.seed}: {hosts}; profile {history.profile}; faults {', '.join(sorted(history.faults)) or 'none'}"
    )
    for step, now, what, *details in history.trace:
        told = " ".join(part.decode() if isinstance(part, bytes) else str(part) for part in details)
        print(f"{step:5} {now * 1e3:10.3f} ms  {what:<14} {told}")


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.revocation``: interleavings of revocations with all else that happens.

A summary goes to the standard output as JSON. The exit code is 1 if anything was delivered that
must not be, or was not that must be; what the seed did is then shown.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter

from tests.revocation.judge import Violation
from tests.revocation.play import Play


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.revocation",
        description="Kick, log out and take channels at any moment, and see that nothing of it is"
        " delivered after the answer.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--interleavings", type=int, default=10_000, help="how many, each a seed")
    parser.add_argument("--seed", type=int, default=0, help="the first of the seeds")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    counts: Counter[str] = Counter()
    failed: list[int] = []
    began = time.monotonic()
    for seed in range(arguments.seed, arguments.seed + arguments.interleavings):
        try:
            counts += Play(seed).run().counts
        except Violation as violation:
            failed.append(seed)
            print(f"seed {seed}:\n{violation}\n", file=sys.stderr)
    report = {
        "interleavings": arguments.interleavings,
        "first_seed": arguments.seed,
        "seeds_with_violations": failed,
        "counts": dict(sorted(counts.items())),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(report, indent=2))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

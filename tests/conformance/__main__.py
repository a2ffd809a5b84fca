"""The Autobahn testsuite against `/debug/echo`, on both paths.

``python -m tests.conformance --wstest PATH`` needs the program of the testsuite, which runs on
Python 2 alone, in an environment of its own::

    python2.7 -m virtualenv wstest && wstest/bin/pip install autobahntestsuite
    python -m tests.conformance --wstest wstest/bin/wstest

It prints how the cases ended, and the exit code is 1 unless all passed. ``--cases`` takes patterns
such as ``6.*``; without it the cases 1 to 10 run, which is all of RFC 6455.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted_push.bench.server import running_server

RFC_6455 = [f"{number}.*" for number in range(1, 11)]
GOOD = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})
_LIMITS = 'max_message_size = "32MiB"\n'
_TIMEOUT = 1800


def run(wstest: Path, cases: Sequence[str], *, fast: bool) -> Mapping[str, Any]:
    """Run cases on one path; give what is known of each that ran, by its name."""
    top = f"debug_echo = true\ncompression = true\nfast_path = {'true' if fast else 'false'}\n"
    with running_server(top=top, limits=_LIMITS) as server, tempfile.TemporaryDirectory() as folder:
        spec = {
            "outdir": folder,
            "servers": [{"agent": "push", "url": f"ws://127.0.0.1:{server.port}/debug/echo"}],
            "cases": list(cases),
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        file = Path(folder, "spec.json")
        file.write_text(json.dumps(spec), encoding="utf-8")
        command = [str(wstest), "-m", "fuzzingclient", "-s", str(file)]
        subprocess.run(command, cwd=folder, check=True, timeout=_TIMEOUT, stdout=subprocess.DEVNULL)
        found = json.loads(Path(folder, "index.json").read_text(encoding="utf-8"))
        ran: Mapping[str, Any] = found["push"]
        return ran


def report(path: str, ran: Mapping[str, Any]) -> bool:
    """Print how cases ended; give whether all passed."""
    ended = Counter(case["behavior"] for case in ran.values())
    closed = Counter(case["behaviorClose"] for case in ran.values())
    print(f"{path}: {len(ran)} cases: {dict(ended)}; closing: {dict(closed)}")
    bad = [name for name, case in ran.items() if {case["behavior"], case["behaviorClose"]} - GOOD]
    for name in bad:
        print(f"{path}: {name}: {ran[name]['behavior']}, closing {ran[name]['behaviorClose']}")
    return bool(ran) and not bad


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite on both paths, and give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance")
    parser.add_argument("--wstest", type=Path, required=True, help="the program of the testsuite")
    parser.add_argument("--cases", nargs="*", default=RFC_6455)
    options = parser.parse_args(argv)
    passed = [
        report("fast" if fast else "plain", run(options.wstest.resolve(), options.cases, fast=fast))
        for fast in (True, False)
    ]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The server, and beside it what tells how long Python's collector stopped it.

``python -m benchmarks.watched ARGUMENTS`` runs ``twisted-push ARGUMENTS``. For every line on its
standard input it prints the longest pause since the last line, in ms of CPU time, and their number,
as JSON; ``collect`` has all collected first. The collector calls what notes them (`gc.callbacks`):
the product knows nothing of it.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections.abc import Mapping

from twisted_push.cli import main


class _Pauses:
    """How long collections took."""

    def __init__(self) -> None:
        self._begun = 0
        self._longest = 0
        self._count = 0
        # twistd puts a log of its own in its place.
        self._out = sys.stdout

    def noted(self, phase: str, _information: Mapping[str, int]) -> None:
        # Not by the clock: what else the machine does meanwhile is no pause of the collector's.
        now = time.thread_time_ns()
        if phase == "start":
            self._begun = now
        else:
            self._longest = max(self._longest, now - self._begun)
            self._count += 1

    def answer(self) -> None:
        """Answer each line of the input; ends with it."""
        for line in sys.stdin:
            if line == "collect\n":
                gc.collect()
            longest, count = self._longest, self._count
            self._longest = self._count = 0
            answer = {"longest_ms": longest / 1e6, "count": count}
            print(json.dumps(answer), file=self._out, flush=True)


if __name__ == "__main__":
    pauses = _Pauses()
    gc.callbacks.append(pauses.noted)
    threading.Thread(target=pauses.answer, daemon=True).start()
    sys.exit(main(sys.argv[1:]))

"""The server, and beside it what tells how long Python's collector stopped it.

``python -m benchmarks.watched ARGUMENTS`` runs ``twisted-push ARGUMENTS``. It answers each line of
its standard input with a line of JSON:

(empty)   the longest pause by the collector since the last question, in ms of CPU time, and how
          often it collected; the collector calls what notes them (`gc.callbacks`)
collect   the same, when everything was looked at, as the server does it once a day

The product knows nothing of it.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from twisted_push.cli import main


class _Watcher:
    """Notes how long collections took, and answers."""

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
            print(json.dumps(self._pauses()), file=self._out, flush=True)

    def _pauses(self) -> dict[str, Any]:
        longest, count = self._longest, self._count
        self._longest = self._count = 0
        return {"longest_ms": longest / 1e6, "count": count}


if __name__ == "__main__":
    watcher = _Watcher()
    gc.callbacks.append(watcher.noted)
    threading.Thread(target=watcher.answer, daemon=True).start()
    sys.exit(main(sys.argv[1:]))

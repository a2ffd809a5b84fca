"""The server, and beside it what tells how its collector stopped it, and what it holds.

``python -m benchmarks.watched ARGUMENTS`` runs ``twisted-push ARGUMENTS``. It answers each line of
its standard input with a line of JSON:

(empty)   the longest pause by the collector since the last question, in ms of CPU time, and how
          often it collected; the collector calls what notes them (`gc.callbacks`)
collect   the same, when all has been collected
held      how many timers the reactor has, and how many objects there are of each class of
          twisted_push and of each kind of connection, when all has been collected

The product knows nothing of it.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from collections import Counter
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
            question = line.strip()
            if question == "collect":
                gc.collect()
            found = _held() if question == "held" else self._pauses()
            print(json.dumps(found), file=self._out, flush=True)

    def _pauses(self) -> dict[str, Any]:
        longest, count = self._longest, self._count
        self._longest = self._count = 0
        return {"longest_ms": longest / 1e6, "count": count}


def _held() -> dict[str, Any]:
    from twisted.internet import reactor as installed
    from twisted.internet import tcp
    from twisted.internet.threads import blockingCallFromThread

    reactor: Any = installed

    def look() -> dict[str, Any]:
        gc.unfreeze()  # What is frozen is in no list.
        gc.collect()
        kinds = Counter(
            f"{kind.__module__}.{kind.__qualname__}"
            for kind in map(type, gc.get_objects())
            if str(kind.__module__).startswith("twisted_push.") or issubclass(kind, tcp.Connection)
        )
        return {"timers": len(reactor.getDelayedCalls()), "objects": kinds}

    found: dict[str, Any] = blockingCallFromThread(reactor, look)
    return found


if __name__ == "__main__":
    watcher = _Watcher()
    gc.callbacks.append(watcher.noted)
    threading.Thread(target=watcher.answer, daemon=True).start()
    sys.exit(main(sys.argv[1:]))

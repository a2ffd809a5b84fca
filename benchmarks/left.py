"""The server, and beside it what tells what is left of its clients.

``python -m benchmarks.left ARGUMENTS`` runs ``twisted-push ARGUMENTS``. For every line on its
standard input it prints, as JSON, how many timers, sockets and objects of each kind of connection
there are.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, TextIO

from twisted_push.cli import main
from twisted_push.collector import give_back

_KINDS = frozenset(
    {
        *("Session", "Subscription", "LeanWebSocket", "PushWebSocket", "DirectTransport"),
        *("GuardedChannel", "GuardedRequest", "StreamConnection", "Connection", "_FirstWords"),
        "Entry",
    }
)


def _count() -> Mapping[str, int]:
    """Count what there is; called in the reactor's thread."""
    from twisted.internet import reactor

    running: Any = reactor
    # What is frozen is not among the objects that the collector knows.
    gc.unfreeze()
    gc.collect()
    give_back()  # As the server does itself after a while.
    kinds = Counter(type(each).__name__ for each in gc.get_objects())
    found = {kind: kinds[kind] for kind in sorted(_KINDS) if kinds[kind]}
    found["objects"] = sum(kinds.values())
    found["blocks"] = sys.getallocatedblocks()
    found["timers"] = len(running.getDelayedCalls())
    found["sockets"] = len(running.getReaders())
    found["writers"] = len(running.getWriters())
    return found


def _answer(out: TextIO) -> None:
    from twisted.internet import reactor
    from twisted.internet.threads import blockingCallFromThread

    for _ in sys.stdin:
        print(json.dumps(blockingCallFromThread(reactor, _count)), file=out, flush=True)


if __name__ == "__main__":
    # twistd puts a log of its own in the place of the standard output.
    threading.Thread(target=_answer, args=(sys.stdout,), daemon=True).start()
    sys.exit(main(sys.argv[1:]))

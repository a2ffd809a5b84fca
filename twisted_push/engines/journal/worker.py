"""One thread that does what blocks, one thing after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_push.errors import OutcomeUnknown

__all__ = ["Worker"]

_log = Logger()

_T = TypeVar("_T")
_Job = tuple[Callable[..., Any], tuple[Any, ...]]


class Worker:
    """A thread of its own. Everything but the jobs runs in the reactor's thread."""

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._waiting: deque[Deferred[Any]] = deque()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._stopping = False
        self.alive = True
        self._thread.start()

    def call(self, function: Callable[..., _T], *args: Any) -> Deferred[_T]:
        """Have the thread call a function. Fails with OutcomeUnknown if the thread ends over it."""
        answer: Deferred[_T] = Deferred()
        self._waiting.append(answer)
        self._jobs.put((function, args))
        return answer

    def stop(self) -> None:
        """End the thread, and wait for that: it must have nothing to do."""
        self._stopping = True
        self._jobs.put(None)
        self._thread.join()
        self.alive = False

    def _run(self) -> None:
        """Work until there is no more; runs in the thread."""
        name = self._thread.name
        try:
            while (job := self._jobs.get()) is not None:
                function, args = job
                try:
                    found: Any = function(*args)
                except Exception:
                    found = Failure()
                except BaseException:
                    self._reactor.callFromThread(_log.failure, "{name} ends", Failure(), name=name)
                    break
                self._reactor.callFromThread(self._answer, found)
                del job, function, args, found
        finally:
            if not self._stopping:
                self._reactor.callFromThread(self._died)

    def _answer(self, found: Any) -> None:
        self._waiting.popleft().callback(found)  # A Failure makes it fail.

    def _died(self) -> None:
        self.alive = False
        while self._waiting:
            self._waiting.popleft().errback(OutcomeUnknown("the journal's thread has ended"))

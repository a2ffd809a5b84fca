"""What the tests of engines share: the engines, and a bench with a clock to try one on.

A factory is given the clock of the test and gives a new engine. A journal works in a thread of its
own: `run` lets it turn until a Deferred fires.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.interface import Method

from tests.fakes import FakeEvents
from twisted_push.engines.journal import Journal
from twisted_push.engines.memory import MemoryEngine
from twisted_push.interfaces import IEngine, IEngineEvents
from twisted_push.model import (
    ContentToken,
    Grant,
    Publication,
    Published,
    PublishOptions,
    Recovered,
    StreamPosition,
)

__all__ = [
    "DAY",
    "ENGINES",
    "START",
    "TURNS",
    "Bench",
    "Factory",
    "Restarting",
    "Turns",
    "clean_up",
    "journal",
    "new_directory",
    "run",
    "settle",
    "start",
]

T = TypeVar("T")
Factory = Callable[[Clock], IEngine]

DAY = 86400.0
START = 1_700_000_000.0
PATIENCE = 30.0
"""Seconds of real time for a journal's thread."""


@implementer(IReactorFromThreads)
class Turns:
    """The part of a reactor that threads talk to; `turn` is one turn of it."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()

    def callFromThread(  # type: ignore[override]  # The interface is written without self.
        self, call: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        self._calls.put((partial(call, **kw), args))

    def turn(self) -> bool:
        """Wait for a call and do it; give whether there was one."""
        try:
            call, args = self._calls.get(timeout=PATIENCE)
        except Empty:
            return False
        call(*args)
        return True


TURNS = Turns()

# Where a file is as fast as memory, if there is such a place: these tests make very many.
_FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_directories: list[str] = []
_journals: list[Journal] = []


def new_directory() -> str:
    """Give a directory that goes with the test."""
    _directories.append(tempfile.mkdtemp(prefix="journal", dir=_FAST))
    return _directories[-1]


def clean_up() -> None:
    _journals.clear()
    while _directories:
        shutil.rmtree(_directories.pop())


def journal(directory: str | None = None, durability: str = "write", max_size: int = 0) -> Journal:
    made = Journal(directory or new_directory(), durability, TURNS, max_size=max_size)
    _journals.append(made)
    return made


def settle() -> None:
    """Let every journal write what it has begun to."""
    while any(each.busy for each in _journals) and TURNS.turn():
        pass


def run(deferred: Deferred[T]) -> T:
    """Give the result of a Deferred, or raise its error."""
    found: list[T] = []
    failed: list[Failure] = []
    deferred.addCallbacks(found.append, failed.append)
    while not (found or failed) and TURNS.turn():
        pass
    for failure in failed:
        failure.raiseException()
    assert found, "the engine did not answer"
    return found[0]


@implementer(IEngine)
class Restarting:
    """A journalled engine that was restarted before each call but those of one life."""

    NO_RESTART = frozenset({"start", "stop", "presence_add", "presence_remove", "presence"})

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._directory = new_directory()
        self._events: IEngineEvents | None = None
        self._subscribed: set[str] = set()
        self._engine = MemoryEngine(clock, journal(self._directory))

    def start(self, events: IEngineEvents) -> Deferred[None]:
        self._events = events
        return self._engine.start(events)

    def subscribe(self, channel: str) -> Deferred[None]:
        self._subscribed.add(channel)
        return self._engine.subscribe(channel)

    def unsubscribe(self, channel: str) -> Deferred[None]:
        self._subscribed.discard(channel)
        return self._engine.unsubscribe(channel)

    def stop(self) -> Deferred[None]:
        self._events = None
        return self._engine.stop()

    def __getattr__(self, name: str) -> Any:
        if not isinstance(IEngine.get(name), Method):
            raise AttributeError(name)

        def call(*given: Any) -> Any:
            if name not in self.NO_RESTART and self._events is not None:
                self._restart(self._events)
            return getattr(self._engine, name)(*given)

        return call

    def _restart(self, events: IEngineEvents) -> None:
        run(self._engine.stop())
        self._engine = MemoryEngine(self._clock, journal(self._directory))
        run(self._engine.start(events))
        for channel in self._subscribed:
            run(self._engine.subscribe(channel))


ENGINES: dict[str, Factory] = {
    "memory": MemoryEngine,
    "journal": lambda clock: MemoryEngine(clock, journal()),
}


@define(eq=False)
class Bench:
    """An engine with its clock and the events that it told."""

    clock: Clock
    engine: IEngine
    events: FakeEvents

    def publish(
        self, channel: str, data: bytes = b"1", size: int = 0, ttl: float = 60.0
    ) -> tuple[StreamPosition | None, int]:
        published = self.put_out(channel, data, size, ttl)
        return published.position, published.recipients

    def put_out(
        self, channel: str, data: bytes = b"1", size: int = 10, ttl: float = 60.0, **more: Any
    ) -> Published:
        """Publish with every option there is."""
        options = PublishOptions(size, ttl, **more)
        return run(self.engine.publish(Publication(channel, data), options))

    def since(
        self, channel: str, position: StreamPosition | None = None, limit: int = 300
    ) -> Recovered:
        return run(self.engine.since(channel, position, limit))

    def history(
        self,
        channel: str,
        since: StreamPosition | None = None,
        limit: int = -1,
        reverse: bool = False,
    ) -> Recovered:
        return run(self.engine.history(channel, since, limit, reverse))

    def remove(self, channel: str) -> None:
        run(self.engine.history_remove(channel))

    def put(self, token: bytes | None, grant: Grant, until: float | None = None) -> bool:
        end = self.clock.seconds() + 3600.0 if until is None else until
        return run(self.engine.grant_put(token, grant, end))

    def get(self, token: bytes) -> Grant | None:
        return run(self.engine.grant_get(token))

    def grant(self, user: str = "u", issued_at: float | None = None) -> Grant:
        return Grant(user, self.clock.seconds() if issued_at is None else issued_at)

    def put_content(
        self,
        token: bytes,
        *,
        channel: str = "a",
        life: float = 3600.0,
        limit: int = 100,
        notify_on_leave: bool = False,
        data: bytes | None = None,
    ) -> None:
        content = ContentToken(channel, self.clock.seconds() + life, notify_on_leave, data)
        run(self.engine.content_put(token, content, limit))

    def claim(
        self, token: bytes, *, channel: str = "a", holder: bytes = b"h", user: str = ""
    ) -> ContentToken | None:
        return run(self.engine.content_claim(token, channel, holder, user))

    def knows(self, channel: str) -> bool:
        return run(self.engine.content_known(channel))

    def later(self, seconds: float) -> None:
        """Let time pass, with whatever the engine does in it."""
        end = self.clock.seconds() + seconds
        settle()
        while calls := [c.getTime() for c in self.clock.getDelayedCalls() if c.getTime() < end]:
            self.clock.advance(max(0.0, min(calls) - self.clock.seconds()))
            settle()
        self.clock.advance(end - self.clock.seconds())
        settle()


def start(factory: Callable[[Clock], object], clock: Clock | None = None) -> Bench:
    if clock is None:
        clock = Clock()
        clock.advance(START)
    bench = Bench(clock, cast("IEngine", factory(clock)), FakeEvents())
    run(bench.engine.start(bench.events))
    return bench

"""The clients of a measurement: one crowd, or several that share the work."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from attrs import frozen

from twisted_push.bench.histogram import Histogram
from twisted_push.bench.process import PATIENCE, BenchError, Child

__all__ = ["HELLO", "PYTHON", "READY", "WINDOW", "Clients", "Crowd", "Heard"]

PYTHON = (sys.executable, "-m", "twisted_push.bench.crowd")
WINDOW = 32
"""Handshakes under way at once; less than the backlog of any listener."""
_OPENING = 300.0
"""Seconds in which all clients are to be connected."""
HELLO = '{"id":1,"connect":{}}'
READY = '"connect":'


@frozen
class Heard:
    """What clients got. ``cpu`` is what the load itself has used for it, in ns."""

    messages: int
    pings: int
    cpu: int
    latency: Histogram


class Crowd(Child):
    """Many clients in one process: see `twisted_push.bench.crowd`."""

    def __init__(
        self,
        url: str,
        *,
        origin: str = "",
        hello: str = HELLO,
        ready: str = READY,
        window: int = WINDOW,
        core: int | None = None,
        command: Sequence[str] = PYTHON,
    ) -> None:
        super().__init__(command, core)
        self.clients = 0
        self.messages = 0
        """How many all its clients are to have got since the beginning."""
        self._used = 0
        for line in (url, origin, str(window), hello, ready):
            self.tell(line)

    def expect(self, messages: int) -> None:
        """Take notice that so many more will come, in all."""
        self.messages += messages
        self.tell(f"expect {self.messages}")

    def heard(self) -> Heard:
        """Give what came since the last time."""
        stats = self.ask("stats")
        latency = Histogram()
        latency.add(stats["latency"])
        used, self._used = stats["cpu"] - self._used, stats["cpu"]
        return Heard(stats["messages"], stats["pings"], used, latency)


class Clients:
    """The clients of all crowds."""

    def __init__(self, crowds: Sequence[Crowd]) -> None:
        self.crowds = crowds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for crowd in self.crowds:
            crowd.stop()

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(crowd.clients for crowd in self.crowds)

    def open(self, count: int) -> float:
        """Connect so many more, and give the seconds that it took the slowest crowd.

        By its own clock: the start of its process is no part of it.
        """
        share, more = divmod(count, len(self.crowds))
        asked = [(crowd, share + (number < more)) for number, crowd in enumerate(self.crowds)]
        asked = [(crowd, own) for crowd, own in asked if own]
        for crowd, own in asked:
            crowd.clients += own
            crowd.tell(f"open {own}")
        slowest: int = max(crowd.hear(_OPENING)["ns"] for crowd, _ in asked)
        return slowest / 1e9

    def close(self) -> None:
        """Drop all connections."""
        for crowd in self.crowds:
            crowd.ask("close")
            crowd.clients = 0

    def expect(self, each: int) -> None:
        """Take notice that every client will get so many messages."""
        for crowd in self.crowds:
            crowd.expect(each * crowd.clients)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait until they have; give when the last came, in ns of the monotonic clock."""
        return max(self._last(crowd, timeout) for crowd in self.crowds)

    def _last(self, crowd: Crowd, timeout: float) -> int:
        try:
            answer = crowd.hear(timeout)
        except BenchError as error:
            raise BenchError(f"delivery to {self.count:,} clients: {error}") from None
        if answer["messages"] > crowd.messages:
            raise BenchError(f"{answer['messages'] - crowd.messages} deliveries too many")
        last: int = answer["last"]
        return last

    def heard(self) -> Heard:
        """Give what came to all since the last time."""
        each = [crowd.heard() for crowd in self.crowds]
        latency = Histogram()
        for one in each:
            latency.merge(one.latency)
        messages, pings, cpu = (
            sum(one.messages for one in each),
            sum(one.pings for one in each),
            sum(one.cpu for one in each),
        )
        return Heard(messages, pings, cpu, latency)

"""The polls of one client: requests that wait until there is something to tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.python.failure import Failure
from twisted.web.server import Request

from twisted_push.protocols.engineio import encode_payload
from twisted_push.web import answer, answer_later

__all__ = ["ANSWER_SIZE", "Polls"]

ANSWER_SIZE = 65536
"""Bytes after which nothing more is put into an answer."""


class Polls:
    """At most one request is parked; what waits for it, or for the next one, goes out by it.

    ``waiting`` are encoded packets and ``size`` their bytes.
    """

    def __init__(self, version: int, clock: IReactorTime) -> None:
        self._version = version
        self._clock = clock
        self._parked: Request | None = None
        self.waiting: list[bytes] = []
        self.size = 0

    @property
    def parked(self) -> bool:
        """Whether a request waits for an answer."""
        return self._parked is not None

    def keep(self, packet: bytes) -> None:
        """Keep a packet for an answer."""
        self.waiting.append(packet)
        self.size += len(packet)

    def take(self) -> list[bytes]:
        """Give what waits, which does so no longer."""
        taken, self.waiting, self.size = self.waiting, [], 0
        return taken

    def park(self, request: Request, lost: Callable[[], None]) -> None:
        """Have a request wait; there is no other.

        ``lost`` is called when its connection is gone while it is parked.
        """
        self._parked = request
        request.notifyFinish().addErrback(self._gone, request, lost)

    def _gone(self, failure: Failure, request: Request, lost: Callable[[], None]) -> None:
        if request is self._parked:
            self._parked = None
            lost()

    def answer(self, *last: bytes) -> None:
        """Answer the parked request with what waits and then ``last``."""
        request, self._parked = self._parked, None
        if request is not None:
            body = encode_payload([*self.take(), *last], self._version)
            text = answer(request, 200, body, "text/plain; charset=UTF-8")
            answer_later(request, text, self._clock)

    def drop(self) -> None:
        """Drop the connection of the parked request."""
        request, self._parked = self._parked, None
        if request is not None:
            cast("ITCPTransport", request.transport).abortConnection()

"""Requests that came whole, and answers that leave whole.

twisted.web reads a request line by line, and writes an answer as if it had no end. That is more
work than all else that there is to do for a publish (`docs/performance.md` has the figures).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from twisted.internet.interfaces import IAddress
from twisted.web.http import RESPONSES, datetimeToString
from twisted.web.server import version

from twisted_push.transports.head import Head

__all__ = ["WholeRequest"]


class WholeRequest:
    """A request with all of its body, and its answer: `twisted_push.web.Asked`.

    ``postpath`` are the parts of its path behind that of the resource. The answer is given to
    ``send`` when it is finished at ``now()`` (unix seconds), with the headers that twisted.web
    would give it.
    """

    too_large = False
    gone = False

    def __init__(
        self,
        head: Head,
        postpath: list[bytes],
        body: bytes,
        send: Callable[[bytes], object],
        now: Callable[[], float],
    ) -> None:
        self.method = head.method
        self.requestHeaders = head
        self.postpath: list[bytes] | None = postpath
        self._body = body
        self._send = send
        self._now = now
        self._status = b"200 OK"
        self._headers: dict[bytes, bytes] = {}
        self._written: list[bytes] = []

    def getClientAddress(self) -> IAddress:
        """Give the address of the peer."""
        return self.requestHeaders.getClientAddress()

    def read(self) -> bytes:
        """Give the body."""
        return self._body

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        """Set the status of the answer."""
        message = RESPONSES.get(code, b"Unknown Status") if message is None else message
        self._status = b"%d %b" % (code, message)

    def setHeader(self, name: bytes, value: bytes) -> None:
        """Set a header of the answer, whose name is written as twisted.web writes it."""
        self._headers[name] = value

    def write(self, data: bytes) -> None:
        """Keep some of the answer's body."""
        self._written.append(data)

    def finish(self) -> None:
        """Send the answer."""
        lines = [b"%b: %b\r\n" % header for header in self._headers.items()]
        first = b"HTTP/1.1 %b\r\nServer: %b\r\nDate: %b\r\n"
        head = first % (self._status, version, _date(int(self._now())))
        self._send(b"".join((head, *lines, b"\r\n", *self._written)))


@lru_cache(maxsize=1)
def _date(now: int) -> bytes:
    """Give the value of the header Date, which is made once a second."""
    date: bytes = datetimeToString(now)
    return date

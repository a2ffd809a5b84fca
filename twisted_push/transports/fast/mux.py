"""One port for WebSocket and HTTP, without a request of twisted.web living on behind each socket.

What a client sends tells what it is. A request for a WebSocket at a known address, there in one
piece, and one for the CMS's API that is ordinary and not long, are served here. Everything else
goes to twisted.web as it came, with all that follows: that has the deadlines, the limits and the
words for it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from twisted_push.deadline import Deadline
from twisted_push.transports.fast.requests import WholeRequest
from twisted_push.transports.fast.websocket import LeanFactory
from twisted_push.transports.head import Head, read_head
from twisted_push.transports.tree import Tree
from twisted_push.web import IDLE_TIMEOUT, REQUEST_DEADLINE, GuardedSite, answer

__all__ = ["MAX_WHOLE", "Mux"]

MAX_WHOLE = 65536
"""Bytes of a body up to which a request is read here: it is there in one read, or in a few."""

_log = Logger()


class Mux(Factory):
    """Serves ``tree`` at a port whose transports are `DirectTransport`s; ``site`` has the rest."""

    noisy = False

    def __init__(
        self, site: GuardedSite, tree: Tree, factory: LeanFactory, clock: IReactorTime
    ) -> None:
        self._site = site
        self._tree = tree
        self._factory = factory
        self.clock = clock

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _Caller(self)

    def doStop(self) -> None:
        """End with the port, which was told to serve ``site``."""
        self._site.doStop()

    def serve(self, caller: _Caller, data: bytes) -> None:
        """Give a caller what it wants by this, or give its connection over to whom it wants."""
        transport = caller.transport
        found = read_head(data, transport.getPeer())
        if found is not None:
            head, length = found
            if head.opens:
                opening = self._tree.find_opening(head)
                if opening is not None:
                    caller.leave()
                    self._factory.open(transport, head, data[length:], opening)
                    return
            elif self._takes(caller, head, length, data):
                return
        caller.leave()
        channel: Any = self._site.buildProtocol(transport.getPeer())
        transport.protocol = channel
        channel.makeConnection(transport)
        channel.dataReceived(data)

    def _takes(self, caller: _Caller, head: Head, length: int, data: bytes) -> bool:
        """Answer a request, or wait for the rest of it; tell whether it is one for this way."""
        leaf = self._tree.find_leaf(head)
        if leaf is None or caller.transport.unsent:
            return False
        size = head.length
        if size is None or size > min(MAX_WHOLE, self._site.max_body()):
            return False
        missing = length + size - len(data)
        if missing > 0:
            caller.wait(data, missing)
        elif missing == 0:
            caller.answer(head, *leaf, data[length:])
        return missing >= 0


class _Caller(Protocol):
    """A connection that has said nothing yet, or nothing but requests that came whole.

    ``_asked`` is the one that is being answered. ``_kept`` is what was read and is not a whole
    request yet: ``_missing`` bytes are. It is in one piece, since many small ones take far more
    memory than what is in them.
    """

    __slots__ = ("_asked", "_deadline", "_kept", "_missing", "_mux", "connected", "transport")

    transport: Any

    def __init__(self, mux: Mux) -> None:
        self._mux = mux
        self._deadline = Deadline(mux.clock, self._give_up)
        self._asked: WholeRequest | None = None
        self._kept = bytearray()
        self._missing = 0

    def connectionMade(self) -> None:
        self._deadline.set(IDLE_TIMEOUT)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.leave()
        if self._asked is not None:
            self._asked.gone = True
            self._asked = None

    def leave(self) -> None:
        """Have no more to do with the connection."""
        self._deadline.forget()
        self._kept.clear()

    def _give_up(self) -> None:
        if self.transport.unsent:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    # --- Reading -----------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        if self._asked is None and not self._kept:
            self._mux.serve(self, data)
            return
        self._kept += data
        self._missing -= len(data)
        if self._asked is not None:
            self.transport.pauseProducing()
        elif self._missing <= 0:
            self._serve_kept()

    def wait(self, data: bytes, missing: int) -> None:
        """Wait for so many more bytes of a request that begins so."""
        self._kept += data
        self._missing = missing
        self._deadline.set(REQUEST_DEADLINE)

    def _serve_kept(self) -> None:
        data = bytes(self._kept)
        self._kept.clear()
        if data:
            self._mux.serve(self, data)

    # --- Answering ---------------------------------------------------------------------------

    def answer(self, head: Head, leaf: Resource, postpath: list[bytes], body: bytes) -> None:
        """Have a resource answer a request."""
        self._deadline.set(None)
        now = self._mux.clock.seconds
        asked = self._asked = WholeRequest(head, postpath, body, self._answered, now)
        try:
            result: bytes | int = leaf.render(asked)
        except Exception:
            _log.failure("a request could not be answered")
            result = answer(asked, 500, b"internal server error")
        if isinstance(result, bytes):
            asked.write(result)
            asked.finish()

    def _answered(self, data: bytes) -> None:
        self._asked = None
        self.transport.send_now(data)
        self._deadline.set(IDLE_TIMEOUT)
        if self._kept:
            # Not in the midst of whatever the answer came from.
            self._mux.clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self.transport.resumeProducing()
        self._serve_kept()

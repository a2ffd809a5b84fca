"""A TCP connection that sends at once what the kernel takes, and is small.

Twisted's own queues what is written, asks epoll to be told when the socket is writable, is told,
sends, and tells epoll to stop: three system calls and a turn of the reactor more than one `send`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IProtocol

from twisted_push.interfaces import Buffer
from twisted_push.wires import rest_of

__all__ = ["DirectTransport"]

_IDLE, _READING, _ANSWERING = range(3)
"""What is done with a connection: nothing, reading, and reading when an answer is there already."""

_NOTHING: Any = ()
"""Stands for the list of what is queued while nothing is: an empty list each takes memory."""


def _no_file() -> int:
    return -1


class DirectTransport(tcp.Server):
    """`twisted.internet.tcp.Server` that answers at once, and with slots for what it keeps.

    What is written while something is read leaves when that was read, all in one piece; `send_now`
    sends whenever it is called.

    ``Port.transport`` may be replaced by such a class, says its docstring. What is private, by
    name in `check.TWISTED`:

    - ``FileDescriptor`` queues in ``_tempDataBuffer`` (a list, whose lengths add up to
      ``_tempDataLen``), and joins it to ``dataBuffer`` when it writes;
    - while ``producerPaused`` is set it tells the producer to resume when all is written;
    - ``connectionLost`` deletes ``socket``, ``protocol`` and ``fileno``;
    - ``__init__`` of the class and its parents set no more than is set here, but for texts for
      logs, which are shared here, and for ``sessionno`` and ``hostname``, which nobody reads.
    """

    __slots__ = (
        "_doing",
        "_tempDataBuffer",
        "_tempDataLen",
        "client",
        "connected",
        "dataBuffer",
        "offset",
        "producer",
        "producerPaused",
        "protocol",
        "reactor",
        "server",
        "socket",
        "streamingProducer",
    )

    _tempDataBuffer: Any
    producer: Any

    logstr = "push"
    repstr = "<a connection of a browser or of the CMS>"

    def __init__(  # noqa: PLR0917  # Its port gives them by place.
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: tuple[Any, ...],
        server: Any,
        sessionno: int,
        reactor: Any,
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.protocol = protocol
        self.client = client
        self.server = server
        self.reactor = reactor
        self._doing = _IDLE
        self._tempDataBuffer = _NOTHING
        self._tempDataLen = 0
        self.dataBuffer = b""
        self.offset = 0
        self.producer = None
        self.streamingProducer = self.producerPaused = False
        self.startReading()
        self.connected = 1

    def send_now(self, data: Buffer) -> None:
        """Send these bytes, behind what is queued; what the kernel does not take is queued.

        Then the producer is told to pause, however little it is. A connection that turns out to
        be broken is lost in a later turn, as with `write`.
        """
        if self._tempDataLen or self.dataBuffer or not self.connected:
            self.write(bytes(data))
            return
        try:
            sent = self.socket.send(data)
        except OSError:  # It is full, or it is broken: `doWrite` will see which.
            sent = 0
        if sent != len(data):
            self._queue(rest_of(data, sent))

    def _queue(self, data: Buffer) -> None:
        """Keep it as it is until the kernel takes more: `write` wants bytes, which are copies."""
        if self._tempDataBuffer is _NOTHING:
            self._tempDataBuffer = []
        self._tempDataBuffer.append(data)
        self._tempDataLen += len(data)
        self.startWriting()
        if self.producer is not None and self.streamingProducer:
            self.producerPaused = True
            self.producer.pauseProducing()

    def doRead(self) -> Any:
        self._doing = _READING
        try:
            result = super().doRead()
        finally:
            answered = self._doing == _ANSWERING
            self._doing = _IDLE
        if not (answered and self.connected):
            return result
        if result is None and not self.disconnecting:
            result = self.doWrite()
        if self.unsent or self.disconnecting:
            self.startWriting()
        return result

    def startWriting(self) -> None:
        if self._doing == _IDLE:
            super().startWriting()
        else:
            self._doing = _ANSWERING

    @property
    def unsent(self) -> int:
        """How many bytes are kept of what was written and has not left yet."""
        return self._tempDataLen + len(self.dataBuffer)

    # --- What Twisted does, with less memory -------------------------------------------------

    @property
    def _addressType(self) -> Any:  # type: ignore[override]  # It follows from the address.
        return IPv4Address if len(self.client) == 2 else IPv6Address

    @property
    def fileno(self) -> Any:
        try:
            return self.socket.fileno
        except AttributeError:
            return _no_file

    @fileno.deleter
    def fileno(self) -> None:
        """Forget nothing: there is none once ``socket`` is deleted."""

    def write(self, data: bytes) -> None:
        if self._tempDataBuffer is _NOTHING:
            self._tempDataBuffer = []
        super().write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        if self._tempDataBuffer is _NOTHING:
            self._tempDataBuffer = []
        super().writeSequence(iovec)

    def doWrite(self) -> Any:
        if self._tempDataBuffer is _NOTHING:
            self._tempDataBuffer = []
        result = super().doWrite()
        if not self._tempDataBuffer:
            self._tempDataBuffer = _NOTHING
        return result

    def abortConnection(self) -> None:
        """Drop the connection; nothing is sent any more, though it is lost in a later turn."""
        super().abortConnection()
        self.connected = 0

"""Small stand-ins that the tests share: each satisfies the interface that it stands in for."""

from __future__ import annotations

from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from attrs import define, field
from zope.interface import implementer

from twisted_push.errors import Disconnect
from twisted_push.interfaces import Buffer, IEngineEvents, ITransport
from twisted_push.model import ClientInfo, ClientRequest, Publication, StreamPosition
from twisted_push.session import Session
from twisted_push.wires import NO_DESCRIPTOR, Wires


class Descriptors:
    """Numbers for sockets in memory, and a `write` to them; each has a ``send`` as sockets have.

    None is given twice: what is written to one that is gone fails.
    """

    def __init__(self) -> None:
        self._sockets: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._numbers = count(100)

    def new(self, socket: Any) -> int:
        """Give a number for a socket, for as long as it lives."""
        number = next(self._numbers)
        self._sockets[number] = socket
        return number

    def write(self, descriptor: int, data: bytes) -> int:
        """Stand in for `os.write`."""
        sent: int = self._sockets[descriptor].send(data)
        return sent


descriptors = Descriptors()
"""Those of all tests of a process, as a kernel has them."""


@implementer(ITransport)
@define(eq=False)
class FakeTransport:
    """Keeps what is sent. After ``room`` frames it tells ``receiver`` to pause.

    As the interface has it, what is sent once closing is ignored; ``ignored`` counts it.
    """

    request: ClientRequest = field(factory=lambda: ClientRequest("fake", "192.0.2.1"))
    room: int | None = None
    receiver: Session | None = None
    sent: list[bytes] = field(init=False, factory=list)
    closed_with: Disconnect | None = field(init=False, default=None)
    aborted: bool = field(init=False, default=False)
    descriptor: int = NO_DESCRIPTOR
    stuck: bool = field(init=False, default=False)
    kept: int = field(init=False, default=0)
    ignored: int = field(init=False, default=0)

    def send(self, frame: Buffer) -> None:
        if self.closed_with is not None or self.aborted:
            self.ignored += 1
            return
        self.sent.append(bytes(frame))
        if self.room is not None:
            self.room -= 1
            if self.room <= 0 and self.receiver is not None:
                self.receiver.pause()

    def unsent(self) -> int:
        return self.kept or self.stuck

    def close(self, disconnect: Disconnect) -> None:
        self.closed_with = disconnect

    def abort(self) -> None:
        self.aborted = True


@define(eq=False)
class FakeOwner:
    """Owns sessions (`twisted_push.session.Owner`) and keeps what it is told, with close codes.

    It finishes none itself.
    """

    max_outbox: int = 1000
    allowing: bool = True
    wires: Wires = field(factory=lambda: Wires(descriptors.write))
    finished: list[tuple[Session, int | None]] = field(init=False, factory=list)
    later: list[tuple[Session, int]] = field(init=False, factory=list)
    looked_at: list[Session] = field(init=False, factory=list)

    def finish(self, session: Session, disconnect: Disconnect | None, why: str = "") -> None:
        self.finished.append((session, disconnect.code if disconnect else None))

    def finish_later(self, session: Session, disconnect: Disconnect, why: str = "") -> None:
        self.later.append((session, disconnect.code))

    def allow(self, session: Session) -> bool:
        return self.allowing

    def look_at(self, session: Session) -> None:
        self.looked_at.append(session)


@define(eq=False)
class FakeDialect:
    """Keeps what clients send (`twisted_push.session.Dialect`)."""

    messages: list[bytes] = field(init=False, factory=list)
    binaries: int = field(init=False, default=0)

    def received(self, session: Session, payload: bytes) -> None:
        self.messages.append(payload)

    def received_binary(self, session: Session) -> None:
        self.binaries += 1


@implementer(IEngineEvents)
@define(eq=False)
class FakeEvents:
    """Keeps what an engine tells, in order; every publication reaches ``recipients`` clients."""

    recipients: int = 1
    told: list[tuple[object, ...]] = field(init=False, factory=list)
    publications: list[Publication] = field(init=False, factory=list)

    def publication_received(self, publication: Publication) -> int:
        self.publications.append(publication)
        return self.recipients

    def reset(self, channel: str, position: StreamPosition) -> None:
        self.told.append(("reset", channel, position))

    def joined(self, channel: str, info: ClientInfo) -> None:
        self.told.append(("joined", channel, info))

    def left(self, channel: str, info: ClientInfo) -> None:
        self.told.append(("left", channel, info))

    def state(self, connected: bool, why: str) -> None:
        self.told.append(("state", connected))

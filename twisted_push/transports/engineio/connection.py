"""One client of Engine.IO: the transport of its session, for the whole life of it.

::

                   ┌─────────── polling ──────────┐
    handshake ──▶ ─┤                              ├─ 2probe, 3probe, 5 ─▶ WebSocket ──▶ end
                   └──────────────────────────────┘
    handshake ──────────────────────────────────────────────────────────▶ WebSocket ──▶ end

While a client polls and no poll is parked the session is paused: what it sends stays in its own
bounded outbox, from which what must not go out any more is still taken. So the order of what is
sent is that of the session, whatever carries it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from attrs import evolve
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.server import Request
from zope.interface import implementer

from twisted_push.errors import Disconnect
from twisted_push.interfaces import Buffer, ITransport
from twisted_push.node.node import Node
from twisted_push.protocols.engineio import Packet, PacketType, open_packet
from twisted_push.session import Session
from twisted_push.transports.door import Door, Entry
from twisted_push.transports.engineio.frames import CLOSE, NOOP, PONG_FRAME
from twisted_push.transports.engineio.polls import ANSWER_SIZE, Polls
from twisted_push.transports.frames import frame_payloads, text_frame
from twisted_push.transports.timers import call_off
from twisted_push.wires import NO_DESCRIPTOR

__all__ = ["POLLING", "WEBSOCKET", "AcceptEngineIo", "Connection", "Connections", "Probing"]

POLLING, WEBSOCKET = "socketio_polling", "socketio_websocket"
"""What carries a session, as `ClientRequest.transport` says it."""

GOODBYE_TIMEOUT = 5.0
"""Seconds for which a client that polls may fetch its last packets, and the end."""

AcceptEngineIo = Callable[[Node, ITransport, int], Session]
"""Makes the session of a new connection and greets, in version 3 or 4 of the protocol."""


class Probing(Protocol):
    """A WebSocket that may replace polling."""

    answered: bool
    """Whether it was probed: polls are ended at once, so that the client can change over."""

    def end(self) -> None:
        """Close it; nothing comes of it."""


class Phase(Enum):
    """Where a connection stands."""

    OPEN = "open"
    CLOSING = "closing"
    """The last packets wait for a poll, or the WebSocket for the end of its closing handshake."""
    ENDED = "ended"


@implementer(ITransport)
class Connection:
    """What is known of one client. With a ``socket`` it never polls.

    It stands in ``connections`` from `open` to the end, by its site's node and its ``sid``, which
    is the session's secret: whoever knows it, polls for that client.
    """

    session: Session
    descriptor = NO_DESCRIPTOR

    def __init__(
        self,
        entry: Entry,
        version: int,
        *,
        connections: Connections,
        door: Door,
        clock: IReactorTime,
        socket: ITransport | None = None,
    ) -> None:
        self.request = entry.request
        self.version = version
        self._entry = entry
        self._connections = connections
        self._door = door
        self._clock = clock
        self._socket = socket
        self._phase = Phase.OPEN
        self._opened = False
        self._counted = False
        self._collecting = False
        self._polls = Polls(version, clock)
        self._probing: Probing | None = None
        self._goodbye: Disconnect | None = None
        self._giving_up: IDelayedCall | None = None

    def open(self, accept: AcceptEngineIo) -> None:
        """Make the session. What that sends comes after the packet that opens it."""
        self.session = accept(self._entry.node, self, self.version)
        self._connections[self._place] = self
        self._polls.waiting.insert(0, self._open_packet())
        self._opened = True
        if self._socket is None:
            self._door.enter(self._entry)  # A WebSocket counts itself.
            self._counted = True
        else:
            self._send_waiting(self._socket)

    @property
    def _place(self) -> tuple[Node, str]:
        return self._entry.node, self.session.secret

    def _open_packet(self) -> bytes:
        limits = self._door.config.limits
        return open_packet(
            self.session.secret,
            upgrades=["websocket"] if self._socket is None else [],
            ping_interval=limits.ping_interval,
            ping_timeout=limits.pong_timeout,
            max_payload=limits.max_message_size,
            version=self.version,
        )

    # --- Outward: `ITransport` ---------------------------------------------------------------

    def send(self, frame: Buffer) -> None:
        if self._phase is not Phase.OPEN:
            return
        if self._socket is not None and self._opened:
            self._socket.send(frame)
            return
        for packet in frame_payloads(bytes(frame)):
            self._polls.keep(packet)
        if not self._opened or self.session.closed:
            return  # More follows: the answer to the handshake, or the last one.
        if self._collecting:
            if self._polls.size >= ANSWER_SIZE:
                self.session.pause()
        elif self._polls.parked:
            self._answer()

    def unsent(self) -> int:
        return self._socket.unsent() if self._socket is not None else 0

    def close(self, disconnect: Disconnect) -> None:
        if self._phase is not Phase.OPEN:
            return
        self._phase = Phase.CLOSING
        self._goodbye = disconnect
        if self._socket is not None:
            if self._opened:
                self._socket.close(disconnect)
            return
        self._giving_up = self._clock.callLater(GOODBYE_TIMEOUT, self.end)
        if self._polls.parked:
            self._answer()

    def abort(self) -> None:
        self.end()
        self._polls.drop()
        if self._socket is not None:
            self._socket.abort()

    # --- Inward: packets ---------------------------------------------------------------------

    def take(self, packet: Packet) -> None:
        """Take one packet of the client; once its session is closed that is nothing.

        Messages are counted by the dialect that reads them, the other packets here.
        """
        if packet.type is PacketType.MESSAGE:
            receive = self.session.received_binary if packet.binary else self.session.received
            receive(packet.data)
        elif packet.type is PacketType.CLOSE:
            self._left()
        elif not self.session.allow_frame():
            return
        elif packet.type is PacketType.PING and self.version == 3:
            self._heartbeat()
        elif packet.type is PacketType.PONG and self.version == 4:
            self.session.alive()
        elif packet.type is not PacketType.NOOP:
            self.refuse("a packet that no client sends")

    def refuse(self, why: str, code: int = 3501) -> None:
        """End the session for what its client did; ``why`` is for the log."""
        self._entry.node.finish(self.session, Disconnect(code), why)

    def _heartbeat(self) -> None:
        """Answer the client's heartbeat; the next one is due an interval from now."""
        self.session.alive()
        self.session.next_ping = self._clock.seconds() + self._door.config.limits.ping_interval
        self.session.deliver(PONG_FRAME)

    def _left(self) -> None:
        """Follow the client, which says that it goes."""
        self.end()
        self._polls.answer(NOOP)
        if self._socket is not None:
            self._socket.close(Disconnect(1000))

    # --- Polling -----------------------------------------------------------------------------

    @property
    def polled(self) -> bool:
        """Whether a poll is parked."""
        return self._polls.parked

    def poll(self, request: Request) -> None:
        """Answer a request with what there is, or park it; none is parked."""
        self._polls.park(request, self.end)
        if self._phase is Phase.OPEN and not self._polls.waiting:
            self._collecting = True
            self.session.resume()
            self._collecting = False
        if self._polls.waiting or self._phase is Phase.CLOSING:
            self._answer()
        else:
            self.release()

    def _answer(self) -> None:
        """Answer the parked poll with what waits, and stop the session until the next.

        At the end that is the last thing that is said, and the next poll is told of the end:
        newer clients would take notice of it first if both came together.
        """
        if self._phase is Phase.OPEN:
            self.session.pause()
            self._polls.answer()
        elif self._polls.waiting:
            self._polls.answer()
        else:
            self.end()
            self._polls.answer(CLOSE)

    # --- The upgrade -------------------------------------------------------------------------

    @property
    def upgradable(self) -> bool:
        """Whether a WebSocket may be tried now: one at a time, in the place of polling."""
        return self._phase is Phase.OPEN and self._socket is None and self._probing is None

    @property
    def upgraded(self) -> bool:
        """Whether a WebSocket carries it: there is no polling any more."""
        return self._socket is not None

    def begin_upgrade(self, probing: Probing) -> None:
        """Have a WebSocket tried."""
        self._probing = probing

    def release(self) -> None:
        """End a parked poll if a WebSocket was probed."""
        if self._polls.parked and self._probing is not None and self._probing.answered:
            self.session.pause()
            self._polls.answer(NOOP)

    def end_upgrade(self, probing: Probing) -> None:
        """Go on with polling: that WebSocket came to nothing, and is gone."""
        if self._probing is probing:
            self._probing = None

    def finish_upgrade(self, socket: ITransport, *, full: bool) -> None:
        """Have a WebSocket carry everything from now on; ``full``: not before it says so.

        No poll is parked: since it was probed each was ended at once.
        """
        self._probing = None
        self._socket = socket
        self.request = evolve(self.request, transport=WEBSOCKET)
        self._leave_door()
        self._stop_timer()
        self._send_waiting(socket)
        if full:
            self.session.pause()
        else:
            self.session.resume()

    def _send_waiting(self, socket: ITransport) -> None:
        """Send what came before a WebSocket carried it, the end included."""
        for packet in self._polls.take():
            socket.send(text_frame(packet))
        if self._goodbye is not None:
            socket.close(self._goodbye)

    # --- The end -----------------------------------------------------------------------------

    def end(self) -> None:
        """Free everything, whatever the cause; the session is over."""
        if self._phase is Phase.ENDED:
            return
        self._phase = Phase.ENDED
        self._stop_timer()
        self._leave_door()
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.end()
        if self._opened:
            del self._connections[self._place]
            self.session.lost()

    def _stop_timer(self) -> None:
        call_off(self._giving_up)
        self._giving_up = None

    def _leave_door(self) -> None:
        if self._counted:
            self._counted = False
            self._door.leave(self._entry)


Connections = dict[tuple[Node, str], Connection]
"""Those that are not over, by the node of their site and their sid."""
